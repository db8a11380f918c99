"""Running text in the script."""

from __future__ import annotations

from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED, is_packed
from engine.export.trainer_script.data.reading import Reading, opening_of, sizes
from engine.export.trainer_script.data.tokenizer import Tokenizer, tokenizer_part
from engine.export.trainer_script.embedding import embedded
from engine.export.trainer_script.parts import Part, literal


def text_part(
    config: RunConfig,
    reading: Reading,
    tokenizer: Tokenizer,
    *,
    column: str | None,
    border: tuple[int, int] | None,
    end_token_id: int | None,
) -> Part:
    """Documents, split and cut into rows as `engine.workloads.kinds.text` does it.

    `column` is that of a table; None: a plain text. `border`: where the documents were split; None where the source
    has two parts of its own.
    """
    from engine.workloads.standalone import byte_level, first_texts, packing

    packed = config.padding == "packed"
    part, made = tokenizer_part(tokenizer, "byte_level", "documents")
    if tokenizer.location is not None:  # long documents are tokenised in pieces either way
        pieces = embedded(first_texts, byte_level)
        part = Part(imports=(*part.imports, *pieces.imports), functions=pieces.functions)
    constants = [*sizes(config), f"SAMPLES, EVAL_SAMPLES = {config.samples!r}, {config.eval_samples}  # None: all"]
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if column is None:
        file = str(Path(config.data or "").expanduser().resolve())
        constants.append(f"FILE = {literal(file)}")
        opener = (
            'gzip.open(FILE, "rt", encoding="utf-8-sig")' if is_packed(file) else 'open(FILE, encoding="utf-8-sig")'
        )
        imports = ["import re", *(["import gzip"] if opener.startswith("gzip") else [])]
        functions = [_PARAGRAPHS.replace("OPENED", opener)]
        main = ["documents = load()"]
    else:
        opening = opening_of(config, reading)
        constants += [f"TEXT = {literal(column)}  # the column", *opening.constants]
        imports, functions = list(opening.imports), list(opening.functions)
        needs, notes = opening.needs, opening.notes
        texts = "[row[TEXT] for row in {} if (row[TEXT] or '').strip()]".replace("'", '"')
        if border is not None:
            main = [
                f"documents = {texts.format('load()')}",
                "documents = [documents[i] for i in np.random.default_rng(SEED).permutation(len(documents))]",
            ]
        elif config.data in (None, GENERATED):
            main = [
                "rows = load()",
                f'documents = {texts.format("rows")[:-1]} and row["part"] == "train"]',
                f'held_out = {texts.format("rows")[:-1]} and row["part"] == "test"]',
            ]
        else:
            main = [f"documents, held_out = ({texts.format('part')} for part in load())"]
    if border is not None:
        whole, cut = border
        main += [
            f"last = documents[{whole}]  # nine tenths of the characters end in this document",
            f"held_out = [text for text in [last[{cut}:], *documents[{whole + 1}:]] if text.strip()]",
            f"documents = [text for text in [*documents[:{whole}], last[:{cut}]] if text.strip()]",
        ]
    end = "" if end_token_id is None else f", {end_token_id}"
    functions.append(_ENCODED.replace(", END", end))
    if packed:
        more = embedded(packing)
        part = Part(
            imports=(*part.imports, *more.imports),
            functions=(*part.functions, *more.functions, _PACKED.replace("PAD", str(tokenizer.pad_token_id))),
        )
    else:
        part = Part(imports=part.imports, functions=(*part.functions, _BLOCKS))
    main += [
        *made,
        "train = rows_of(encoded(documents, tokenizer), SAMPLES)",
        "evaluation = rows_of(encoded(held_out, tokenizer), EVAL_SAMPLES)",
    ]
    return Part(
        imports=(
            *imports,
            *part.imports,
            "import numpy as np",
            "from datasets import Dataset",
            "from transformers import default_data_collator",
        ),
        constants=tuple(constants),
        functions=(*functions, *part.functions),
        main=tuple(main),
        needs=needs,
        notes=notes,
    )


_PARAGRAPHS = r'''
def load():
    """The paragraphs of the text: blank lines part them."""
    with OPENED as file:
        text = file.read().strip()
    return [part for part in re.split(r"\n[ \t\r\f\v]*\n\s*", text) if part.strip()]
'''
_ENCODED = '''
def encoded(documents, tokenizer):
    """The token ids of every document, with the token that ends one."""
    found = []
    for document in documents:
        pieces = tokenizer(pieces_of(document), add_special_tokens=False, verbose=False)["input_ids"]
        ids = [token for piece in pieces for token in piece]
        if ids:
            found.append(np.array([*ids, END], dtype=np.int32))
    return found
'''
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
