"""The log: what the engine says, and what its libraries print."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.drawing.cells import Line, cut_middle, wrap
from tui.drawing.text import clean
from tui.panes.base import Pane
from tui.state.state import LogLine, State

_LEAST = 16
"""Cells of a path that still tell something."""
_ROLES = {"info": "text", "warning": "warn", "error": "bad"}


class LogPane(Pane, can_focus=True):
    """The newest lines at the bottom; older ones are a scroll away."""

    TITLE = "Log"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "app.scroll_log(1)", "older lines", key_display="↑↓"),
        Binding("down,j", "app.scroll_log(-1)", "newer lines", show=False),
        Binding("pageup", "app.scroll_log(10)", "10 lines older", show=False),
        Binding("pagedown", "app.scroll_log(-10)", "10 lines newer", show=False),
        Binding("home", "app.scroll_log(1000000)", "oldest line", show=False),
        Binding("end", "app.scroll_log(-1000000)", "newest line", show=False),
    ]

    def title(self, state: State) -> str:
        """Whose it is."""
        return self.TITLE if state.rank_log is None else f"{self.TITLE} of rank {state.rank_log.rank}"

    def headline(self, state: State, width: int) -> Line:
        """How far it is scrolled back; of a script where all that it printed is."""
        if state.log_scroll:
            return [(f"{state.log_scroll} newer below", "accent")]
        path = log_path(state) if state.rank_log is None else None
        return [(cut_middle(path, max(0, width)), "muted")] if path is not None and width >= _LEAST else []

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """As many of the newest lines as there is room for."""
        lines: list[Line] = []
        skip = state.log_scroll
        for entry in reversed(state.log_lines):
            if skip:
                skip -= 1
                continue
            lines = _entry(entry, width, height) + lines
            if len(lines) >= height:
                break
        return lines[-height:]


def log_path(state: State) -> str | None:
    """The file with all that the script printed which is shown."""
    if state.run is None or state.run.script is None:
        return None
    script = state.run.as_record().script
    return clean(script.log_path, 400) if script is not None and script.log_path is not None else None


def _entry(entry: LogLine, width: int, limit: int) -> list[Line]:
    """A log line, wrapped under its source."""
    source = f" {entry.source[:9]:<9} " if entry.source else " "
    texts = wrap(entry.text, width - len(source) - 1, limit) or [""]
    return [
        [(source if index == 0 else " " * len(source), "muted"), (text, _ROLES.get(entry.level, "text"))]
        for index, text in enumerate(texts)
    ]
