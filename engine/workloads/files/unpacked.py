"""Files that are packed, or a spreadsheet, -> a plain file that the readers know, kept in the cache.

Kept under the content's digest, so that it is unpacked once; the ones not used for longest go first.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from engine.contract.own_data import PACKED, is_packed, suffix_of
from engine.contract.paths import cache_dir
from engine.workloads.files.plain_files import CHUNK, go_on, refusal, sha256_of
from engine.workloads.files.workbooks import write_sheet

LIMIT = 2**31
"""Bytes of all that is kept."""
_LEAVES_FREE = 2**29
"""Bytes of the disk that unpacking leaves to others."""
_MAGIC = b"\x1f\x8b"
"""How gzip begins (RFC 1952)."""


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
            note = write_sheet(path, out, ask) if is_workbook else _unpack(path, out, made.parent, ask)
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
    """What is in a gzip file, a piece at a time. Raises `ConfigError` where it is damaged or packed twice."""
    fix = "copy or download it again"
    with path.open("rb") as packed:
        if packed.read(2) != _MAGIC:
            raise refusal(path, "is no gzip file", "give it the ending of what it is")
    with gzip.open(path, "rb") as file:
        begun = False
        while True:
            ask()
            try:
                chunk = file.read(CHUNK)
            except gzip.BadGzipFile as error:
                is_after = "Not a gzipped" in str(error)  # where another part would begin: it began as gzip
                what = "has bytes after the end of its gzip" if is_after else "is damaged inside its gzip"
                raise refusal(path, what, fix) from None
            except EOFError:
                raise refusal(path, "is cut short: its gzip has no end", fix) from None
            except zlib.error:
                raise refusal(path, "is damaged inside its gzip", fix) from None
            if not chunk:
                return
            if not begun and chunk.startswith(_MAGIC):
                raise refusal(path, "is packed twice", "unpack it once (gunzip)")
            begun = True
            yield chunk


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
