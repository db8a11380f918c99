"""The results table: cursor, marks, order, filter, notes, baseline, deleting and taking it back."""

from __future__ import annotations

from engine.contract.records import Outcome, RunRecord
from engine.history.history import HistoryError
from tui.actions.base import ActionsBase
from tui.state.result_rows import matches, note_of, place_of


def _runs(rows: list[RunRecord]) -> str:
    return f"run {rows[0].run_id}" if len(rows) == 1 else f"{len(rows)} runs"


class ResultActions(ActionsBase):
    """What can be done with runs that are in the table."""

    def action_move_row(self, delta: int) -> None:
        """Move the cursor of the results table."""
        self.state.select(delta)
        self._say()

    def action_select_row(self, run_id: int) -> None:
        """Put the cursor on a run."""
        self.state.selected_run = run_id
        self._say()

    def action_pin(self) -> None:
        """Make the selected run the baseline, or let go of it."""
        row = self.state.selected
        if row is None or row.outcome is Outcome.RUNNING:
            self._say("pin a finished run")
            return
        pinned = None if row.run_id == self.state.baseline else row.run_id
        try:
            self.history.set_baseline(pinned)
        except HistoryError as error:
            self._say(str(error))
            return
        self._pinned(pinned)
        self._say("no baseline" if pinned is None else f"run {pinned} is the baseline")

    def _pinned(self, run_id: int | None) -> None:
        """The baseline is another one."""
        self.state.baseline = run_id

    def action_mark(self) -> None:
        """Mark the run under the cursor, or unmark it, and go on to the next."""
        row = self.state.selected
        if row is None:
            return
        self.state.table.marked ^= {row.run_id}
        self.state.select(1)
        self._say()

    def action_sort(self, direction: int) -> None:
        """Sort by the next column."""
        self.state.table.sort_by_next(direction)
        self._say()

    def action_reverse_sort(self) -> None:
        """Largest first, or smallest first again."""
        self.state.table.descending = not self.state.table.descending
        self._say()

    def action_filter(self) -> None:
        """Ask for words that rows must have."""
        from tui.screens.line import LineScreen

        def count(query: str) -> str:
            notes = self.state.table.notes
            found = sum(matches(query, row, notes.get(row.run_id, "")) for row in self.state.finished)
            return f"{found} of {len(self.state.finished)} runs"

        def take(query: str | None) -> None:
            if query is not None:
                self.state.table.query, self.state.selected_run = query.strip(), None
            self._back()

        why = "Words that a run must have (model, device, status, note), or knob=value. Empty: all runs."
        self.push_screen(LineScreen("Filter runs", why, self.state.table.query, on_change=count), take)

    def action_note(self) -> None:
        """Write a note on the run under the cursor."""
        from tui.screens.line import LineScreen

        row = self.state.selected
        if row is None:
            self._say("no run to write on")
            return
        run_id, notes = row.run_id, self.state.table.notes

        def take(text: str | None) -> None:
            if text is not None:
                self._write_note(run_id, text.strip())
            self._back()

        why = "Kept with the run, and found by the filter. Empty: no note."
        self.push_screen(LineScreen(f"Note on run {run_id}", why, notes.get(run_id, "")), take)

    def _write_note(self, run_id: int, text: str) -> None:
        try:
            self.history.note(run_id, text)
        except HistoryError as error:
            self.state.notice = str(error)
            return
        if text:
            self.state.table.notes[run_id] = note_of(text)
        else:
            self.state.table.notes.pop(run_id, None)

    def marked_rows(self) -> list[RunRecord]:
        """Marked rows that are shown; without any the one under the cursor."""
        marked = [row for row in self.state.rows if row.run_id in self.state.table.marked]
        selected = self.state.selected
        return marked or ([selected] if selected is not None else [])

    def action_delete(self) -> None:
        """Take the marked runs, or the one under the cursor, off the list; it can be undone."""
        rows = [row for row in self.marked_rows() if row.outcome is not Outcome.RUNNING]
        if not rows:
            self._say("a run under way stays; s stops it" if self.state.rows else "no run to delete")
            return
        gone = {row.run_id for row in rows}
        try:
            self.history.delete(gone)
        except HistoryError as error:
            self._say(str(error))
            return
        self._leave_cursor(gone)
        self.state.finished = [row for row in self.state.finished if row.run_id not in gone]
        self.state.table.marked -= gone
        self.state.table.deleted.append(rows)
        if self.state.baseline in gone:
            self._pinned(None)
        self._say(f"{_runs(rows)} deleted: U brings {'it' if len(rows) == 1 else 'them'} back")

    def _leave_cursor(self, gone: set[int]) -> None:
        """Put the cursor on a row beside those that go."""
        rows, current = self.state.rows, self.state.selected
        if current is None or current.run_id not in gone or self.state.selected_run is None:
            return
        index = place_of(current, rows)
        others = [row for row in [*rows[index:], *reversed(rows[:index])] if row.run_id not in gone]
        self.state.selected_run = others[0].run_id if others else None

    def action_restore(self) -> None:
        """Bring back what was deleted last."""
        if not self.state.table.deleted:
            self._say("nothing was deleted")
            return
        rows = self.state.table.deleted[-1]
        try:
            self.history.restore([row.run_id for row in rows])
            pinned = self.history.baseline()
        except HistoryError as error:
            self._say(str(error))
            return
        self.state.table.deleted.pop()
        self.state.add_history(rows)
        self.state.selected_run = rows[0].run_id
        if pinned != self.state.baseline:
            self._pinned(pinned)
        self._say(f"{_runs(rows)} brought back")

    def action_run_details(self) -> None:
        """Everything known about the selected run."""
        from tui.screens.details import run_details

        row = self.state.selected
        if row is not None:
            self.push_screen(run_details(row, self.state.table.notes.get(row.run_id, "")), self._back)
