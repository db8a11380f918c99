"""Files as bytes and lines: what can be told of them without the libraries that read tables. Standard library only."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TextIO

from engine.contract.config import ConfigError
from engine.contract.own_data import LOADERS, PACKED, TEXT_SUFFIXES, suffix_of

FORMATS = (
    "CSV (.csv), TSV (.tsv), JSON lines (.jsonl, .json), Parquet (.parquet) or Excel (.xlsx), the first three also "
    "packed (.gz)"
)
CHUNK = 2**20
"""Bytes that are read at once."""
_LONGEST_LINE = 2**27  # characters
_JSON_ROW = '{"text": "…", "label": 1}'
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


def refusal(path: Path, what: str, fix: str) -> ConfigError:
    return ConfigError("data", f"{quoted(path.name)} {what}: {fix}.")


def check_file(path: Path, data: str) -> None:
    """Raises `ConfigError` unless `path`, which the user called `data`, is a file with content that may be read."""
    if path.is_dir():
        raise ConfigError("data", f"--data {quoted(data)} is a folder: name one file in it, in {FORMATS}.")
    if not path.exists():
        raise ConfigError("data", f"--data {quoted(data)} does not exist in {quoted(Path.cwd(), 200)}: check the path.")
    if not path.is_file():
        raise refusal(path, "is not a regular file", "save its content to a file first")
    if not os.access(path, os.R_OK):
        raise refusal(path, "may not be read by you", "ask its owner, or chmod u+r")
    if path.stat().st_size == 0:
        raise refusal(path, "is empty", "give a file with a text and a label column")
    if "::" in str(path.absolute()) or "://" in str(path.absolute()):
        raise refusal(path, "has '::' or '://' in its path, which the reader takes for an address", "rename it")


def check_table_name(path: Path, data: str) -> None:
    """Raises `ConfigError` unless `path`, which the user called `data`, is a file whose ending is that of a table."""
    check_file(path, data)
    suffix = suffix_of(path.name)
    if suffix in TEXT_SUFFIXES:
        raise refusal(
            path,
            "is plain text without labels",
            "train a language model on it with --workload text and --task causal-lm or masked-lm, or give a table of "
            f"texts with labels, pairs or messages in {FORMATS}",
        )
    if suffix not in LOADERS:
        raise refusal(path, f"has the unknown extension {quoted(path.suffix)}", f"save it as {FORMATS}")
    if path.suffix.lower() == PACKED and LOADERS[suffix] in ("parquet", "xlsx"):
        raise refusal(path, f"is a {suffix} inside a gzip, which is packed already", "unpack it with gunzip")


def check_utf8(path: Path, ask: Callable[[], None] = go_on) -> None:
    """Raises `ConfigError` with the place of the first byte that is not UTF-8, or NUL, which no text has.

    `ask` may raise to end the work.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    read, line = 0, 1
    with path.open("rb") as file:
        while True:
            ask()
            chunk = file.read(CHUNK)
            if read == 0 and chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise refusal(path, "is UTF-16, not UTF-8", "convert it with iconv -f utf-16 -t utf-8")
            if b"\0" in chunk:
                raise _nul(path, chunk, read, line)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                position = read - pending + error.start
                line += error.object[pending : error.start].count(b"\n")
                byte = error.object[error.start]
                raise refusal(
                    path,
                    f"is not UTF-8: byte {position:,} (line {line:,}) is 0x{byte:02x}",
                    "convert it with iconv -f latin1 -t utf-8",
                ) from None
            if not chunk:
                return
            read += len(chunk)
            line += chunk.count(b"\n")


def _nul(path: Path, chunk: bytes, read: int, line: int) -> ConfigError:
    """`chunk` has a NUL; `read` bytes, to the beginning of `line`'s piece, stand before it."""
    at = chunk.index(b"\0")
    if chunk.count(b"\0") > len(chunk) / 4:  # every second byte of western text in UTF-16
        return refusal(path, "is UTF-16, not UTF-8", "convert it with iconv -f utf-16le -t utf-8")
    what = f"has a NUL at byte {read + at:,} (line {line + chunk[:at].count(10):,}), which no text has"
    return refusal(path, what, "check the file, or leave them out with tr -d '\\000'")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvLayout:
    """How a CSV or TSV file is read."""

    separator: str
    quoting: Quoting
    names: tuple[str, ...]
    """Of the columns: each its own."""
    repeated: tuple[tuple[str, str], ...] = ()
    """Names that the header has more than once, each with what a later one is called."""


def csv_layout(path: Path, quoting: Quoting = csv.QUOTE_MINIMAL) -> CsvLayout:
    """The layout of a plain file, told by its first two records. Raises `ConfigError` where it has fewer."""
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(path)
    header, first = _first_records(path, separator, quoting)
    if first is None:
        raise refusal(path, "has a header and no rows" if header else "is blank", "give a file with rows of text")
    if len(first) > len(header):
        # pandas would take the extra field for an index and shift every column
        raise uneven(path, 2, len(header), len(first))
    names: list[str] = []
    repeated: list[tuple[str, str]] = []
    for i, name in enumerate(header):
        unique = wanted = name.strip() or f"column {i + 1}"
        while unique in names:
            unique += "'"
        if unique != wanted:
            repeated.append((wanted, unique))
        names.append(unique)
    return CsvLayout(separator=separator, quoting=quoting, names=tuple(names), repeated=tuple(repeated))


def _separator(path: Path) -> str:
    """A comma, unless the header has none and semicolons, tabs or bars, as spreadsheets of some countries write."""
    header = ",".join(_first_records(path, ",", csv.QUOTE_MINIMAL)[0])
    return next((separator for separator in ";\t|" if separator in header and "," not in header), ",")


def _first_records(path: Path, separator: str, quoting: Quoting) -> tuple[list[str], list[str] | None]:
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(_lines(path, file), delimiter=separator, quoting=quoting)
            records = (record for record in rows if record)
            return next(records, []), next(records, None)
    except UnicodeDecodeError:
        check_utf8(path)  # says where
        raise
    except csv.Error as error:
        raise refusal(path, f"cannot be read as a table ({error})", "check its first lines") from None
    finally:
        csv.field_size_limit(limit)


def bad_record(path: Path, layout: CsvLayout) -> ConfigError | None:
    """On the first record with more fields than the header, or a quote that never closes, as pandas tells them."""
    limit = csv.field_size_limit(2**31 - 1)
    end = f"\1end{layout.separator}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            # one line more: where it comes back as one field, a quote is open
            lines = chain(_lines(path, file), (end,))
            for row, record in enumerate(csv.reader(lines, delimiter=layout.separator, quoting=layout.quoting), 1):
                if record and record[-1].endswith(end):
                    return open_quote(path, row)
                if record == [end[:-1], ""]:
                    return None
                if len(record) > len(layout.names):
                    return uneven(path, row, len(layout.names), len(record))
    except csv.Error:  # it is stricter on some characters
        return None
    finally:
        csv.field_size_limit(limit)
    return None


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Lines, of which none may fill the memory."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise refusal(path, f"has a line of more than {_LONGEST_LINE:,} characters", "check its first lines")
        yield line


def uneven(path: Path, row: int, expected: int, found: int) -> ConfigError:
    return refusal(
        path,
        f"has {found} fields in row {row:,} and {expected} in its header (row 1)",
        "put quotes around fields that contain the separator",
    )


def open_quote(path: Path, row: int) -> ConfigError:
    return refusal(path, f"opens a quote in row {row:,} that never closes", 'close it, or write "" for a quote')


def check_parquet(path: Path) -> None:
    """Raises `ConfigError` where a file does not begin and end as Parquet does, such as one that is cut short."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        tail = file.read(4)
    if head != b"PAR1" or tail not in (b"PAR1", b"PARE"):
        what = "is cut short: it begins as Parquet, and does not end so" if head == b"PAR1" else "is no Parquet file"
        raise refusal(path, what, "check or export the file again")


def check_json_array(path: Path) -> None:
    """Raises `ConfigError` where a file is one array whose first item is no object, so that it has no columns."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        begin = file.read(CHUNK).lstrip()
    items = begin[1:].lstrip()
    if begin.startswith("[") and items and items[0] not in "{]":
        raise refusal(path, f"is an array of {_json_kind(items)}, not of objects", f"write {_JSON_ROW} for each row")


def _json_kind(item: str) -> str:
    return {'"': "texts", "[": "arrays"}.get(item[0], "numbers" if item[0] in "-0123456789" else "other values")


def bad_json_line(path: Path) -> ConfigError | None:
    """On the first line that is not one JSON object; None where all are, and for one array instead of lines."""
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
                return refusal(path, what, f"write one object a line, such as {_JSON_ROW}")
    return None


def sha256_of(file: Path, ask: Callable[[], None] = go_on) -> str:
    """The SHA-256 of a file of any size, hexadecimal. `ask` may raise to end the work. Raises `OSError`."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            ask()
            digest.update(chunk)
    return digest.hexdigest()
