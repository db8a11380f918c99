"""The last line: the keys that work here, or the answer to the last one."""

from __future__ import annotations

from collections.abc import Sequence

from tui.drawing.cells import Line, cut_line, ends, join, width_of
from tui.drawing.text import clean
from tui.panes.base import Pane
from tui.state.foreign import SENTENCE
from tui.state.state import State


class FooterPane(Pane):
    """One line without a frame."""

    hints: Sequence[tuple[str, str]] = ()
    """(key, what it does), the most important first; those that have no room are left to the help screen."""
    last: Sequence[tuple[str, str]] = ()
    """Those that stay on the narrowest line."""

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """Keys from the left; a notice, and what the app costs, take the right end."""
        said: Line = [(clean(state.notice, SENTENCE), "accent")] if state.notice else []
        keys: Line = [(f" {key} ", "cursor") for key in state.view.keys]
        meter: Line = [(state.view.meter, "muted")] if state.view.meter else []
        right = join([said, keys, meter])
        notice = cut_line([*right, (" ", "text")], width) if right else []
        room = width - width_of(notice) - bool(notice)
        first = list(self.hints)
        while first and width_of(_hints([*first, *self.last])) > room:
            first.pop()
        return [ends(_hints([*first, *self.last]), notice, width)]


def _hints(hints: Sequence[tuple[str, str]]) -> Line:
    line: Line = []
    for key, what in hints:
        line += [(f" {key} ", "key"), (f"{what} ", "muted")]
    return line
