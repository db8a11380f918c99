"""A file of rows -> a table of columns, or one sentence that says why not and what to do."""

from __future__ import annotations

import codecs
import csv
import glob
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TextIO

import datasets

from engine.contract.config import ConfigError
from engine.contract.paths import cache_dir
from engine.process import gate

_LOADERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
TEXT_SUFFIXES = frozenset({".txt", ".text"})
KNOWN_SUFFIXES = TEXT_SUFFIXES | frozenset(_LOADERS)
"""What ends like this is a file, not the name of a data set."""
_FORMATS = "CSV (.csv), TSV (.tsv), JSON lines (.jsonl, .json) or Parquet (.parquet)"
_CHUNK = 2**20  # bytes
_LONGEST_LINE = 2**27  # characters
Quoting = Literal[0, 3]  # csv.QUOTE_MINIMAL, csv.QUOTE_NONE


def quoted(value: object, limit: int = 60) -> str:
    """Text from a file, fit for a sentence: one line, printable, at most `limit` characters, in quotes."""
    # cut first: a field may be megabytes long
    text = str(value)
    return f"'{printable(text[:limit])}{'…' if len(text) > limit else ''}'"


def printable(text: str) -> str:
    """`text` with a dot for every control, format or escape character."""
    return "".join(c if c.isprintable() else "·" for c in text)


def go_on() -> None:
    """The answer to `ask` of those whom nobody stops."""


def open_table(
    data: str, warn: Callable[[str], None] = lambda sentence: None, ask: Callable[[], None] = go_on
) -> datasets.Dataset:
    """The rows of a CSV, TSV, JSON lines or Parquet file, memory-mapped from the cache folder.

    Where that folder cannot be written, the rows are kept in memory, and `warn` is told.
    Columns of CSV and TSV files are all strings, so that `None`, `NA` and `01` stay what they are.
    `ask` is called now and then, and may raise to end the work.
    Raises `ConfigError` when there is no such file or it cannot be read as a table with a row.
    """
    path = Path(data).expanduser()
    check_file(path, data)
    suffix = path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        raise _refusal(
            path,
            "is plain text without labels",
            f"train a language model on it with --workload text --task causal-lm, or give {_FORMATS}",
        )
    if suffix not in _LOADERS:
        raise _refusal(path, f"has the unknown extension {quoted(path.suffix)}", f"save it as {_FORMATS}")
    if suffix != ".parquet":
        check_utf8(path, ask)
    if suffix == ".csv":
        table = _load(path, "csv", _csv_options(path, _separator(path)), warn)
    else:
        table = _open_tsv(path, warn) if suffix == ".tsv" else _load(path, _LOADERS[suffix], {}, warn)
    if not table.column_names or not len(table):
        raise _refusal(path, "has no rows", "give a file with a text and a label column")
    return table


def _refusal(path: Path, what: str, fix: str) -> ConfigError:
    return ConfigError("data", f"{quoted(path.name)} {what}: {fix}.")


def check_file(path: Path, data: str) -> None:
    """Raises `ConfigError` unless `path`, which the user called `data`, is a file with content that may be read."""
    if path.is_dir():
        raise ConfigError("data", f"--data {quoted(data)} is a folder: name one file in it, in {_FORMATS}.")
    if not path.exists():
        raise ConfigError("data", f"--data {quoted(data)} does not exist in {quoted(Path.cwd(), 200)}: check the path.")
    if not path.is_file():
        raise _refusal(path, "is not a regular file", "save its content to a file first")
    if not os.access(path, os.R_OK):
        raise _refusal(path, "may not be read by you", "ask its owner, or chmod u+r")
    if path.stat().st_size == 0:
        raise _refusal(path, "is empty", "give a file with a text and a label column")
    if "::" in str(path.absolute()) or "://" in str(path.absolute()):
        raise _refusal(path, "has '::' or '://' in its path, which the reader takes for an address", "rename it")


def check_utf8(path: Path, ask: Callable[[], None] = go_on) -> None:
    """Raises `ConfigError` with the place of the first byte that is not UTF-8. `ask` may raise to end the work."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    read, line = 0, 1
    with path.open("rb") as file:
        while True:
            ask()
            chunk = file.read(_CHUNK)
            if read == 0 and chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise _refusal(path, "is UTF-16, not UTF-8", "convert it with iconv -f utf-16 -t utf-8")
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                position = read - pending + error.start
                line += error.object[pending : error.start].count(b"\n")
                byte = error.object[error.start]
                raise _refusal(
                    path,
                    f"is not UTF-8: byte {position:,} (line {line:,}) is 0x{byte:02x}",
                    "convert it with iconv -f latin1 -t utf-8",
                ) from None
            if not chunk:
                return
            read += len(chunk)
            line += chunk.count(b"\n")


def _separator(path: Path) -> str:
    """A comma, unless the header has none and semicolons or tabs, as spreadsheets of some countries write."""
    header = ",".join(_first_records(path, ",", csv.QUOTE_MINIMAL)[0])
    return next((separator for separator in ";\t" if separator in header and "," not in header), ",")


def _open_tsv(path: Path, warn: Callable[[str], None]) -> datasets.Dataset:
    """Quotes are either those of a spreadsheet or, as in many text corpora, characters like any other."""
    with suppress(ConfigError):
        table = _load(path, "csv", _csv_options(path, "\t"), warn)
        # a quote that opens in one row and closes in another swallows the tab between them
        if not any("\t" in value for rows in table.iter(1_000) for column in rows.values() for value in column):
            return table
    return _load(path, "csv", _csv_options(path, "\t", csv.QUOTE_NONE), warn)


def _csv_options(path: Path, separator: str, quoting: Quoting = csv.QUOTE_MINIMAL) -> dict[str, object]:
    header, first = _first_records(path, separator, quoting)
    if first is None:
        raise _refusal(path, "has a header and no rows" if header else "is blank", "give a file with rows of text")
    if len(first) > len(header):
        # pandas would take the extra field for an index and shift every column
        raise _uneven(path, 2, len(header), len(first))
    names: list[str] = []
    for i, name in enumerate(header):
        unique = name.strip() or f"column {i + 1}"
        while unique in names:
            unique += "'"
        names.append(unique)
    return {
        "sep": separator,
        "quoting": quoting,
        "column_names": names,
        "header": 0,
        "na_filter": False,
        "features": datasets.Features({name: datasets.Value("string") for name in names}),
    }


def _first_records(path: Path, separator: str, quoting: Quoting) -> tuple[list[str], list[str] | None]:
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(_lines(path, file), delimiter=separator, quoting=quoting)
            records = (record for record in rows if record)
            return next(records, []), next(records, None)
    except csv.Error as error:
        raise _refusal(path, f"cannot be read as a table ({error})", "check its first lines") from None
    finally:
        csv.field_size_limit(limit)


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Lines, of which none may fill the memory."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise _refusal(path, f"has a line of more than {_LONGEST_LINE:,} characters", "check its first lines")
        yield line


def _uneven(path: Path, row: int, expected: int, found: int) -> ConfigError:
    return _refusal(
        path,
        f"has {found} fields in row {row:,} and {expected} in its header (row 1)",
        "put quotes around fields that contain the separator",
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
        return _refusal(path, "has no rows", "give a file with a text and a label column")
    if _is_about_the_cache(error):
        folder = quoted(cache_dir(), 200)
        return _refusal(
            path,
            f"could not be read through the cache in {folder} ({_strerror(error)})",
            "free space, or set TRAINTOP_HOME",
        )
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message):
        expected, row, saw = map(int, found.groups())
        return _uneven(path, row, expected, saw)
    if found := re.search(r"EOF inside string starting at row (\d+)", message):
        row = int(found[1]) + 1  # pandas counts the header as row 0
        return _refusal(path, f"opens a quote in row {row:,} that never closes", 'close it, or write "" for a quote')
    if loader == "json" and (where := _bad_json_line(path)):
        return where
    what = {"csv": "table", "json": "JSON lines", "parquet": "Parquet"}[loader]
    return _refusal(path, f"cannot be read as {what} ({quoted(message, 120)[1:-1]})", "check or export the file again")


def _bad_json_line(path: Path) -> ConfigError | None:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.lstrip().startswith("["):
                return None  # one array, not lines
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode()
                good = isinstance(row, dict)
            except (ValueError, RecursionError):
                good = False
            if not good:
                what = f"is not one JSON object in line {number:,}, {quoted(line.strip())}"
                return _refusal(path, what, 'write one object a line, such as {"text": "…", "label": 1}')
    return None


def sha256_of(file: Path, ask: Callable[[], None] = go_on) -> str:
    """The SHA-256 of a file of any size, hexadecimal. `ask` may raise to end the work. Raises `OSError`."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            ask()
            digest.update(chunk)
    return digest.hexdigest()
