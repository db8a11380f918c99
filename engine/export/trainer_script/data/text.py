"""Running text in the script, cut into blocks or packed."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.export.trainer_script.data.tokenizer import Tokenizer, tokenizer_part
from engine.export.trainer_script.embedding import embedded
from engine.export.trainer_script.parts import Part


def text_part(config: RunConfig, documents: Part, tokenizer: Tokenizer) -> Part:
    """Documents cut into rows as `engine.workloads.kinds.text` does it."""
    from engine.workloads.standalone import packing

    part, made = tokenizer_part(tokenizer, "byte_level", "documents")
    rows = Part(functions=(_BLOCKS,))
    if config.padding == "packed":
        more = embedded(packing)
        packed = _PACKED.replace("PAD", str(tokenizer.pad_token_id))
        rows = Part(imports=more.imports, functions=(*more.functions, packed))
    return Part(
        imports=(
            *documents.imports,
            *part.imports,
            *rows.imports,
            "from datasets import Dataset",
            "from transformers import default_data_collator",
        ),
        constants=documents.constants,
        functions=(*documents.functions, *part.functions, *rows.functions),
        main=(
            *documents.main,
            *made,
            "train = rows_of(encoded(documents, tokenizer), SAMPLES)",
            "evaluation = rows_of(encoded(held_out, tokenizer), EVAL_SAMPLES)",
        ),
        needs=documents.needs,
        notes=documents.notes,
    )


_BLOCKS = '''
def rows_of(documents, wanted):
    """The documents run together and cut into full blocks; one short block where there is not a full one."""
    flat = np.concatenate(documents)
    n = len(flat) // SEQ_LEN if wanted is None else min(wanted, len(flat) // SEQ_LEN)
    rows = flat[: n * SEQ_LEN].reshape(n, SEQ_LEN) if n else flat[None]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})
'''
_PACKED = '''
def rows_of(documents, wanted):
    """Whole documents packed into rows; those longer than a row are cut into pieces of it."""
    room, taken = np.inf if wanted is None else wanted * SEQ_LEN, []
    for document in documents:
        if room <= 0:
            break
        taken.append(document[: int(min(room, len(document)))])
        room -= len(document)
    pieces = [document[i : i + SEQ_LEN] for document in taken for i in range(0, len(document), SEQ_LEN)]
    pieces = [piece for piece in pieces if len(piece) > 1]
    return Dataset.from_dict(pack(pieces, assign([len(piece) for piece in pieces], SEQ_LEN)[:wanted], SEQ_LEN, PAD))
'''
