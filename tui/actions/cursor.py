"""The cursor that reads values from all plots at once."""

from __future__ import annotations

from tui.actions.base import ActionsBase
from tui.panes.base import PlotPane
from tui.panes.drawing import LABEL_WIDTH
from tui.state.cursor import Cursor, updates_per_column

_MOVING = frozenset(("move_cursor", "leave_cursor"))
_EDGES = 2 * 2 + LABEL_WIDTH + 1
"""Columns of a plot's pane that are not plot: frame, blanks, labels."""


class CursorActions(ActionsBase):
    """It stands on an update of the run that is shown; ← and → move it while it is there."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Its keys are a pane's own again once it is gone, and a dialog's while there is one."""
        if action in _MOVING:
            return self.state.view.cursor is not None and self.screen is self.main
        return super().check_action(action, parameters)

    def action_cursor(self) -> None:
        """Put the cursor on the newest update, or take it away."""
        if self.state.view.cursor is not None:
            self.action_leave_cursor()
        elif self.state.run is None or not self.state.run.update:
            self._say("no curve to read yet: r runs")
        else:
            self._put(Cursor(self.state.run.update), 0)

    def action_move_cursor(self, by: int, exact: bool = False) -> None:
        """Go `by` columns of the plot, or updates, to the right."""
        if self.state.view.cursor is not None:
            self._put(self.state.view.cursor, by, exact)

    def action_leave_cursor(self) -> None:
        """Show what is newest again."""
        self.state.view.cursor = None
        self._say()

    def _put(self, cursor: Cursor, by: int, exact: bool = False) -> None:
        run = self.state.run
        if run is None or not run.planned_updates:
            self.action_leave_cursor()
            return
        x_range = run.recent_range() if self.state.view.recent else (0.0, float(run.planned_updates))
        span = 1 if exact else updates_per_column(x_range, self._columns())
        cursor = self.state.view.cursor = cursor.moved(by, span, x_range, run.update)
        self._say(f"{cursor.where} of {run.planned_updates:,}: ← → move, Esc leaves")

    def _columns(self) -> int:
        """Of the focused plot; of the widest where none has the focus."""
        pane = self.focused
        if self.main is not None and not isinstance(pane, PlotPane):
            pane = self.main.query_one("#memory")
        return pane.size.width - _EDGES if pane is not None else 1
