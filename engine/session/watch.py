"""Follows runs that other programs drive, through the history that they write. Only reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

from engine.contract.config import RunConfig
from engine.contract.events import Event, Logged, RunFinished, RunRefused
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History, HistoryError
from engine.session.playback import BATCH, POLL_S, Playback, beginning

_CHECK_S = 1.0  # a killed process writes nothing, so it is looked for
_LOOK_BACK = 500  # runs that may still be under way when the watching begins


class Watch(Playback):
    """The run under way in a history, as it goes, and those that begin later; with `run_id` that one alone.

    The history is asked at most every `POLL_S` seconds, by one pragma while nothing was written. A run is followed to
    its end before the next is shown; of several under way the newest, the others end in the results table. A run
    whose process is gone ends `interrupted` here; its row is left to the next program that writes. With `show_last`
    the newest run is shown while none is under way.
    """

    def __init__(
        self,
        history: History,
        run_id: int | None = None,
        *,
        show_last: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(history, clock=clock, sleep=sleep)
        self._only = run_id
        self._show_last = show_last
        self._ask_at = self._check_at = float("-inf")
        self._token: int | None = None
        self._stream: Iterator[Event] | None = None
        self._under_way: set[int] = set()
        self._newest: int | None = None  # the largest number seen
        self._followed: tuple[int, RunConfig] | None = None
        self._seq = 0
        self._lost: dict[int, RunRecord] = {}
        self._told = ""

    @property
    def label(self) -> str:
        """`watching`."""
        return "watching" if self._only is None else f"watching run {self._only}"

    def _due(self) -> list[Event]:
        if self._stream is None:
            now = self._clock()
            if now < self._ask_at:
                return []
            self._ask_at = now + POLL_S
            self._stream = self._news(now)
        events: list[Event] = []
        try:
            for event in islice(self._stream, BATCH):
                events.append(event)
        except HistoryError as error:
            self._stream = self._token = None  # a generator that raised is over; all of it is asked again
            return events + self._tell(str(error))
        if len(events) < BATCH:
            self._stream = None
            self._told = ""
        return events

    def _tell(self, problem: str) -> list[Event]:
        if problem == self._told:
            return []
        self._told = problem
        return [Logged(source="history", text=problem, level="error")]

    def _news(self, now: float) -> Iterator[Event]:
        token = self._history.change_token()  # first: what is written while this reads is read next time
        if token == self._token and (now < self._check_at or not self._under_way):
            return
        self._check_at = now + _CHECK_S
        rows = self._rows()
        if self._followed is not None:
            yield from self._follow(rows.get(self._followed[0]))
        yield from self._others(rows)
        while self._followed is None and self._under_way:
            newest = max(self._under_way)
            yield from self._begin(rows[newest])
        self._token = token

    def _rows(self) -> dict[int, RunRecord]:
        """The runs that matter, by number: those that were under way, and newer ones."""
        if self._only is not None:
            one = self._history.run(self._only)
            found = [] if one is None else [one]
        elif self._newest is None:
            found = self._history.runs(limit=_LOOK_BACK, newest_first=True)
        else:
            found = self._history.runs(after_id=min(self._under_way, default=self._newest + 1) - 1)
        rows = {record.run_id: record for record in found}
        if any(record.outcome is Outcome.RUNNING for record in found):
            self._lost = {record.run_id: record for record in self._history.lost_runs() if record.run_id in rows}
            rows |= self._lost
        return rows

    def _follow(self, row: RunRecord | None) -> Iterator[Event]:
        """What the run on the screen has done since; the row was read first, so that its end comes last."""
        assert self._followed is not None
        run_id, config = self._followed
        for seq, event in self._history.series(run_id, after=self._seq):
            self._seq = seq
            yield event
        if row is not None and row.outcome is Outcome.RUNNING:
            return
        self._followed = None
        self._under_way.discard(run_id)
        if row is not None:
            yield RunFinished(record=row)
        else:
            message = f"Run {run_id} is gone from the history: it was refused where it was started, or deleted."
            yield RunRefused(run_id=run_id, config=config, knob="", message=message)

    def _others(self, rows: dict[int, RunRecord]) -> Iterator[Event]:
        """Runs that are not on the screen: those that ended, and those that are new."""
        on_screen = self._followed[0] if self._followed is not None else None
        for run_id in sorted(self._under_way - {on_screen}):
            row = rows.get(run_id)
            if row is None or row.outcome is not Outcome.RUNNING:
                self._under_way.discard(run_id)
            if row is not None and row.outcome is not Outcome.RUNNING:
                yield RunFinished(record=row)
        first, seen = self._newest is None, self._newest or 0
        fresh = [rows[run_id] for run_id in sorted(rows) if run_id > seen]
        self._newest = max([seen, *rows])
        self._under_way |= {row.run_id for row in fresh if row.outcome is Outcome.RUNNING}
        ended = [row for row in fresh if row.outcome is not Outcome.RUNNING]
        if first:
            ended = self._worth_showing(ended)
            if self._show_last:  # the table has read their rows, and those still say running
                yield from (RunFinished(record=row) for row in self._lost.values() if row not in ended)
        for row in ended:
            yield from self._begin(row) if on_screen is None else [RunFinished(record=row)]

    def _worth_showing(self, ended: list[RunRecord]) -> list[RunRecord]:
        """Of the runs that were over before the watching began: the one asked for, or the newest."""
        if self._only is not None or (self._show_last and not self._under_way):
            return ended[-1:]
        return []

    def _begin(self, row: RunRecord) -> Iterator[Event]:
        """Show a run from its start to where it is."""
        self._followed, self._seq = (row.run_id, row.config), 0
        yield beginning(row)
        yield from self._follow(row)
