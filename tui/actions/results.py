"""The results table: cursor, marks, order, filter, notes, deleting and taking it back."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from engine.contract.changes import Delete, Note, Restore
from engine.contract.events import HistoryChanged
from engine.contract.numbers import n_of
from engine.contract.records import Outcome, RunRecord
from tui.actions.baseline import BaselineControl
from tui.desk.desk import Desk
from tui.state.deltas import Deltas
from tui.state.result_rows import matches, note_of, place_of
from tui.state.unsettled import Unsettled

if TYPE_CHECKING:
    from engine.session.engine import Engine


def _runs(rows: list[RunRecord]) -> str:
    return f"run {rows[0].run_id}" if len(rows) == 1 else n_of(len(rows), "run")


class ResultsControl:
    """Owns `state.table` and the cursor on it, and which runs are off the list."""

    def __init__(self, desk: Desk, baseline: BaselineControl, session: Engine) -> None:
        self._desk, self._baseline, self._session = desk, baseline, session
        self._state = desk.state
        self._hidden: Unsettled[int, bool] = Unsettled()
        self._notes: Unsettled[int, str] = Unsettled()

    def move(self, delta: int) -> None:
        """Move the cursor of the results table."""
        self._state.select(delta)
        self._desk.say()

    def select(self, run_id: int) -> None:
        """Put the cursor on a run."""
        self._state.selected_run = run_id
        self._desk.say()

    def mark(self) -> None:
        """Mark the run under the cursor, or unmark it, and go on to the next."""
        row = self._state.selected
        if row is None:
            return
        self._state.table.marked ^= {row.run_id}
        self._state.select(1)
        self._desk.say()

    def sort(self, direction: int) -> None:
        """Sort by the next column."""
        self._state.table.sort_by_next(direction, self._state.table_job, self._state.rows)
        self._desk.say()

    def reverse(self) -> None:
        """Largest first, or smallest first again."""
        self._state.table.descending = not self._state.table.descending
        self._desk.say()

    def filter(self) -> None:
        """Ask for words that rows must have."""
        from tui.screens.line import LineScreen

        state = self._state

        def count(query: str) -> str:
            notes = state.table.notes
            found = sum(matches(query, row, notes.get(row.run_id, "")) for row in state.finished)
            return f"{found} of {n_of(len(state.finished), 'run')}"

        def take(query: str | None) -> None:
            if query is not None:
                state.table.query, state.selected_run = query.strip(), None

        why = "What its row must show (model, status, a figure), device, note, or knob=value. Empty: all runs."
        self._desk.open(LineScreen("Filter runs", why, state.table.query, on_change=count), take)

    def show_all(self) -> bool:
        """Take the filter away; False where there is none."""
        table = self._state.table
        if not table.query:
            return False
        table.query = ""
        self._desk.say(f"all {len(self._state.rows)} runs")
        return True

    def details(self) -> None:
        """Everything known about the selected run."""
        from tui.screens.details import run_details

        row, state = self._state.selected, self._state
        if row is None:
            return
        deltas = Deltas()
        deltas.measure_by(state.finished, state.base)
        note = state.table.notes.get(row.run_id, "")
        self._desk.open(run_details(row, self._desk.app.size.width, note, deltas.scaling(row)))

    # notes --------------------------------------------------------------------------------------------------------

    def note(self) -> None:
        """Write a note on the run under the cursor."""
        from tui.screens.line import LineScreen

        row = self._state.selected
        if row is None:
            self._desk.say("no run to write on")
            return
        run_id, written = row.run_id, self._state.table.notes.get(row.run_id, "")

        def take(text: str | None) -> None:
            if text is not None:
                self._notes.begin(run_id, self._state.table.notes.get(run_id, ""))
                self._show_note(run_id, text.strip())
                self._session.keep(Note(run_id=run_id, text=text.strip()))

        why = "Kept with the run, and found by the filter. Empty: no note."
        self._desk.open(LineScreen(f"Note on run {run_id}", why, written), take)

    def _show_note(self, run_id: int, text: str) -> None:
        if text:
            self._state.table.notes[run_id] = note_of(text)
        else:
            self._state.table.notes.pop(run_id, None)

    # deleting -----------------------------------------------------------------------------------------------------

    def marked_rows(self) -> list[RunRecord]:
        """Marked rows that are shown; without any the one under the cursor."""
        marked = [row for row in self._state.rows if row.run_id in self._state.table.marked]
        selected = self._state.selected
        return marked or ([selected] if selected is not None else [])

    def delete(self) -> None:
        """Take the marked runs, or the one under the cursor, off the list; it can be undone."""
        rows = [row for row in self.marked_rows() if row.outcome is not Outcome.RUNNING]
        if not rows:
            self._desk.say("a run under way stays; s stops it" if self._state.rows else "no run to delete")
            return
        for row in rows:
            self._hidden.begin(row.run_id, False)
        self._hide(rows)
        self._session.keep(Delete(run_ids=tuple(row.run_id for row in rows)))
        self._desk.say(f"{_runs(rows)} deleted: U brings {'it' if len(rows) == 1 else 'them'} back")

    def restore(self) -> None:
        """Bring back what was deleted last."""
        if not self._state.table.deleted:
            self._desk.say("nothing was deleted")
            return
        rows = self._state.table.deleted[-1]
        for row in rows:
            self._hidden.begin(row.run_id, True)
        self._bring_back({row.run_id for row in rows})
        self._session.keep(Restore(run_ids=tuple(row.run_id for row in rows)))
        self._desk.say(f"{_runs(rows)} brought back")

    def _hide(self, rows: list[RunRecord]) -> None:
        """Take rows off the list, for `restore` to bring back."""
        gone = {row.run_id for row in rows}
        self._leave_cursor(gone)
        self._state.finished = [row for row in self._state.finished if row.run_id not in gone]
        self._state.table.marked -= gone
        self._state.table.deleted.append(rows)
        self._baseline.show()

    def _bring_back(self, run_ids: AbstractSet[int]) -> None:
        """Put deleted rows on the list again."""
        table = self._state.table
        rows = [row for deleted in table.deleted for row in deleted if row.run_id in run_ids]
        left = [[row for row in deleted if row.run_id not in run_ids] for deleted in table.deleted]
        table.deleted = [deleted for deleted in left if deleted]
        self._state.add_history(rows)
        self._state.selected_run = rows[0].run_id
        self._baseline.show()

    def _leave_cursor(self, gone: set[int]) -> None:
        """Put the cursor on a row beside those that go."""
        rows, current = self._state.rows, self._state.selected
        if current is None or current.run_id not in gone or self._state.selected_run is None:
            return
        index = place_of(current, rows)
        others = [row for row in [*rows[index:], *reversed(rows[:index])] if row.run_id not in gone]
        self._state.selected_run = others[0].run_id if others else None

    # what came of it ----------------------------------------------------------------------------------------------

    def settle_note(self, event: HistoryChanged, change: Note) -> None:
        """A note was written, or was not: then the one before it is shown again."""
        shown = self._state.table.notes.get(change.run_id, "")
        written = event.problem is None
        self._show_note(change.run_id, self._notes.end(change.run_id, change.text, shown, written=written))

    def settle_list(self, event: HistoryChanged, change: Delete | Restore) -> None:
        """Runs were deleted or brought back, or were not: then the list is put right."""
        is_off, written = self._state.table.deleted_ids, event.problem is None
        wanted = {
            run_id: self._hidden.end(run_id, isinstance(change, Delete), run_id in is_off, written=written)
            for run_id in change.run_ids
        }
        back = {run_id for run_id, hidden in wanted.items() if not hidden and run_id in is_off}
        if back:
            self._bring_back(back)
        gone = {run_id for run_id, hidden in wanted.items() if hidden and run_id not in is_off}
        if rows := [row for row in self._state.finished if row.run_id in gone]:
            self._hide(rows)
