"""How the script reads a table, and the sizes that every kind of data states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED, LOADERS, is_file_name, suffix_of
from engine.export.trainer_script.parts import Part, assigned, literal
from engine.workloads.files.plain_files import CsvLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a table or a text was read."""

    layout: CsvLayout | None = None
    splits: tuple[str, str | None] = ("train", None)
    """Of a data set of the hub: the names of the parts to train on and to score."""
    generated_file: str = ""
    """The name of the file that the generated rows are written to."""


def sizes(config: RunConfig) -> tuple[str, ...]:
    return (f"SEED = {config.seed}", f"SEQ_LEN = {config.seq_len}  # tokens")


def opening_of(config: RunConfig, reading: Reading) -> Part:
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
