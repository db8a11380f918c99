"""Pairs of a source and a target in the script."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.export.trainer_script.data.tokenizer import Tokenizer, tokenizer_part
from engine.export.trainer_script.parts import Part, literal


def pairs_part(config: RunConfig, rows: Part, tokenizer: Tokenizer, columns: tuple[str, str]) -> Part:
    """Pairs tokenised as `engine.workloads.kinds.pairs` does it. `rows` makes `pool` and `held_out`."""
    source, target = columns
    texts = "[text for row in pool for text in (row[SOURCE], row[TARGET])]"
    part, made = tokenizer_part(tokenizer, "ending", texts)
    padded = config.padding == "max_length"
    collator = "default_data_collator" if padded else "DataCollatorForSeq2Seq"
    return Part(
        imports=(*rows.imports, *part.imports, f"from transformers import {collator}"),
        constants=(
            *rows.constants,
            f"TARGET_LEN = {config.target_tokens}  # tokens",
            f"SOURCE, TARGET = {literal(source)}, {literal(target)}  # columns",
        ),
        functions=(*rows.functions, *part.functions, _COMPLETE, _PADDED if padded else _TOKENISED),
        main=(
            *rows.main,
            "pool, held_out = complete(pool), complete(held_out)",
            *made,
            "train, evaluation = (",
            "    tokenised(part if n is None else part.select(range(min(n, len(part)))), tokenizer)",
            "    for part, n in ((pool, SAMPLES), (held_out, EVAL_SAMPLES))",
            ")",
        ),
        notes=rows.notes,
        needs=rows.needs,
    )


_COMPLETE = '''
def complete(rows):
    """The rows that have a source and a target."""
    return rows.filter(lambda row: (row[SOURCE] or "").strip() and (row[TARGET] or "").strip())
'''
_TOKENISED = '''
def tokenised(rows, tokenizer):
    """Token ids of the source and labels of the target, each cut at its length."""

    def of(batch):
        ids = tokenizer(batch[SOURCE], truncation=True, max_length=SEQ_LEN)["input_ids"]
        labels = tokenizer(text_target=batch[TARGET], truncation=True, max_length=TARGET_LEN)["input_ids"]
        return {"input_ids": ids, "labels": labels}

    return rows.map(of, batched=True, remove_columns=rows.column_names)
'''
_PADDED = '''
def tokenised(rows, tokenizer):
    """Token ids of the source and labels of the target, each cut at its length or padded to it."""

    def of(batch):
        sources = tokenizer(batch[SOURCE], truncation=True, max_length=SEQ_LEN, padding="max_length")
        targets = tokenizer(text_target=batch[TARGET], truncation=True, max_length=TARGET_LEN)["input_ids"]
        labels = [ids + [-100] * (TARGET_LEN - len(ids)) for ids in targets]
        return {"input_ids": sources["input_ids"], "attention_mask": sources["attention_mask"], "labels": labels}

    return rows.map(of, batched=True, remove_columns=rows.column_names)
'''
