"""The baseline: pinning a run, and its curves behind those of another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from engine.contract.changes import Pin
from engine.contract.events import Event, HistoryChanged
from engine.contract.records import Outcome, RunRecord
from tui.desk.desk import Desk
from tui.desk.readings import Readings
from tui.state.unsettled import Unsettled
from tui.state.view import Ghost

if TYPE_CHECKING:
    from engine.history.history import History
    from engine.session.engine import Engine

SLICE = 500
"""Events of a stored series that are read between two turns: a long run must not take the trainer's time."""


class _Series:
    """A run's stored events, slice by slice; asked by one thread at a time."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        self._events: Iterator[tuple[int, Event]] | None = None

    def __call__(self, history: History) -> list[Event]:
        if self._events is None:
            self._events = iter(history.series(self._run_id))
        return [event for _, event in islice(self._events, SLICE)]


class BaselineControl:
    """Owns which run of a job is pinned (`state.baselines` while it is on the list) and the reading of its curves."""

    def __init__(self, desk: Desk, readings: Readings, session: Engine) -> None:
        self._desk, self._readings, self._session = desk, readings, session
        self._pinned: dict[str, int] = {}
        self._unsettled: Unsettled[str, int | None] = Unsettled()
        self._series: dict[str, _Series] = {}
        self._is_asked = False

    @property
    def reads(self) -> bool:
        """Whether a baseline's curves are not there yet."""
        return bool(self._series)

    def pin(self) -> None:
        """Make the selected run the baseline of its job, or let go of it; one under way becomes it at its end."""
        state, row = self._desk.state, self._desk.state.selected
        if row is None:
            self._desk.say("no run to pin yet: r runs")
        elif row.outcome is Outcome.RUNNING:
            state.awaited_baseline = None if state.awaited_baseline == row.run_id else row.run_id
            awaited = f"run {row.run_id} becomes the baseline when it has ended: space takes that back"
            self._desk.say(awaited if state.awaited_baseline else f"run {row.run_id} will not be the baseline")
        else:
            pinned = None if row.run_id == state.baselines.get(row.config.job) else row.run_id
            state.awaited_baseline = None
            self._pin(row.config.job, pinned)
            self._desk.say("no baseline" if pinned is None else f"run {pinned} is the baseline")

    def _pin(self, job: str, run_id: int | None) -> None:
        self._unsettled.begin(job, self._pinned.get(job))
        self.take(job, run_id)
        self._session.keep(Pin(run_id=run_id, job=job))

    def ended(self, record: RunRecord) -> None:
        """A run ended: pin it where that was asked for, unless it has nothing to be compared with."""
        state = self._desk.state
        if record.run_id != state.awaited_baseline:
            return
        state.awaited_baseline = None
        if record.outcome in (Outcome.COMPLETED, Outcome.STOPPED):
            self._pin(record.config.job, record.run_id)
            state.notice = f"run {record.run_id} is the baseline"
        else:
            state.notice = f"run {record.run_id} {record.outcome.words}: the baseline stays as it was"

    def take(self, job: str, run_id: int | None) -> None:
        """Another run is the baseline of a job, or none is."""
        if run_id is None:
            self._pinned.pop(job, None)
        else:
            self._pinned[job] = run_id
        self.show()

    def forget(self) -> None:
        """No job has a baseline."""
        self._pinned.clear()
        self.show()

    def show(self) -> None:
        """Show the pinned runs as baselines unless they are deleted, and begin to read their curves."""
        state = self._desk.state
        wanted = {job: run_id for job, run_id in self._pinned.items() if run_id not in state.table.deleted_ids}
        for job in [job for job, run_id in state.baselines.items() if wanted.get(job) != run_id]:
            del state.baselines[job], state.view.ghosts[job]
            self._series.pop(job, None)
        for job, run_id in wanted.items():
            if job not in state.baselines:
                state.baselines[job] = run_id
                row = state.record_of(run_id)
                state.view.ghosts[job] = Ghost(run_id, row.config if row is not None else None)
                self._series[job] = _Series(run_id)

    def settle(self, event: HistoryChanged, change: Pin) -> None:
        """A pin was written, or was not: then the one before it is shown again."""
        shown = self._pinned.get(change.job)
        self.take(change.job, self._unsettled.end(change.job, change.run_id, shown, written=event.problem is None))

    def read_on(self) -> None:
        """Ask for the next slice of a baseline's series, where the last one is there."""
        if not self._series or self._is_asked:
            return
        job, series = next(iter(self._series.items()))
        ghost = self._desk.state.view.ghosts[job]
        self._is_asked = True

        def take(events: list[Event]) -> None:
            self._is_asked = False
            ghost.add(events)
            if len(events) < SLICE and self._series.get(job) is series:
                del self._series[job]

        def fail(problem: str) -> None:
            self._is_asked = False
            if self._series.get(job) is series:
                del self._series[job]
            self._desk.state.write("history", problem, "warning")

        self._readings.ask(series, take, fail)
