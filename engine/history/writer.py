"""The writing side of the history: one connection for writing, one for reading, and the runs under way."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import FREQUENT, Event, Logged
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.contract.run_figures import RunFigures, new_record
from engine.history.file import OPEN_WAIT_S, HistoryError, explain, open_file
from engine.history.records import this_process, to_config, to_device, to_figures
from engine.history.series import STORED, pack

MAX_PENDING = 20_000
"""Events that wait for a flush (about 20 MB) before every second frequent one is dropped."""

_FLUSH_WAIT_S = 0.2  # the caller is the sampler: what cannot be written now is written half a second later
_TELL_LOCKED_S = 10.0
_MERGE_BATCHES, _MERGE_EVENTS = 64, 2048

Statement = tuple[str, tuple[Any, ...]]
"""SQL and its values."""


@dataclass(frozen=True, slots=True)
class _Live:
    """A run that this process is writing."""

    run_id: int
    figures: RunFigures
    last_seq: int = 0
    merged_seq: int = 0
    """Batches after this one are small, one per flush, and will be merged."""
    n_open: int = 0
    open_events: list[Event] = field(default_factory=list)
    final: RunRecord | None = None


class HistoryWriter:
    """What `engine.history.history.History` does while runs are under way. Any thread may call anything."""

    def __init__(self, path: Path) -> None:
        self.path = path
        opened = open_file(path)
        self._write, self._read = opened.write, opened.read
        self.journal_mode: str = opened.journal_mode
        """`wal` or `delete`."""
        self.file_system: str | None = opened.file_system
        """The type as the kernel names it (`ext4`, `nfs4`); None where the platform does not say."""
        self.notice: str | None = opened.notice
        """One sentence when a damaged file was set aside at opening."""
        self.failure: str | None = None
        """Why what was appended is not on the disk, while that lasts."""
        self._append_lock, self._flush_lock = threading.Lock(), threading.Lock()
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        self._pending: list[tuple[int, Event]] = []
        self._n_dropped = 0
        self._retry_at = 0.0
        self._locked_since: float | None = None
        self._live: dict[int, _Live] = {}

    def close(self) -> str | None:
        """Flush, and let go of the file. Returns what `flush` does."""
        told = self._tell(self._flush(OPEN_WAIT_S)) if self._live else None
        with self._write_lock, self._read_lock:
            self._read.close()
            self._write.close()
        return told

    def begin_run(
        self, config: RunConfig, device: DeviceInfo, started_at: float, planned_updates: int | None = None
    ) -> int:
        """Give a run its row, outcome `running`, and return its number. `started_at` in Unix time."""
        owner = this_process()
        record = replace(new_record(0, config, device, started_at), planned_updates=planned_updates)
        insert = (
            "INSERT INTO runs (outcome, started_at, heartbeat, host, machine, pid, process_started, config, device, "
            "figures) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        place = (owner.host, owner.machine, owner.pid, owner.process_started)
        texts = (to_config(config), to_device(device), to_figures(record))
        values = (record.outcome.value, started_at, time.time(), *place, *texts)
        with self._flush_lock:
            run_id = self._change([(insert, values)])
            self._live[run_id] = _Live(run_id, RunFigures(replace(record, run_id=run_id)))
        return run_id

    def append(self, event: Event) -> None:
        """Remember an event for the next flush; never touches the disk.

        Takes the kinds in `engine.history.series.STORED` of a run that this object began and that has not
        finished, and ignores the others. `Logged` belongs to the newest such run. While the disk fails, memory
        stays bounded: beyond `MAX_PENDING` every second update, sample and log line is dropped, so curves keep their
        shape, and rare events are kept.
        """
        if not isinstance(event, STORED):
            return
        run_id = max(tuple(self._live), default=None) if isinstance(event, Logged) else event.run_id
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
        sentence when that fails for a new reason (for a locked file: after 10 s), or when it works again after
        events were dropped; else None. `failure` says how it stands.
        """
        return self._tell(self._flush(_FLUSH_WAIT_S)) if time.monotonic() >= self._retry_at else None

    def finish_run(self, record: RunRecord) -> None:
        """Complete the row of a run that this object began, and write the rest of its series.

        On `HistoryError` the record is kept and written by a later `flush`, as the events are.
        """
        with self._flush_lock:
            if record.run_id not in self._live:
                raise HistoryError(f"Run {record.run_id} is not under way here, so its end cannot be written.")
            self._live[record.run_id] = replace(self._live[record.run_id], final=record)
        error = self._flush(OPEN_WAIT_S)
        if error is not None:
            raise HistoryError(explain(self.path, error)) from None

    def interrupt_runs(self, message: str) -> str | None:
        """Complete the rows of the runs under way here as `interrupted`: their process is about to end.

        Returns what `flush` does.
        """
        told = self._tell(self._flush(_FLUSH_WAIT_S))  # what is under way knows then all that it has shown
        with self._flush_lock:
            for run_id, live in self._live.items():
                ended = replace(live.figures.as_record(), outcome=Outcome.INTERRUPTED, message=message)
                self._live[run_id] = replace(live, final=live.final or ended)
        return self._tell(self._flush(_FLUSH_WAIT_S)) if self._live else told

    def drop_run(self, run_id: int) -> None:
        """Forget a run that this object began and that turned out not to be one: its row and events are gone."""
        with self._flush_lock:
            self._live.pop(run_id, None)
            tables = ("batches", "runs")
            self._change([(f"DELETE FROM {table} WHERE run_id = ?", (run_id,)) for table in tables])

    def _tell(self, error: sqlite3.Error | None) -> str | None:
        if error is None:
            self.failure = self._locked_since = None
            n_dropped, self._n_dropped = self._n_dropped, 0
            if n_dropped:
                return f"The history {self.path} is written again; {n_dropped} readings had to be dropped meanwhile."
            return None
        if "locked" in str(error):
            self._locked_since = self._locked_since or time.monotonic()
            if time.monotonic() - self._locked_since < _TELL_LOCKED_S:
                return None
        told, self.failure = self.failure, explain(self.path, error)
        return None if told == self.failure else self.failure

    def _flush(self, wait_s: float) -> sqlite3.Error | None:
        with self._flush_lock:
            with self._append_lock:
                pending, self._pending = self._pending, []
            events: defaultdict[int, list[Event]] = defaultdict(list)
            for run_id, event in pending:
                events[run_id].append(event)
            began, after, statements = time.thread_time(), {}, []
            for run_id, live in self._live.items():
                after[run_id], more = _advance(live, events[run_id])
                statements += more
            try:
                if statements:
                    self._apply(statements, wait_s)
            except sqlite3.Error as error:
                with self._append_lock:
                    self._pending[:0] = pending
                # packing a long backlog again and again must not take the trainer's time: a tenth of a core at most
                self._retry_at = time.monotonic() + 10 * (time.thread_time() - began)
                return error
            self._live = {run_id: live for run_id, live in after.items() if live.final is None}
            return None

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._read_lock:
                return self._read.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise HistoryError(explain(self.path, error)) from None

    def _change(self, statements: list[Statement]) -> int:
        try:
            return self._apply(statements, OPEN_WAIT_S)
        except sqlite3.Error as error:
            raise HistoryError(explain(self.path, error)) from None

    def _apply(self, statements: list[Statement], wait_s: float) -> int:
        """Run statements in one transaction; the id of the last row inserted. Raises `sqlite3.Error`."""
        deadline = time.monotonic() + wait_s
        with self._write_lock:
            self._write.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
            while True:
                try:
                    self._write.execute("BEGIN IMMEDIATE")  # takes the write lock first: nobody is locked out halfway
                    for query, values in statements:
                        cursor = self._write.execute(query, values)
                    self._write.execute("COMMIT")
                    return cursor.lastrowid or 0
                except sqlite3.Error as error:
                    if self._write.in_transaction:
                        self._write.execute("ROLLBACK")
                    if "locked" not in str(error) or time.monotonic() >= deadline:
                        raise


def _advance(live: _Live, events: list[Event]) -> tuple[_Live, list[Statement]]:
    """A run after these events, and the statements that bring its rows there.

    Each flush adds a small batch; 64 of them become one, which compresses to a quarter. At the run's end too.
    """
    figures = live.figures.after(events) if events else live.figures
    run_id, last_seq = live.run_id, live.last_seq + len(events)
    open_events, n_open = live.open_events + events, live.n_open + bool(events)
    merged_seq = live.merged_seq
    statements: list[Statement] = []
    insert = "INSERT INTO batches (run_id, last_seq, n_events, payload) VALUES (?, ?, ?, ?)"
    if open_events and (live.final or n_open >= _MERGE_BATCHES or len(open_events) >= _MERGE_EVENTS):
        statements = [
            ("DELETE FROM batches WHERE run_id = ? AND last_seq > ?", (run_id, merged_seq)),
            (insert, (run_id, last_seq, len(open_events), pack(open_events))),
        ]
        open_events, n_open, merged_seq = [], 0, last_seq
    elif events:
        statements = [(insert, (run_id, last_seq, len(events), pack(events, level=1)))]
    record = live.final or figures.as_record()
    # the outcome too: another host may have taken a suspended process for dead
    columns = "outcome = ?, heartbeat = ?, started_at = ?, config = ?, device = ?, figures = ?"
    texts = (to_config(record.config), to_device(record.device), to_figures(record))
    values = (record.outcome.value, time.time(), record.started_at, *texts, run_id)
    statements.append((f"UPDATE runs SET {columns} WHERE run_id = ?", values))
    return _Live(run_id, figures, last_seq, merged_seq, n_open, open_events, live.final), statements
