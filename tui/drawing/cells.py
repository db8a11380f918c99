"""Lines of styled text as the panes paint them, and which of their cells changed. Pure: no Textual.

A line is a list of spans; a span is a text and a role ("muted", "loss", ...), which the stylesheet gives a colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from rich.cells import cell_len, get_character_cell_size

from tui.drawing.text import harmless

Span = tuple[str, str]
Line = list[Span]
Cells = list[Span]
"""One entry for every column; the second column of a wide character holds an empty text."""

ELLIPSIS = "…"
MERGE_GAP = 4
"""Unchanged columns between two changes that are cheaper to send again than to jump over."""


def width_of(line: Sequence[Span]) -> int:
    """Columns that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def cut(text: str, width: int) -> str:
    """A text in at most `width` columns, with an ellipsis where something is missing."""
    if cell_len(text) <= width:
        return text
    if width <= 0:
        return ""
    kept, used = [], 1
    for character in text:
        used += get_character_cell_size(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept) + ELLIPSIS


def cut_middle(text: str, width: int) -> str:
    """A text in at most `width` columns, its middle left out where it is longer: both ends tell most."""
    if cell_len(text) <= width:
        return text
    room = max(0, width - 1)
    end: list[str] = []
    used = 0
    for character in reversed(text):
        used += get_character_cell_size(character)
        if used > room // 2:
            break
        end.append(character)
    tail = "".join(reversed(end))
    head = cut(text, width - cell_len(tail))
    return head + tail


def cut_line(line: Sequence[Span], width: int) -> Line:
    """A line in at most `width` columns."""
    fitted: Line = []
    for text, role in line:
        part = cut(text, width)
        if part:
            fitted.append((part, role))
        width -= cell_len(part)
        if part != text:
            break
    return fitted


def pad(line: Sequence[Span], width: int, role: str = "text") -> Line:
    """A line in exactly `width` columns."""
    fitted = cut_line(line, width)
    room = width - width_of(fitted)
    return [*fitted, (" " * room, role)] if room else fitted


def ends(left: Sequence[Span], right: Sequence[Span], width: int, fill: Span = (" ", "text")) -> Line:
    """`left` and `right` at the two ends of `width` columns; the left one is cut when they do not fit."""
    last = cut_line(right, width)
    room = width - width_of(last)
    first = cut_line(left, room - 1 if last and room else room)
    text, role = fill
    return [*first, (text * (width - width_of(first) - width_of(last)), role), *last]


def first_that_fits(lines: Sequence[Line], width: int) -> Line:
    """The first of several ways to say something that fits; the last one, cut, when none does."""
    return next((line for line in lines if width_of(line) <= width), cut_line(lines[-1], width))


def join(parts: Sequence[Line], between: str = "  ") -> Line:
    """Lines side by side."""
    joined: Line = []
    for part in parts:
        if part:
            joined += [(between, "text"), *part] if joined else part
    return joined


def wrap(text: str, width: int, limit: int) -> list[str]:
    """A text in at most `limit` lines of `width` columns, broken at spaces where there are any."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        while cell_len(word) > width > 0:
            head = cut(word, width).removesuffix(ELLIPSIS) or word[:1]
            lines += [line, head] if line else [head]
            line, word = "", word[len(head) :]
        if line and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    if line:
        lines.append(line)
    if len(lines) > limit:
        lines = lines[:limit]
        if lines:
            lines[-1] = cut(lines[-1] + ELLIPSIS, width) if cell_len(lines[-1]) < width else cut(lines[-1] + " ", width)
    return lines


def frame(title: str, headline: Sequence[Span], body: Sequence[Line], size: tuple[int, int], role: str) -> list[Line]:
    """A box of `size` (columns, rows) around `body`, with a title and a headline in its top edge."""
    width, height = size
    inner = width - 2
    room = inner - cell_len(title) - 4
    head = cut_line(headline, room - 2) if room > 2 else []
    top: Line = [("┌ ", role), (cut(title, inner - 3), "title"), (" ", role)]
    tail: Line = [(" ", role), *head, (" ", role)] if head else []
    dashes = width - width_of(top) - width_of(tail) - 1 - bool(head)
    top += [("─" * dashes, role), *tail, ("─┐" if head else "┐", role)]
    lines = [top]
    for row in range(height - 2):
        content = body[row] if row < len(body) else []
        lines.append([("│", role), *pad(content, inner), ("│", role)])
    lines.append([("└" + "─" * inner + "┘", role)])
    return lines[:height]


def to_cells(line: Sequence[Span], width: int) -> Cells:
    """A line as exactly `width` columns, without anything that a terminal would obey."""
    cells: Cells = []
    for raw, role in line:
        text = harmless(raw)
        if text.isascii():
            cells += [(character, role) for character in text]
            continue
        for character in text:
            size = get_character_cell_size(character)
            if size == 0:
                if cells:
                    cells[-1] = (cells[-1][0] + character, cells[-1][1])
                continue
            cells.append((character, role))
            if size == 2:
                cells.append(("", role))
    del cells[width:]
    cells += [(" ", "text")] * (width - len(cells))
    return cells


def changed_runs(old: Cells, new: Cells) -> list[tuple[int, int]]:
    """Where `new` differs from `old`: half-open column ranges that never split a wide character."""
    if old == new:
        return []
    if len(old) != len(new):
        return [(0, len(new))]
    runs: list[tuple[int, int]] = []
    for column, (before, after) in enumerate(zip(old, new, strict=True)):
        if before == after:
            continue
        if runs and column - runs[-1][1] <= MERGE_GAP:
            runs[-1] = (runs[-1][0], column + 1)
        else:
            runs.append((column, column + 1))
    return [(_left(old, new, first), _right(old, new, last)) for first, last in runs]


def _left(old: Cells, new: Cells, column: int) -> int:
    return column - 1 if column and (not new[column][0] or not old[column][0]) else column


def _right(old: Cells, new: Cells, column: int) -> int:
    return column + 1 if column < len(new) and (not new[column][0] or not old[column][0]) else column


def segments(cells: Cells) -> list[Span]:
    """Columns joined into spans of one role."""
    return [("".join(text for text, _ in group), role) for role, group in groupby(cells, key=itemgetter(1))]
