"""An Excel workbook -> its first sheet with rows as CSV. Its reader is an extra, and is imported here alone.

The reader lays a sheet out as a full grid from its first cell to its last, and aborts the process where there is no
memory for it: how large that will be is told before it opens the file.
"""

from __future__ import annotations

import csv
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

from engine.workloads.files.plain_files import CHUNK, go_on, quoted, refusal

HOW_TO_GET_XLSX = "pip install 'traintop[excel]'"
MAX_UNPACKED = 2**29
"""Bytes of all that is packed in a workbook. The reader needs about four times as much memory."""
MAX_CELLS = 20_000_000
"""Of a sheet's grid: 19 columns of the 1,048,576 rows that Excel knows."""
_LISTED = 8  # sheets in a sentence
_TAGS = re.compile(rb"<(?:[\w.-]{1,40}:)?(row|c|v|is)(?=[\s/>])([^>]*)>")
"""Of a sheet's XML, with any prefix: a row, a cell, and the two kinds of what is in a cell."""
_PLACE = re.compile(rb"""(?<!\S)r\s*=\s*["']([A-Za-z]*)(\d+)["']""")
_LONGEST_TAG = 4_096
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_STRICT_RELATION = "{http://purl.oclc.org/ooxml/officeDocument/relationships}id"
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError)


def check_workbook(path: Path) -> None:
    """Raises `ConfigError` where the reader of workbooks is missing, or this is none."""
    _open(path)


def write_sheet(path: Path, out: BinaryIO, ask: Callable[[], None] = go_on) -> str:
    """Write the first sheet with rows as CSV, hidden ones last; a sentence on the others, empty where there are none.

    Raises `ConfigError` where none has rows, or it cannot be read.
    """
    workbook = _open(path)
    names: list[str] = list(workbook.sheet_names)
    hidden = _hidden(workbook)
    for name in sorted(names, key=hidden.__contains__):
        ask()
        _check_grid(path, name, ask)
        try:
            rows: list[list[object]] = workbook.get_sheet_by_name(name).to_python(skip_empty_area=True)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            what = f"has a sheet {quoted(name)} that cannot be read ({quoted(error, 100)[1:-1]})"
            raise refusal(path, what, "save it again") from None
        rows = [row for row in rows if any(cell not in ("", None) for cell in row)]
        if rows:
            csv.writer(_Lines(out), lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
            return _on_others(path, name, [other for other in names if other != name])
    raise refusal(path, "has no sheet with rows", "give a file with a text and a label column")


def _hidden(workbook: Any) -> set[str]:
    from python_calamine import SheetVisibleEnum

    return {sheet.name for sheet in workbook.sheets_metadata if sheet.visible != SheetVisibleEnum.Visible}


def _on_others(path: Path, name: str, others: list[str]) -> str:
    if not others:
        return ""
    listed = ", ".join(quoted(other, 30) for other in others[:_LISTED])
    more = f" and {len(others) - _LISTED:,} more" if len(others) > _LISTED else ""
    return f"Of the {len(others) + 1:,} sheets of {quoted(path.name)}, {quoted(name)} is read; not {listed}{more}."


def _open(path: Path) -> Any:
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
    if (size := unpacked_size(path)) > MAX_UNPACKED:
        what = f"has {size / 2**20:,.0f} MiB packed in it, of which {MAX_UNPACKED // 2**20:,} can be read"
        raise refusal(path, what, "save the sheet of your table as CSV")
    try:
        return CalamineWorkbook.from_path(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # its own kinds, and the panics of its Rust, which are no Exception
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> Exception:
    return refusal(path, f"cannot be read as an Excel workbook ({quoted(error, 100)[1:-1]})", "save it again")


def unpacked_size(path: Path) -> int:
    """Bytes of all that is packed in a workbook, as it says. Raises `ConfigError` where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None


def _check_grid(path: Path, name: str, ask: Callable[[], None]) -> None:
    """Raises `ConfigError` where the grid of a sheet would have more than `MAX_CELLS`."""
    try:
        with zipfile.ZipFile(path) as archive:
            for part in _parts(archive, name):
                if (grid := _grid(archive, part, ask)) and grid.cells > MAX_CELLS:
                    raise refusal(
                        path,
                        f"has {grid.corners}, which would make {_many(grid.cells)} cells",
                        "delete what stands far outside the table, or save it as CSV",
                    )
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None


def _parts(archive: zipfile.ZipFile, name: str) -> list[str]:
    """The file of a sheet inside the workbook; those of all sheets where the workbook does not say which it is."""
    try:
        sheets = ElementTree.fromstring(archive.read("xl/workbook.xml")).iterfind(".//{*}sheet")
        ids = {sheet.get(_RELATION) or sheet.get(_STRICT_RELATION) for sheet in sheets if sheet.get("name") == name}
        relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels")).iterfind("{*}Relationship")
        targets = [relation.get("Target", "") for relation in relations if relation.get("Id") in ids]
    except (KeyError, ElementTree.ParseError):
        targets = []
    found = [posixpath.normpath(posixpath.join("/xl", target)).lstrip("/") for target in targets]
    known = archive.namelist()
    return [part for part in found if part in known] or [part for part in known if "worksheets/" in part]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    cells: int
    corners: str
    """Which cells make it that large, in words."""


def _grid(archive: zipfile.ZipFile, part: str, ask: Callable[[], None]) -> _Grid | None:
    """What the cells with content span, from the file itself: what a sheet calls its dimension may be anything."""
    first: tuple[int, int] | None = None
    last_row = last_column = (0, 0)
    for row, column in _filled(archive, part, ask):
        if first is None:
            first = row, column
        first = min(first[0], row), min(first[1], column)
        last_row = max(last_row, (row, column))
        if column > last_column[1]:
            last_column = row, column
    if first is None:
        return None
    cells = (last_row[0] - first[0] + 1) * (last_column[1] - first[1] + 1)
    corner, other = _reference(*last_row), _reference(*last_column)
    return _Grid(cells=cells, corners=f"a cell at {corner}" if corner == other else f"cells at {other} and {corner}")


def _filled(archive: zipfile.ZipFile, part: str, ask: Callable[[], None]) -> Iterator[tuple[int, int]]:
    """Row and column, from 1, of each cell with content. A row or cell without a place stands after the one before."""
    row, column = 0, 0
    for tag, attributes in _tags(archive, part, ask):
        if tag == b"row":
            place = _PLACE.search(attributes)
            row, column = int(place[2]) if place else row + 1, 0
        elif tag == b"c":
            place = _PLACE.search(attributes)
            if place and place[1]:
                row, column = int(place[2]), _column(place[1])
            else:
                column += 1
        else:
            yield row, column


def _tags(archive: zipfile.ZipFile, part: str, ask: Callable[[], None]) -> Iterator[tuple[bytes, bytes]]:
    with archive.open(part) as file:
        rest = b""
        while chunk := file.read(CHUNK):
            ask()
            text, end = rest + chunk, 0
            for found in _TAGS.finditer(text):
                yield found[1], found[2]
                end = found.end()
            # a tag may be cut by the end of the piece
            begun = text.rfind(b"<", max(end, len(text) - _LONGEST_TAG))
            rest = text[begun:] if begun >= 0 else b""


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def _reference(row: int, column: int) -> str:
    letters = ""
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(65 + letter) + letters
    return f"{letters}{row}"


def _many(count: int) -> str:
    return f"{count / 1e9:,.0f} billion" if count >= 10**9 else f"{count / 1e6:,.0f} million"


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
