"""The cursor that reads values from all plots at once."""

from __future__ import annotations

from tui.desk.desk import Desk
from tui.panes.base import PlotPane
from tui.panes.drawing import LABEL_WIDTH
from tui.state.cursor import Cursor, updates_per_column

MOVING = frozenset(("move_cursor", "leave_cursor"))
"""Actions whose keys are a pane's own again once the cursor is gone, and a dialog's while there is one."""
_EDGES = 2 * 2 + LABEL_WIDTH + 1
"""Columns of a plot's pane that are not plot: frame, blanks, labels."""


class CursorControl:
    """Owns `state.view.cursor`: an update of the run that is shown; ← and → move it while it is there."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._view = desk.state.view

    @property
    def can_move(self) -> bool:
        """Whether the keys of `MOVING` are the cursor's."""
        return self._view.cursor is not None and self._desk.shows_panes

    def toggle(self) -> None:
        """Put the cursor on the newest update, or take it away."""
        run = self._desk.state.run
        if self._view.cursor is not None:
            self.leave()
        elif run is None or not run.reached:
            self._desk.say("no curve to read yet: r runs")
        else:
            self._put(Cursor(run.reached, unit=run.unit), 0)

    def move(self, by: int, exact: bool = False) -> None:
        """Go `by` columns of the plot, or updates, to the right."""
        if self._view.cursor is not None:
            self._put(self._view.cursor, by, exact)

    def leave(self) -> None:
        """Show what is newest again."""
        self._view.cursor = None
        self._desk.say()

    def _put(self, cursor: Cursor, by: int, exact: bool = False) -> None:
        run = self._desk.state.run
        if run is None or (end := run.x_end) is None:
            self.leave()
            return
        x_range = run.recent_range() if self._view.recent else (0.0, end)
        span = 1 if exact else updates_per_column(x_range, self._columns())
        cursor = self._view.cursor = cursor.moved(by, span, x_range, run.reached)
        of = f" of {run.planned:,}" if run.planned else ""
        self._desk.say(f"{cursor.where}{of}: ← → move, Esc leaves")

    def _columns(self) -> int:
        """Of the focused plot; of the widest where none has the focus."""
        pane = self._desk.focused
        if self._desk.main is not None and not isinstance(pane, PlotPane):
            pane = self._desk.main.query_one("#memory")
        return pane.size.width - _EDGES if pane is not None else 1
