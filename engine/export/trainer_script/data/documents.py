"""Running text in the script: the documents to train on and those held out, each as its tokens."""

from __future__ import annotations

from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED, is_packed
from engine.export.trainer_script.data.reading import Reading, opening_of, sizes
from engine.export.trainer_script.embedding import embedded
from engine.export.trainer_script.parts import Part, literal


def documents_part(
    config: RunConfig,
    reading: Reading,
    *,
    column: str | None,
    border: tuple[int, int] | None,
    end_token_id: int | None,
) -> Part:
    """What makes `documents` and `held_out`, lists of texts, and `encoded`, which makes tokens of them.

    `column` is that of a table; None: a plain text. `border`: where the documents were split; None where the source
    has two parts of its own. `end_token_id` follows each document.
    """
    from engine.workloads.standalone import byte_level, first_texts

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
    pieces = embedded(first_texts, byte_level)  # long documents are tokenised in pieces
    return Part(
        imports=(*imports, *pieces.imports, "import numpy as np"),
        constants=tuple(constants),
        functions=(*functions, *pieces.functions, _ENCODED.replace(", END", end)),
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
