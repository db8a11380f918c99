"""Runs under way: begun, appended to, flushed, finished; what cannot be written is kept and tried again."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import defaultdict
from dataclasses import replace

from engine.contract.config import RunConfig
from engine.contract.events import FREQUENT, Event, Logged, RankBeat
from engine.contract.records import DeviceInfo, RunRecord
from engine.contract.run_figures import RunFigures, new_record
from engine.history.errors import HistoryError, NoRoomError, explain, is_locked
from engine.history.live import LiveRun, insert_promised, insert_run
from engine.history.moving import Restated, keep_elsewhere
from engine.history.records import this_process
from engine.history.salvage import Statement, begin_from
from engine.history.schema import OPEN_WAIT_S
from engine.history.series import STORED
from engine.history.store import Store

MAX_PENDING = 20_000
"""Events that wait for a flush (about 20 MB) before every second frequent one is dropped."""

LONG_BEAT_S = 5.0
"""Ranks tell every second where they stand; only those that stand there as long are worth keeping."""

_FLUSH_WAIT_S = 0.2  # the caller is the sampler: what cannot be written now is written half a second later
_TELL_LOCKED_S = 10.0


class RunWriter:
    """Writes the runs of this process. Any thread may call anything; `append` never waits for the disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.under_way = self._restated
        self.failure: str | None = None
        """Why what was appended is not on the disk, while that lasts."""
        self._append_lock, self._flush_lock = threading.Lock(), threading.Lock()
        self._pending: list[tuple[int, Event]] = []
        self._n_dropped = 0
        self._retry_at = 0.0
        self._locked_since: float | None = None
        self._live: dict[int, LiveRun] = {}
        """By the number that `begin_run` told."""
        self._promised = 0
        """The last number that was told without a row for it."""

    def begin_run(
        self, config: RunConfig, device: DeviceInfo, started_at: float, planned_updates: int | None = None
    ) -> int:
        """Give a run its row, outcome `running`, and return its number. `started_at` in Unix time.

        Where there is no room for a row it is promised the next number, and a later `flush` writes it. Raises
        `HistoryError`.
        """
        record = replace(new_record(0, config, device, started_at), planned_updates=planned_updates)
        with self._flush_lock:
            stored = True
            try:
                run_id = self._store.change([insert_run(record)])
            except NoRoomError:
                run_id, stored = self._next_number(), False
                self._promised = run_id
            live = LiveRun(run_id, RunFigures(replace(record, run_id=run_id)), stored=stored)
            self._live = {**self._live, run_id: live}
        return run_id

    def _next_number(self) -> int:
        given = self._store.rows("SELECT max(seq) FROM sqlite_sequence WHERE name = 'runs'")[0][0] or 0
        return 1 + max(given, *self._live, *(live.run_id for live in self._live.values()), self._promised)

    def is_writing(self, run_id: int) -> bool:
        """Whether this object has begun the run and not finished it."""
        return any(live.stored and live.run_id == run_id for live in self._live.values())

    def append(self, event: Event) -> None:
        """Remember an event for the next flush; never touches the disk.

        Takes the kinds in `engine.history.series.STORED` of a run that this object began and that has not
        finished, and ignores the others. `Logged` belongs to the newest such run. While the disk fails, memory
        stays bounded: beyond `MAX_PENDING` every second update, sample and log line is dropped, so curves keep their
        shape, and rare events are kept.
        """
        if not isinstance(event, STORED) or (isinstance(event, RankBeat) and event.since_s < LONG_BEAT_S):
            return
        run_id = max(self._live, default=None) if isinstance(event, Logged) else event.run_id
        if run_id is None or run_id not in self._live:
            return
        with self._append_lock:
            self._pending.append((run_id, event))
            if len(self._pending) > MAX_PENDING:
                self._thin_out()

    def _thin_out(self) -> None:
        kept: list[tuple[int, Event]] = []
        keep = False
        for item in self._pending:
            keep = not keep if isinstance(item[1], FREQUENT) else keep
            if keep or not isinstance(item[1], FREQUENT):
                kept.append(item)
        self._n_dropped += len(self._pending) - len(kept)
        self._pending = kept

    def flush(self) -> str | None:
        """Write what was appended, and the heartbeat of the runs under way, in one transaction. Never raises.

        Waits at most 0.2 s for another writer. What could not be written is kept for the next flush. Returns a
        sentence when that fails for a new reason (for a locked file: after 10 s), when it works again after
        events were dropped, or when the file was lost and begun again; else None. `failure` says how it stands.
        """
        return self._tell(self._flush(_FLUSH_WAIT_S)) if time.monotonic() >= self._retry_at else None

    def finish_run(self, record: RunRecord) -> None:
        """Complete the row of a run that this object began, and write the rest of its series.

        On `HistoryError` the record is kept and written by a later `flush`, as the events are.
        """
        with self._flush_lock:
            if record.run_id not in self._live:
                raise HistoryError(f"Run {record.run_id} is not under way here, so its end cannot be written.")
            self._live = {**self._live, record.run_id: replace(self._live[record.run_id], final=record)}
        error = self._flush(OPEN_WAIT_S)
        if error is not None:
            self.failure = self._why(error)
            raise HistoryError(self.failure)

    def interrupt_runs(self, message: str) -> str | None:
        """Complete the rows of the runs under way here as `interrupted`: their process is about to end.

        Returns what `flush` does.
        """
        told = self._tell(self._flush(_FLUSH_WAIT_S))  # what is under way knows then all that it has shown
        with self._flush_lock:
            self._live = {run_id: live.interrupted(message) for run_id, live in self._live.items()}
        return self._tell(self._flush(_FLUSH_WAIT_S)) if self._live else told

    def drop_run(self, run_id: int) -> None:
        """Forget a run that this object began and that turned out not to be one: its row and events are gone.

        On `HistoryError` they go with a later `flush`.
        """
        with self._flush_lock:
            dropped = self._live.get(run_id)
            self._live = {number: live for number, live in self._live.items() if number != run_id}
            if dropped is not None and not dropped.stored:
                return
            tables = ("batches", "runs")
            self._store.change_or_owe([(f"DELETE FROM {table} WHERE run_id = ?", (run_id,)) for table in tables])

    def end(self) -> str | None:
        """Write what is left, at the end of the program; a sentence when something is not in the history by then.

        Such runs are kept in a file elsewhere, if any can be written. Never raises.
        """
        if not self._live and not self._store.owes:
            return self._place()
        error = self._flush(OPEN_WAIT_S)
        if error is None:
            return self._place()
        why, live = self._why(error), self._with_pending()
        self._write_rows_alone(live)
        numbers = " and ".join(str(run_id) for run_id in live)
        what = f"Not all of {f'run {numbers}' if live else 'a plan'} is in the history"
        more = [statement for run in live.values() for statement in run.whole()]
        try:
            folder = keep_elsewhere(self._store.path, lambda path: begin_from(path, None, more)) if more else None
        except HistoryError as problem:
            return f"{what}, and the rest is lost. {why} {problem}"
        kept = f" All of it is kept in {folder}: `traintop runs --history-dir {folder}` shows it." if folder else ""
        return f"{what}. {why}{kept}"

    def _place(self) -> str | None:
        """Where the history is, if not where it was asked for."""
        path, asked_for = self._store.path, self._store.asked_for
        if path == asked_for:
            return None
        shown = f"`traintop runs --history-dir {path.parent}` shows it."
        return f"The history {asked_for} was lost while it was in use; it is kept in {path.parent}: {shown}"

    def _write_rows_alone(self, live: dict[int, LiveRun]) -> None:
        """At least say how the runs ended: a row needs less room than its series."""
        for run in live.values():
            if run.final is not None and run.stored:
                message = run.final.message or "Its series is not complete: the history could not be written."
                row = replace(run, final=replace(run.final, message=message)).row()
                try:
                    self._store.apply(row, 0.0)
                except (sqlite3.Error, HistoryError):
                    return

    def _with_pending(self) -> dict[int, LiveRun]:
        """The runs under way as if all had been written."""
        with self._flush_lock, self._append_lock:
            events = _by_run(self._pending)
            return {run_id: live.after(events[run_id])[0] for run_id, live in self._live.items()}

    def _restated(self) -> Restated:
        return {live.run_id: live.whole() for live in self._live.values() if live.stored}

    def _why(self, error: Exception) -> str:
        return str(explain(self._store.path, error) if isinstance(error, sqlite3.Error) else error)

    def _tell(self, error: Exception | None) -> str | None:
        news = self._store.take_news()
        if error is None:
            self.failure = self._locked_since = None
            n_dropped, self._n_dropped = self._n_dropped, 0
            if n_dropped:
                again = f"The history {self._store.path} is written again; {n_dropped} readings had to be dropped."
                return f"{news} {again}" if news else again
            return news
        if is_locked(error):
            self._locked_since = self._locked_since or time.monotonic()
            if time.monotonic() - self._locked_since < _TELL_LOCKED_S:
                return news
        told, self.failure = self.failure, self._why(error)
        return news if told == self.failure else f"{news} {self.failure}" if news else self.failure

    def _flush(self, wait_s: float) -> sqlite3.Error | HistoryError | None:
        with self._flush_lock:
            with self._append_lock:
                pending, self._pending = self._pending, []
            events = _by_run(pending)
            began, after, statements = time.thread_time(), {}, list[Statement]()
            try:
                self._store_promised(wait_s)
                for run_id, live in self._live.items():
                    after[run_id], more = live.after(events[run_id])
                    statements += more
                if statements or self._store.owes:
                    self._store.apply(statements, wait_s)
            except (sqlite3.Error, HistoryError) as error:
                with self._append_lock:
                    self._pending[:0] = pending
                # packing a long backlog again and again must not take the trainer's time: a tenth of a core at most
                self._retry_at = time.monotonic() + 10 * (time.thread_time() - began)
                return error
            self._live = {run_id: live for run_id, live in after.items() if live.final is None}
            return None

    def _store_promised(self, wait_s: float) -> None:
        """Give the runs that have none their rows. Raises `sqlite3.Error` and `HistoryError`."""
        for promised, live in self._live.items():
            if live.stored:
                continue
            run_id = self._store.apply([insert_promised(live.record, promised)], wait_s)
            self._live = {**self._live, promised: replace(live, run_id=run_id, stored=True)}
            if run_id != promised:
                ours = "SELECT plan_id FROM plans WHERE machine = ? AND pid = ? AND abs(process_started - ?) < 2"
                owner = this_process()
                place = (owner.machine, owner.pid, owner.process_started)
                update = f"UPDATE plan_steps SET run_id = ? WHERE run_id = ? AND plan_id IN ({ours})"
                self._store.tell(
                    f"Run {promised} is run {run_id} in the history: another program had taken its number meanwhile."
                )
                self._store.change_or_owe([(update, (run_id, promised, *place))])


def _by_run(pending: list[tuple[int, Event]]) -> defaultdict[int, list[Event]]:
    events: defaultdict[int, list[Event]] = defaultdict(list)
    for run_id, event in pending:
        events[run_id].append(event)
    return events
