"""A run that this process is writing: what of it is stored, and the statements that store more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.contract.events import Event
from engine.contract.records import Outcome, RunRecord
from engine.contract.run_figures import RunFigures
from engine.history.records import this_process, to_config, to_device, to_figures
from engine.history.salvage import Statement
from engine.history.series import pack

_MERGE_BATCHES, _MERGE_EVENTS = 64, 2048
KEPT_BYTES = 16 * 2**20
"""Of a run's packed series in memory, in case its file is lost: about 180,000 updates, the newest."""

_INSERT_BATCH = "INSERT INTO batches (run_id, last_seq, n_events, payload) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class _Batch:
    """A stored row of the series."""

    last_seq: int
    n_events: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run under way as its file has it. Each flush adds a small batch; 64 of them become one, which compresses to a
    quarter. At the run's end too.
    """

    run_id: int
    """Of its row; while it has none, that which it was promised."""
    figures: RunFigures
    last_seq: int = 0
    merged: tuple[_Batch, ...] = ()
    """Final rows, as far as they are kept; those after them are small, one per flush, and will be merged."""
    n_open: int = 0
    open_events: list[Event] = field(default_factory=list)
    """Events of the small rows."""
    final: RunRecord | None = None
    """The finished run, once it has ended."""
    stored: bool = True
    """False while there was no room for its row."""

    @property
    def record(self) -> RunRecord:
        """What its row says."""
        return self.final or self.figures.as_record()

    def interrupted(self, message: str) -> LiveRun:
        """The run as it ends when its process leaves it; one that has ended stays as it is."""
        ended = replace(self.record, outcome=Outcome.INTERRUPTED, message=message)
        return self if self.final else replace(self, final=ended)

    def after(self, events: list[Event]) -> tuple[LiveRun, list[Statement]]:
        """The run when these events are stored too, and the statements that bring its rows there."""
        figures = self.figures.after(events) if events else self.figures
        last_seq, merged = self.last_seq + len(events), self.merged
        open_events, n_open = self.open_events + events, self.n_open + bool(events)
        statements: list[Statement] = []
        if open_events and (self.final or n_open >= _MERGE_BATCHES or len(open_events) >= _MERGE_EVENTS):
            batch = _Batch(last_seq, len(open_events), pack(open_events))
            small = "DELETE FROM batches WHERE run_id = ? AND last_seq > ?"
            statements = [(small, (self.run_id, last_seq - len(open_events))), self._insert(batch)]
            open_events, n_open, merged = [], 0, _newest((*merged, batch))
        elif events:
            statements = [self._insert(_Batch(last_seq, len(events), pack(events, level=1)))]
        now = LiveRun(self.run_id, figures, last_seq, merged, n_open, open_events, self.final, self.stored)
        return now, [*statements, *now.row()]

    def row(self) -> list[Statement]:
        """What brings its row, which is there, up to date."""
        # the outcome too: another host may have taken a suspended process for dead
        update = (
            "UPDATE runs SET outcome = ?, heartbeat = ?, started_at = ?, config = ?, device = ?, figures = ? "
            "WHERE run_id = ?"
        )
        return [(update, (*_figures_of(self.record), self.run_id))]

    def whole(self) -> list[Statement]:
        """What writes all of it that is in memory into another file, where it may be already."""
        rows = self.merged
        if self.open_events:
            rows = (*rows, _Batch(self.last_seq, len(self.open_events), pack(self.open_events)))
        first = rows[0].last_seq - rows[0].n_events if rows else self.last_seq
        return [
            insert_run(self.record, self.run_id),
            *self.row(),
            ("DELETE FROM batches WHERE run_id = ? AND last_seq > ?", (self.run_id, first)),
            *map(self._insert, rows),
        ]

    def _insert(self, batch: _Batch) -> Statement:
        return _INSERT_BATCH, (self.run_id, batch.last_seq, batch.n_events, batch.payload)


def _newest(batches: Sequence[_Batch]) -> tuple[_Batch, ...]:
    """Those that are kept in memory."""
    size, first = 0, len(batches)
    while first and (size := size + len(batches[first - 1].payload)) <= KEPT_BYTES:
        first -= 1
    return tuple(batches[first:])


def insert_run(record: RunRecord, run_id: int | None = None) -> Statement:
    """A row for a run of this process; nothing where there is one of that number."""
    owner = this_process()
    place = (owner.host, owner.machine, owner.pid, owner.process_started)
    insert = (
        "INSERT OR IGNORE INTO runs (outcome, heartbeat, started_at, config, device, figures, host, machine, pid, "
        "process_started, run_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    return insert, (*_figures_of(record), *place, run_id)


def insert_promised(record: RunRecord, run_id: int) -> Statement:
    """A row under the number that a run was promised, or the next one where that was given to another meanwhile."""
    insert, (*values, _) = insert_run(record)
    free = "(SELECT ? WHERE ? > ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'runs'), 0))"
    marks = ", ".join("?" * len(values))
    return f"{insert.partition(' VALUES')[0]} VALUES ({marks}, {free})", (*values, run_id, run_id)


def _figures_of(record: RunRecord) -> tuple[str | float | None, ...]:
    texts = (to_config(record.config), to_device(record.device), to_figures(record))
    return (record.outcome.value, time.time(), record.started_at, *texts)
