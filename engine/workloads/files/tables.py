"""A file of rows -> a table of columns, or one sentence that says why not and what to do."""

from __future__ import annotations

import csv
import glob
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import datasets

from engine.contract.config import ConfigError
from engine.contract.own_data import LOADERS, suffix_of
from engine.contract.paths import cache_dir
from engine.process import gate
from engine.workloads.files.plain_files import (
    CsvLayout,
    bad_json_line,
    check_json_array,
    check_table_name,
    check_utf8,
    csv_layout,
    go_on,
    open_quote,
    quoted,
    refusal,
    uneven,
)
from engine.workloads.files.unpacked import plain

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A table, and how it was read."""

    table: datasets.Dataset
    loader: str
    """The name of the reader in `datasets`: `csv`, `json` or `parquet`."""
    layout: CsvLayout | None
    """Of CSV alone."""


def open_table(data: str, warn: Warn = lambda sentence: None, ask: Callable[[], None] = go_on) -> datasets.Dataset:
    """The rows of a file, see `opened`."""
    return opened(data, warn, ask).table


def opened(data: str, warn: Warn = lambda sentence: None, ask: Callable[[], None] = go_on) -> Opened:
    """The rows of a CSV, TSV, JSON lines, Parquet or Excel file, memory-mapped from the cache folder.

    Where that folder cannot be written, the rows are kept in memory, and `warn` is told, as of columns of one name.
    Columns of CSV, TSV and Excel files are all strings, so that `None`, `NA` and `01` stay what they are.
    `ask` is called now and then, and may raise to end the work.
    Raises `ConfigError` when there is no such file or it cannot be read as a table with a row.
    """
    given = Path(data).expanduser()
    check_table_name(given, data)
    with plain(given, ask, warn) as path:
        found = _open(path, suffix_of(path.name), warn, ask)
    if not found.table.column_names or not len(found.table):
        raise refusal(given, "has no rows", "give a file with a text and a label column")
    return found


def _open(path: Path, suffix: str, warn: Warn, ask: Callable[[], None]) -> Opened:
    loader = LOADERS[suffix]
    if loader == "parquet":
        return Opened(table=_load(path, loader, {}, warn), loader=loader, layout=None)
    check_utf8(path, ask)
    if loader == "json":
        check_json_array(path)
        return Opened(table=_load(path, loader, {}, warn), loader=loader, layout=None)
    layout = csv_layout(path)
    if suffix == ".tsv":
        # quotes are either those of a spreadsheet or, as in many text corpora, characters like any other
        with suppress(ConfigError):
            table = _load(path, loader, _csv_options(layout), lambda sentence: None)
            # a quote that opens in one row and closes in another swallows the tab between them
            if not any("\t" in value for rows in table.iter(1_000) for column in rows.values() for value in column):
                _tell_names(path, layout, warn)
                return Opened(table=table, loader=loader, layout=layout)
        layout = csv_layout(path, csv.QUOTE_NONE)
    _tell_names(path, layout, warn)
    return Opened(table=_load(path, loader, _csv_options(layout), warn), loader=loader, layout=layout)


def _csv_options(layout: CsvLayout) -> dict[str, object]:
    return {
        "sep": layout.separator,
        "quoting": layout.quoting,
        "column_names": list(layout.names),
        "header": 0,
        "na_filter": False,
        "features": datasets.Features({name: datasets.Value("string") for name in layout.names}),
    }


def _tell_names(path: Path, layout: CsvLayout, warn: Warn) -> None:
    for name, renamed in layout.repeated:
        warn(
            f"The header of {quoted(path.name)} names {quoted(name)} more than once: the first is {quoted(name)}, "
            f"a later one {quoted(renamed)}."
        )


def _load(path: Path, loader: str, options: dict[str, object], warn: Callable[[str], None]) -> datasets.Dataset:
    folder = cache_dir() / "datasets"
    try:
        return _load_through(folder, path, loader, options)
    except Exception as error:  # pandas, pyarrow and datasets raise a dozen unrelated kinds
        failure = error
    if _is_about_the_cache(failure):
        with suppress(Exception), tempfile.TemporaryDirectory() as elsewhere:
            table = _load_through(Path(elsewhere), path, loader, {**options, "keep_in_memory": True})
            warn(
                f"The cache in {quoted(cache_dir(), 200)} cannot be written ({_strerror(failure)}): "
                "the rows are kept in memory; free space, or set TRAINTOP_HOME."
            )
            return table
    raise _explain(path, loader, failure) from None


def _load_through(folder: Path, path: Path, loader: str, options: dict[str, object]) -> datasets.Dataset:
    with gate.quiet_datasets():
        return datasets.load_dataset(
            loader,
            data_files={"train": glob.escape(str(path.absolute()))},
            split="train",
            cache_dir=str(folder),
            **options,
        )


def _is_about_the_cache(error: Exception) -> bool:
    cause = error.__cause__ or error
    return isinstance(cause, OSError) and not isinstance(cause, UnicodeError) and cause.errno is not None


def _strerror(error: Exception) -> str:
    return str(getattr(error.__cause__ or error, "strerror", None) or error)


def _explain(path: Path, loader: str, error: Exception) -> ConfigError:
    cause = error.__cause__ or error
    message = str(cause)
    if "corresponds to no data" in message:
        return refusal(path, "has no rows", "give a file with a text and a label column")
    if _is_about_the_cache(error):
        folder = quoted(cache_dir(), 200)
        return refusal(
            path,
            f"could not be read through the cache in {folder} ({_strerror(error)})",
            "free space, or set TRAINTOP_HOME",
        )
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message):
        expected, row, saw = map(int, found.groups())
        return uneven(path, row, expected, saw)
    if found := re.search(r"EOF inside string starting at row (\d+)", message):
        row = int(found[1]) + 1  # pandas counts the header as row 0
        return open_quote(path, row)
    if loader == "json" and (where := bad_json_line(path)):
        return where
    what = {"csv": "table", "json": "JSON lines", "parquet": "Parquet"}[loader]
    return refusal(path, f"cannot be read as {what} ({quoted(message, 120)[1:-1]})", "check or export the file again")
