"""Files that are packed, or a spreadsheet, -> a plain file that the readers know, kept in the cache.

Kept under the content's digest, so that it is unpacked once; the ones not used for longest go first.
"""

from __future__ import annotations

import csv
import errno
import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from engine.contract.own_data import PACKED, is_packed, suffix_of
from engine.contract.paths import cache_dir
from engine.workloads.plain_files import CHUNK, go_on, quoted, refusal, sha256_of

LIMIT = 2**31
"""Bytes of all that is kept."""
_LEAVES_FREE = 2**29
"""Bytes of the disk that unpacking leaves to others."""
HOW_TO_GET_XLSX = "pip install 'traintop[excel]'"


def is_plain(path: Path) -> bool:
    """Whether a file is read as it lies there."""
    return not is_packed(path.name) and suffix_of(path.name) != ".xlsx"


def plain_name(path: Path) -> str:
    """What the unpacked file is called: `a.csv` for `a.csv.gz` and for `a.xlsx`."""
    if is_packed(path.name):
        return path.name[: -len(PACKED)]
    return f"{path.stem}.csv" if suffix_of(path.name) == ".xlsx" else path.name


@contextmanager
def plain(
    path: Path, ask: Callable[[], None] = go_on, warn: Callable[[str], None] = lambda sentence: None
) -> Iterator[Path]:
    """The file itself where it is plain, else what is in it; of a workbook its first sheet that is not empty.

    `warn` is told what of it is not read. `ask` may raise to end the work.
    Raises `ConfigError` where it is damaged or cannot be unpacked.
    """
    if is_plain(path):
        yield path
        return
    folder = cache_dir() / "unpacked" / sha256_of(path, ask)[:40]
    made, sheets = folder / plain_name(path), folder / "sheets"
    if not made.is_file():
        try:
            _make(path, made, sheets, ask)
        except OSError:
            with tempfile.TemporaryDirectory() as elsewhere:
                folder = Path(elsewhere)
                made, sheets = folder / plain_name(path), folder / "sheets"
                try:
                    _make(path, made, sheets, ask)
                except OSError as error:
                    what = f"could not be unpacked ({error.strerror or error})"
                    raise refusal(path, what, "free space, or set TRAINTOP_HOME") from None
                _tell(sheets, warn)
                yield made
            return
    with suppress(OSError):
        os.utime(folder)
    _tell(sheets, warn)
    yield made
    make_room(folder.parent)


def _tell(sheets: Path, warn: Callable[[str], None]) -> None:
    with suppress(OSError):
        warn(sheets.read_text(encoding="utf-8"))


def _make(path: Path, made: Path, sheets: Path, ask: Callable[[], None]) -> None:
    """Raises `OSError` where it cannot be written, and `ConfigError` where it cannot be read."""
    made.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(made.parent).free < _LEAVES_FREE:
        raise OSError(errno.ENOSPC, "the disk is nearly full")
    handle, draft = tempfile.mkstemp(prefix=".unfinished-", dir=made.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            is_workbook = suffix_of(path.name) == ".xlsx"
            note = _write_sheet(path, out, ask) if is_workbook else _unpack(path, out, made.parent, ask)
        if note:
            sheets.write_text(note, encoding="utf-8")
        os.utime(draft, (0, 0))  # `datasets` knows a file by its place and time: the same content is read once
        os.replace(draft, made)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def _unpack(path: Path, out: BinaryIO, folder: Path, ask: Callable[[], None]) -> str:
    for chunk in unpacked_chunks(path, ask):
        if shutil.disk_usage(folder).free < _LEAVES_FREE:
            raise refusal(path, "has more in it than the disk has room for", "unpack a part of it yourself")
        out.write(chunk)
    return ""


def unpacked_chunks(path: Path, ask: Callable[[], None] = go_on) -> Iterator[bytes]:
    """What is in a gzip file, a piece at a time. Raises `ConfigError` where it is damaged or cut short."""
    fix = "copy or download it again"
    with gzip.open(path, "rb") as file:
        while True:
            ask()
            try:
                chunk = file.read(CHUNK)
            except gzip.BadGzipFile as error:
                what = "is no gzip file" if "Not a gzipped" in str(error) else "is damaged inside its gzip"
                raise refusal(path, what, fix if "damaged" in what else "give it the ending of what it is") from None
            except EOFError:
                raise refusal(path, "is cut short: its gzip has no end", fix) from None
            except zlib.error:
                raise refusal(path, "is damaged inside its gzip", fix) from None
            if not chunk:
                return
            yield chunk


def check_workbook(path: Path) -> None:
    """Raises `ConfigError` where the reader of workbooks is missing, or this is none."""
    _open_workbook(path)


def _open_workbook(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(4)
    if head != b"PK\x03\x04":
        kind = "an old .xls workbook" if head == b"\xd0\xcf\x11\xe0" else "no Excel workbook"
        raise refusal(path, f"is {kind}", "save it as .xlsx or as CSV")
    try:
        from python_calamine import CalamineWorkbook
    except ImportError:
        raise refusal(
            path, "is an Excel workbook, whose reader is not installed", f"{HOW_TO_GET_XLSX}, or save it as CSV"
        ) from None
    try:
        return CalamineWorkbook.from_path(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # its own kinds, and the panics of its Rust, which are no Exception
        what = f"cannot be read as an Excel workbook ({quoted(error, 100)[1:-1]})"
        raise refusal(path, what, "save it again") from None


def _write_sheet(path: Path, out: BinaryIO, ask: Callable[[], None]) -> str:
    """Write the first sheet with rows as CSV; a sentence on the others."""
    workbook = _open_workbook(path)
    names: list[str] = list(workbook.sheet_names)
    for name in names:
        ask()
        try:
            rows: list[list[object]] = workbook.get_sheet_by_name(name).to_python(skip_empty_area=True)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            what = f"has a sheet {quoted(name)} that cannot be read ({quoted(error, 100)[1:-1]})"
            raise refusal(path, what, "save it again") from None
        rows = [row for row in rows if any(cell not in ("", None) for cell in row)]
        if rows:
            text = _Lines(out)
            csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
            if len(names) == 1:
                return ""
            others = ", ".join(quoted(other, 30) for other in names[:8] if other != name)
            return f"Of the {len(names)} sheets of {quoted(path.name)}, {quoted(name)} is read; not {others}."
    raise refusal(path, "has no sheet with rows", "give a file with a text and a label column")


class _Lines:
    """What `csv` writes text to."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        return self._out.write(text.encode("utf-8", "replace"))


def _cell(value: object) -> str:
    """A cell as text: whole numbers, which a spreadsheet keeps as floats, without their zero."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def make_room(folder: Path, limit: int = LIMIT) -> None:
    """Delete what was not used for longest, down to `limit` bytes; the newest entry always stays. Never raises."""
    with suppress(OSError):
        entries = sorted(
            (entry for entry in folder.iterdir() if not entry.name.startswith(".")),
            key=lambda entry: entry.stat().st_mtime,
            reverse=True,
        )
        total = 0
        for i, entry in enumerate(entries):
            files = [file for file in entry.iterdir() if file.is_file()] if entry.is_dir() else [entry]
            total += sum(file.stat().st_size for file in files)
            if total > limit and i > 0:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()
