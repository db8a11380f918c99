"""A masked language model's texts in the script."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.export.trainer_script.data.tokenizer import Tokenizer, tokenizer_part
from engine.export.trainer_script.embedding import embedded
from engine.export.trainer_script.parts import Part


def masked_part(config: RunConfig, documents: Part, tokenizer: Tokenizer, *, n_words: int) -> Part:
    """Samples and hidden words as `engine.workloads.kinds.masked` makes them; `n_words` to draw from."""
    from engine.workloads.standalone import masked_rows, masking

    part, made = tokenizer_part(tokenizer, "wordpiece", "documents[:20_000]")
    more = embedded(masked_rows, masking)
    packed = config.padding == "packed"
    collator = "default_data_collator" if packed else "DataCollatorForTokenClassification"
    return Part(
        imports=(
            *documents.imports,
            *part.imports,
            *more.imports,
            "import torch",
            f"from transformers import {collator}",
        ),
        constants=documents.constants,
        functions=(*documents.functions, *part.functions, *more.functions, _MASKED),
        main=(
            *documents.main,
            *made,
            "before, after = special_tokens_around(tokenizer)",
            "train, evaluation = (",
            f"    masked_rows(encoded(texts, tokenizer), before, after, SEQ_LEN, packed={packed})[:wanted]",
            "    for texts, wanted in ((documents, SAMPLES), (held_out, EVAL_SAMPLES))",
            ")",
            "masking = Masking(",
            "    seed=SEED,",
            "    mask_id=tokenizer.mask_token_id,",
            f"    n_words={n_words},",
            "    special=tuple(sorted(tokenizer.all_special_ids)),",
            ")",
            "train, evaluation = Masked(train, masking), Masked(evaluation, masking)",
        ),
        needs=documents.needs,
        notes=documents.notes,
    )


_MASKED = '''
class Masked(torch.utils.data.Dataset):
    """Rows of tokens, of which others are hidden in each epoch: sample i of epoch e is at place e × n + i."""

    def __init__(self, rows, masking):
        self.rows, self.masking = rows, masking

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        epoch, i = divmod(place, len(self.rows))
        ids, labels = self.masking.hide(self.rows[i].astype(np.int64), epoch, i)
        return {"input_ids": ids.tolist(), "labels": labels.tolist()}
'''
