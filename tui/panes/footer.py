"""The last line: the keys that work here, or the answer to the last one."""

from __future__ import annotations

from collections.abc import Sequence

from tui.drawing.cells import Line, cut_line, ends, join, width_of
from tui.drawing.text import clean
from tui.panes.base import Pane
from tui.state.foreign import SENTENCE
from tui.state.state import State

KEEP = 3
"""The last hints (help, palette, quit) are kept on the narrowest line."""


class FooterPane(Pane):
    """One line without a frame."""

    hints: tuple[tuple[str, str], ...] = ()
    """(key, what it does), in order; those in the middle give way, and are left to the help screen."""

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """Keys from the left; a notice, and what the app costs, take the right end."""
        said: Line = [(clean(state.notice, SENTENCE), "accent")] if state.notice else []
        keys: Line = [(f" {key} ", "cursor") for key in state.view.keys]
        meter: Line = [(state.view.meter, "muted")] if state.view.meter else []
        right = join([said, keys, meter])
        notice = cut_line([*right, (" ", "text")], width) if right else []
        room = width - width_of(notice) - bool(notice)
        first, last = self.hints[:-KEEP], self.hints[-KEEP:]
        while first and width_of(_hints([*first, *last])) > room:
            first = first[:-1]
        return [ends(_hints([*first, *last]), notice, width)]


def _hints(hints: Sequence[tuple[str, str]]) -> Line:
    line: Line = []
    for key, what in hints:
        line += [(f" {key} ", "key"), (f"{what} ", "muted")]
    return line
