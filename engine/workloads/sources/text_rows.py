"""The rows of a file one after the other, and the text of each: a file of any size takes no more memory than a row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract.config import ConfigError
from engine.contract.own_data import LOADERS, TEXT_SUFFIXES, suffix_of
from engine.workloads.files.plain_files import (
    CsvLayout,
    check_file,
    check_parquet,
    check_table_name,
    csv_layout,
    open_quote,
    quoted,
    refusal,
    uneven,
)
from engine.workloads.files.unpacked import plain
from engine.workloads.sources.columns import TEXT_NAMES

_LONGEST_FIELD = 2**27
"""Characters, as for a line of data to train on."""
_ROWS = 256
"""Of a Parquet file that are read at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file, and its text; None where it has none."""

    values: dict[str, Any]
    text: str | None


@contextmanager
def open_rows(
    data: str, column: str | None, usual: str | None = None, names: Sequence[str] = TEXT_NAMES
) -> Iterator[tuple[Iterator[Row], list[str]]]:
    """The rows of the file `data`, and the names of its columns (none of plain text, and of JSON lines).

    `column` holds the text; None takes `usual` where there is one of that name, else the first of `names`. Raises
    `ConfigError` where the file cannot be read, here or at the row that is at fault.
    """
    path = Path(data).expanduser()
    suffix = suffix_of(path.name)
    check_file(path, data)
    if suffix not in TEXT_SUFFIXES:
        check_table_name(path, data)
    with plain(path) as file:
        loader = "text" if suffix in TEXT_SUFFIXES else LOADERS[suffix]
        if loader in ("csv", "xlsx"):
            layout = csv_layout(file)
            name = _column(layout.names, column, usual, names, path)
            yield (Row(values, _text(values.get(name))) for values in _table(file, layout)), list(layout.names)
        elif loader == "parquet":
            check_parquet(file)
            yield _parquet(file, column, usual, names), _parquet_names(file)
        elif loader == "json":
            yield _objects(file, column, usual, names, path), []
        else:
            yield (Row({"text": line}, _text(line)) for line in _lines(file)), []


def _lines(file: Path) -> Iterator[str]:
    with _told(file), file.open(encoding="utf-8-sig") as opened:
        while line := opened.readline(_LONGEST_FIELD):
            if len(line) == _LONGEST_FIELD:
                raise refusal(file, f"has a line of more than {_LONGEST_FIELD:,} characters", "break it into lines")
            yield line.rstrip("\r\n")


def _table(file: Path, layout: CsvLayout) -> Iterator[dict[str, Any]]:
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with _told(file), file.open(encoding="utf-8-sig", newline="") as opened:
            records = csv.reader(opened, delimiter=layout.separator, quoting=layout.quoting, strict=True)
            for number, record in enumerate(records, 1):
                if not record or number == 1:
                    continue
                if len(record) > len(layout.names):
                    raise uneven(file, number, len(layout.names), len(record))
                yield dict(zip(layout.names, [*record, *[""] * (len(layout.names) - len(record))], strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise open_quote(file, number + 1) from None
        raise refusal(file, f"cannot be read as a table after row {number:,} ({error})", "check that row") from None
    finally:
        csv.field_size_limit(limit)


def _objects(file: Path, column: str | None, usual: str | None, names: Sequence[str], path: Path) -> Iterator[Row]:
    name: str | None = None
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith("["):
            raise refusal(path, "is one array, which has to be held as a whole", "write one object a line")
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise refusal(path, f"is not one JSON object in line {number:,}, {quoted(line)}", "write one object a line")
        if name is None:
            name = _column(list(values), column, usual, names, path)
        yield Row(values, _text(values.get(name)))


def _parquet_names(file: Path) -> list[str]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        return [str(name) for name in opened.schema_arrow.names]


def _parquet(file: Path, column: str | None, usual: str | None, names: Sequence[str]) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(file) as opened:
            name = _column([str(each) for each in opened.schema_arrow.names], column, usual, names, file)
            for batch in opened.iter_batches(_ROWS):
                yield from (Row(values, _text(values.get(name))) for values in batch.to_pylist())
    except ArrowException as error:
        what = f"cannot be read as Parquet ({str(error).splitlines()[0][:200]})"
        raise refusal(file, what, "check or export the file again") from None


def _column(there: Sequence[str], wanted: str | None, usual: str | None, names: Sequence[str], path: Path) -> str:
    listed = ", ".join(quoted(name, 30) for name in there[:8]) or "none"
    if wanted is not None:
        if wanted in there:
            return wanted
        raise ConfigError("text_column", f"{quoted(path.name)} has no column {quoted(wanted)}: it has {listed}.")
    if usual is not None and usual in there:
        return usual
    by_name = {name.strip().lower(): name for name in reversed(there)}
    found = [by_name[name] for name in names if name in by_name]
    if found or len(there) == 1:
        return found[0] if found else there[0]
    raise ConfigError(
        "text_column", f"Which column of {quoted(path.name)} holds the text? Use --text-column with one of {listed}."
    )


def _text(value: object) -> str | None:
    """A cell as text; None where there is none in it."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise refusal(file, "is not UTF-8", "save it as UTF-8") from None
    except OSError as error:
        raise refusal(file, f"cannot be read ({error.strerror})", "check the file") from None
