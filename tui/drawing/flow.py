"""Running text that grows at its end, in lines of a width: what was broken into lines stays where it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from rich.cells import get_character_cell_size

from tui.drawing.cells import Line, Span
from tui.drawing.text import clean

LINES_KEPT = 2000
_BREAKS = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")


class Flow:
    """Lines broken at spaces where there are any; a line break is one. Adding costs the same at any length."""

    def __init__(self, width: int) -> None:
        self.width = max(2, width)
        self._lines: list[Line] = []
        self._open: list[Span] = []
        """The last line, a span a character."""
        self._used = self._space = 0
        """Columns of the last line, and the place behind its last space."""
        self._gone = 0
        """Lines that are not kept any more."""

    def add(self, text: str, role: str) -> None:
        """Go on with `text`, which may be hostile."""
        for character in _characters(text):
            if character == "\n":
                self._break(len(self._open))
                continue
            size = get_character_cell_size(character)
            if self._used + size > self.width:
                if character == " ":
                    self._space = len(self._open)  # the end of the line stands for it
                    continue
                self._break(self._space or len(self._open))
            if character == " " and not self._open:
                continue
            self._open.append((character, role))
            self._used += size
            if character == " ":
                self._space = len(self._open)

    def _break(self, at: int) -> None:
        """End the line before its character `at`."""
        self._lines.append(_joined(self._open[:at]))
        self._open = self._open[at:]
        self._used, self._space = sum(get_character_cell_size(each) for each, _ in self._open), 0
        if len(self._lines) > 2 * LINES_KEPT:
            self._gone += LINES_KEPT
            del self._lines[:LINES_KEPT]

    def __len__(self) -> int:
        """Lines so far, with those that are not kept any more."""
        return self._gone + len(self._lines) + 1

    def end(self, height: int) -> list[Line]:
        """The last lines, at most `height`. They move up by half a page at a time: a text that moved up line by line
        would be sent anew with each."""
        if height < 1:
            return []
        step = max(1, height // 2)
        top = -(-max(0, len(self) - height) // step) * step
        return [*self._lines, _joined(self._open)][max(0, top - self._gone) :]


def _characters(text: str) -> Iterator[str]:
    for index, paragraph in enumerate(_BREAKS.split(text)):
        if index:
            yield "\n"
        yield from clean(paragraph)


def _joined(line: list[Span]) -> Line:
    """Neighbours of one role as one span, without the space at the end."""
    spans = [("".join(text for text, _ in group), role) for role, group in groupby(line, key=itemgetter(1))]
    if spans:
        spans[-1] = (spans[-1][0].rstrip(" "), spans[-1][1])
    return [span for span in spans if span[0]]
