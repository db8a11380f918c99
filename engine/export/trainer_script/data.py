"""The script's data: the same rows in the same order, read with `datasets`, and the same tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED, LOADERS, is_file_name, is_packed, suffix_of
from engine.contract.tasks import IGNORED
from engine.export.trainer_script.embedding import embedded
from engine.export.trainer_script.parts import Part, assigned, literal
from engine.workloads.files.plain_files import CsvLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """Whose tokenizer the run used."""

    location: str | None
    """A folder or hub name; None: a vocabulary was trained on the texts."""
    size: int
    """The most entries of a vocabulary that is trained."""
    pad_token_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a table or a text was read."""

    layout: CsvLayout | None = None
    splits: tuple[str, str | None] = ("train", None)
    """Of a data set of the hub: the names of the parts to train on and to score."""
    generated_file: str = ""
    """The name of the file that the generated rows are written to."""


def dummy_part(config: RunConfig, low: int, high: int) -> Part:
    """The lecture's random tokens, as `engine.workloads.kinds.dummy` draws them from [low, high)."""
    from engine.workloads.kinds.dummy import MASKED, N_TAGS

    labels = {
        "classification": {"labels": "generator.integers(0, 1, SAMPLES)"},
        "causal-lm": {"labels": "input_ids"},
        "masked-lm": {
            "labels": f"np.where(generator.random((SAMPLES, SEQ_LEN)) < {MASKED}, input_ids, np.int32({IGNORED}))"
        },
        "seq2seq-lm": {"labels": f"generator.integers({low}, {high}, (SAMPLES, TARGET_LEN), dtype=np.int32)"},
        "token-classification": {"labels": f"generator.integers(0, {N_TAGS}, (SAMPLES, SEQ_LEN), dtype=np.int32)"},
        "question-answering": {
            "start_positions": "generator.integers(0, SEQ_LEN, SAMPLES)",
            "end_positions": "generator.integers(start_positions, SEQ_LEN)",
        },
    }[config.task]
    drawn = "\n".join(f"    {name} = {code}" for name, code in labels.items())
    columns = ", ".join(f'"{name}": {name}' for name in ("input_ids", *labels))
    target = (f"TARGET_LEN = {config.target_tokens}  # tokens",) if config.target_tokens else ()
    return Part(
        imports=(
            "import numpy as np",
            "from datasets import Dataset",
            "from transformers import default_data_collator",
        ),
        constants=(*_sizes(config), *target, f"SAMPLES = {config.n_samples}"),
        functions=(
            f"""
def load():
    \"\"\"Random tokens, to measure what training costs and nothing else.\"\"\"
    generator = np.random.default_rng(SEED)
    input_ids = generator.integers({low}, {high}, (SAMPLES, SEQ_LEN), dtype=np.int32)
{drawn}
    return Dataset.from_dict({{{columns}}})
""",
        ),
        main=("train = load()",),
    )


def _sizes(config: RunConfig) -> tuple[str, ...]:
    return (f"SEED = {config.seed}", f"SEQ_LEN = {config.seq_len}  # tokens")


# labelled texts ---------------------------------------------------------------------------------------------------


def reviews_part(
    config: RunConfig,
    reading: Reading,
    tokenizer: Tokenizer,
    *,
    columns: tuple[str, str],
    spellings: dict[str, int],
    held_out: Sequence[int] | None,
) -> Part:
    """Rows, split and tokenised as `engine.workloads.kinds.reviews` does it.

    `columns`: text and label. `held_out`: rows of every class; None where the source has two parts of its own.
    """
    text, label = columns
    n_train, n_held_out = config.samples, config.eval_samples
    constants = [
        *_sizes(config),
        f"TEXT, LABEL = {literal(text)}, {literal(label)}  # columns",
        *assigned("CLASSES", spellings),
        f"SAMPLES = {n_train!r}  # None: all",
    ]
    opening = _opening(config, reading)
    constants += opening.constants
    functions = [*opening.functions, _LABELLED]
    if held_out is not None:
        constants += assigned("HELD_OUT", list(held_out), "  # rows of every class")
        functions.append(_SPLIT)
        main = [
            "pool, evaluation = split(labelled(load()))",
        ]
    elif config.data in (None, GENERATED):
        main = [
            "rows = labelled(load())",
            'pool = rows.filter(lambda row: row["part"] == "train")',
            'evaluation = rows.filter(lambda row: row["part"] == "test")',
        ]
    else:
        main = [
            "pool, evaluation = (labelled(part.shuffle(seed=SEED)) for part in load())",
            f"evaluation = evaluation.select(range(min({n_held_out}, len(evaluation))))",
        ]
    main.append("train = pool if SAMPLES is None else pool.select(range(min(SAMPLES, len(pool))))")
    part, made = _tokenizer(tokenizer, "wordpiece", "[text for text in pool[:20_000][TEXT] if text]")
    functions.append(_TOKENISED)
    main += [*made, "train, evaluation = tokenised(train, tokenizer), tokenised(evaluation, tokenizer)"]
    return Part(
        imports=(
            *opening.imports,
            *part.imports,
            "from transformers import DataCollatorWithPadding",
            *(["import numpy as np"] if held_out is not None else []),
        ),
        constants=(*constants, *part.constants),
        functions=(*functions, *part.functions),
        main=tuple(main),
        notes=opening.notes,
        needs=opening.needs,
    )


def collator_of(config: RunConfig) -> str:
    """What makes a batch of samples."""
    if config.workload != "reviews":
        return "default_data_collator"
    if config.padding == "max_length":
        return 'DataCollatorWithPadding(tokenizer, padding="max_length", max_length=SEQ_LEN)'
    return "DataCollatorWithPadding(tokenizer)"


_LABELLED = '''
def labelled(rows):
    """The rows that have a text and a class, with the class's number."""
    rows = rows.filter(lambda row: (row[TEXT] or "").strip() and str(row[LABEL]).strip() in CLASSES)
    return rows.map(lambda row: {"labels": CLASSES[str(row[LABEL]).strip()]})
'''
_SPLIT = '''
def split(rows):
    """Rows to train on and rows held out, shuffled, with every class's share in both."""
    classes = np.array(rows["labels"][:])
    generator = np.random.default_rng(SEED)
    members = [generator.permutation(np.flatnonzero(classes == i)) for i in range(len(HELD_OUT))]
    train = np.concatenate([rows_of[n:] for rows_of, n in zip(members, HELD_OUT)])
    held_out = np.concatenate([rows_of[:n] for rows_of, n in zip(members, HELD_OUT)])
    return rows.select(generator.permutation(train)), rows.select(generator.permutation(held_out))
'''
_TOKENISED = '''
def tokenised(rows, tokenizer):
    """Token ids and labels, each text cut at SEQ_LEN tokens."""
    return rows.map(
        lambda batch: dict(tokenizer(batch[TEXT], truncation=True, max_length=SEQ_LEN)),
        batched=True,
        remove_columns=[name for name in rows.column_names if name != "labels"],
    )
'''


def _opening(config: RunConfig, reading: Reading) -> Part:
    """`load()`: the table, or of the hub both of its parts."""
    data = config.data
    if data is None or data == GENERATED:
        return Part(
            imports=("from pathlib import Path", "from datasets import load_dataset"),
            constants=(f"FILE = Path(__file__).with_name({literal(reading.generated_file)})",),
            functions=(_loading('load_dataset("json", data_files=str(FILE), split="train")', "The generated rows."),),
            notes=(f"The generated text is in {reading.generated_file}, which belongs beside this script.",),
        )
    if not is_file_name(data) and not Path(data).expanduser().exists():
        return _hub(data, reading)
    file = str(Path(data).expanduser().resolve())
    constants = (f"FILE = {literal(file)}",)
    loader = LOADERS[suffix_of(file)]
    if loader == "xlsx":
        return Part(
            imports=("from datasets import Dataset", "from python_calamine import CalamineWorkbook, SheetVisibleEnum"),
            constants=constants,
            functions=(_WORKBOOK,),
            needs=("python-calamine",),
        )
    if loader == "csv" and reading.layout is not None:
        layout = reading.layout
        return Part(
            imports=("from datasets import Features, Value, load_dataset",),
            constants=(*constants, *assigned("COLUMNS", list(layout.names))),
            functions=(
                f'''
def load():
    """The table, with every column as text."""
    return load_dataset(
        "csv",
        data_files=FILE,
        split="train",
        sep={literal(layout.separator)},
        quoting={int(layout.quoting)},
        column_names=COLUMNS,
        header=0,
        na_filter=False,
        features=Features({{name: Value("string") for name in COLUMNS}}),
    )
''',
            ),
        )
    return Part(
        imports=("from datasets import load_dataset",),
        constants=constants,
        functions=(_loading(f'load_dataset({literal(loader)}, data_files=FILE, split="train")', "The table."),),
    )


def _loading(expression: str, about: str) -> str:
    return f'\ndef load():\n    """{about}"""\n    return {expression}\n'


def _hub(data: str, reading: Reading) -> Part:
    path, _, config = data.partition(":")
    named = f"{literal(path)}, {literal(config)}" if config else literal(path)
    train, test = reading.splits
    if test is None:
        expression = f"load_dataset({named}, split={literal(train)})"
    else:
        expression = f"load_dataset({named}, split=[{literal(train)}, {literal(test)}])"
    return Part(
        imports=("from datasets import load_dataset",),
        functions=(_loading(expression, "From the Hugging Face hub, or its cache."),),
    )


_WORKBOOK = '''
def load():
    """The first sheet with rows, hidden ones last, with every cell as text."""
    workbook = CalamineWorkbook.from_path(FILE)
    for sheet in sorted(workbook.sheets_metadata, key=lambda sheet: sheet.visible != SheetVisibleEnum.Visible):
        rows = workbook.get_sheet_by_name(sheet.name).to_python()
        rows = [row for row in rows if any(cell not in ("", None) for cell in row)]
        if rows:
            header, *rows = ([cell_text(cell) for cell in row] for row in rows)
            return Dataset.from_list([dict(reversed(list(zip(header, row)))) for row in rows])


def cell_text(cell):
    """A spreadsheet keeps whole numbers as floats."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell)
'''


# the tokenizer ----------------------------------------------------------------------------------------------------


def _tokenizer(tokenizer: Tokenizer, kind: str, texts: str) -> tuple[Part, list[str]]:
    """What the script needs for its tokenizer, and the lines that make it."""
    if tokenizer.location is not None:
        made = [
            f"tokenizer = AutoTokenizer.from_pretrained({literal(tokenizer.location)})",
            'tokenizer.padding_side = "right"',
            "if tokenizer.pad_token is None:",
            f"    tokenizer.pad_token = tokenizer.convert_ids_to_tokens({tokenizer.pad_token_id})",
        ]
        return Part(imports=("from transformers import AutoTokenizer",)), made
    from engine.workloads.standalone import byte_level, first_texts, wordpiece

    if kind == "wordpiece":
        return embedded(first_texts, wordpiece), [f"tokenizer = train_wordpiece({texts}, {tokenizer.size})"]
    return embedded(first_texts, byte_level), [f"tokenizer = train_byte_bpe({texts}, {tokenizer.size})"]


# running text -----------------------------------------------------------------------------------------------------


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
    part, made = _tokenizer(tokenizer, "byte_level", "documents")
    if tokenizer.location is not None:  # long documents are tokenised in pieces either way
        pieces = embedded(first_texts, byte_level)
        part = Part(imports=(*part.imports, *pieces.imports), functions=pieces.functions)
    constants = [*_sizes(config), f"SAMPLES, EVAL_SAMPLES = {config.samples!r}, {config.eval_samples}  # None: all"]
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
        opening = _opening(config, reading)
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


def generated_rows(seed: int, n_train: int, n_test: int) -> str:
    """The generated reviews of a run as JSON lines: `part`, `text` and `label`."""
    from engine.workloads.generated.reviews import make_reviews

    lines = []
    for part, n in (("train", n_train), ("test", n_test)):
        texts, labels = make_reviews(seed, part, n)
        lines += [
            json.dumps({"part": part, "text": text, "label": label}) for text, label in zip(texts, labels, strict=True)
        ]
    return "\n".join(lines) + "\n"
