"""The store of all runs: one SQLite file that a run writes while it goes and that anyone may read at the same time.

A run has its row from its first second. What happens is appended in memory and written twice a second in one
transaction, with the row's heartbeat and what the run has shown so far, so a killed process loses at most what
came after the last flush, and the next start marks its run `interrupted`. See `engine.history.file` for how the
file is opened and shared, `engine.history.series` for how events are packed, `engine.history.moving` for what happens
when the file is lost while it is in use.

Threads: any may call anything. One connection writes and one reads, each under its own lock, so that a reader
(the screen) never waits for a writer that waits for another program; `writer.append` takes neither.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.contract import paths
from engine.contract.events import Event
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.records import Outcome, RunRecord
from engine.history.errors import HistoryError, NoRoomError
from engine.history.plans import Plans
from engine.history.records import RECORD_COLUMNS, Owner, read_record, to_figures
from engine.history.salvage import Statement, damaged_files
from engine.history.series import unpack
from engine.history.store import Store
from engine.history.writer import RunWriter

__all__ = ["History", "HistoryError"]

UNDO_S = 30 * 24 * 3600.0
"""How long a deleted run can be restored; later its rows make room at the next deletion."""

_READ_BATCHES = 32
_BASELINES = {TRAIN: "baseline", ANSWER: "baseline of answers", SCRIPT: "baseline of scripts"}
"""By job, the setting that has the pinned run."""
_AMONG = "run_id IN (SELECT value FROM json_each(?))"


class History:
    """The runs, their series, notes and the baseline; `writer` for runs under way, `plans`. A context manager.

    Every method but `close` raises `HistoryError` when the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None, *, read_only: bool = False) -> None:
        """Open or create the file (default `paths.history_file()`), as `engine.history.file.open_file` does.

        With `read_only` it is left as it is wherever that can be, and read also where it is read-only or locked; runs
        whose process is gone are shown as interrupted, without being marked.
        """
        self._store = Store(path or paths.history_file(), read_only=read_only)
        self.writer = RunWriter(self._store)
        self.plans = Plans(self._store)
        self.notice: str | None = self._store.opened.notice
        """One sentence when a damaged file was set aside at opening, or when there is no room to write."""
        self.journal_mode = self._store.opened.journal_mode
        """`wal` or `delete`."""
        self.file_system = self._store.opened.file_system
        """The type as the kernel names it (`ext4`, `nfs4`); None where the platform does not say."""
        self._closed = False

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """Of the file in use; another one than was asked for when that one was lost and could not be made again."""
        return self._store.path

    @property
    def can_write(self) -> bool:
        """False where it was opened to be read only, and while there is no room for it."""
        return self._store.can_write

    @property
    def moved_to(self) -> Path | None:
        """The folder of the file in use, where that is not the one asked for."""
        return None if self._store.path == self._store.asked_for else self._store.path.parent

    @property
    def damaged_files(self) -> list[Path]:
        """Damaged files that were set aside, now or earlier."""
        return damaged_files(self._store.asked_for)

    def close(self) -> str | None:
        """Write what is left, and let go of the file. A sentence when something is not in the history by then."""
        if self._closed:
            return None
        self._closed = True
        told = self.writer.end()
        self._store.close()
        return told

    def mark_interrupted(self) -> list[RunRecord]:
        """Mark runs whose process is gone as `interrupted`, keeping what they had shown, and return them.

        A process of this machine is looked up by its number and start time; one of another machine counts as
        gone when its row was not touched for a minute. Should that be wrong (a suspended host), its
        next flush makes the row `running` again.
        """
        marked: list[RunRecord] = []
        statements: list[Statement] = []
        for heartbeat, record in self._lost():
            update = (
                "UPDATE runs SET outcome = ?, figures = ? WHERE run_id = ? AND outcome = 'running' AND heartbeat IS ?"
            )
            statements.append((update, (record.outcome.value, to_figures(record), record.run_id, heartbeat)))
            marked.append(record)
        if statements:
            with contextlib.suppress(NoRoomError):  # a later start marks them
                self._store.change(statements)
        return marked

    def lost_runs(self) -> list[RunRecord]:
        """The runs that `mark_interrupted` would mark, as it would; only reads."""
        return [record for _, record in self._lost()]

    def _lost(self) -> Iterator[tuple[float, RunRecord]]:
        columns = f"host, machine, pid, process_started, heartbeat, {RECORD_COLUMNS}"
        for row in self._store.rows(f"SELECT {columns} FROM runs WHERE outcome = 'running'"):
            owner, heartbeat, record = Owner(*row[:4]), row[4], read_record(row[5:])
            if self.writer.is_writing(record.run_id) or not owner.is_dead(heartbeat):
                continue
            process = f"The process (number {owner.pid} on {owner.host})"
            message = f"{process} ended without a word: killed, the host went down, or it could not write here."
            if record.config.is_script:
                message += " The script may have gone on without it."
            yield heartbeat, replace(record, outcome=Outcome.INTERRUPTED, message=message)

    def runs(
        self,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        before_id: int | None = None,
        after_id: int | None = None,
        since: float | None = None,
    ) -> list[RunRecord]:
        """The runs in the order they began, deleted ones left out.

        A page: `limit` runs with a number below `before_id` or above `after_id`. `since` is a Unix time.
        """
        order = "DESC" if newest_first else "ASC"
        query = (
            f"SELECT {RECORD_COLUMNS} FROM runs WHERE deleted_at IS NULL AND run_id < ? AND run_id > ? "
            f"AND ifnull(started_at, 0) >= ? ORDER BY run_id {order} LIMIT ?"
        )
        bounds = (2**63 - 1 if before_id is None else before_id, -1 if after_id is None else after_id, since or 0.0)
        return self._records(query, (*bounds, -1 if limit is None else limit))

    def run(self, run_id: int) -> RunRecord | None:
        """One run, also a deleted one; None when there is none of this number."""
        records = self._records(f"SELECT {RECORD_COLUMNS} FROM runs WHERE run_id = ?", (run_id,))
        return records[0] if records else None

    def _records(self, query: str, values: tuple[Any, ...]) -> list[RunRecord]:
        records = [read_record(row) for row in self._store.rows(query, values)]
        if self._store.can_write or all(record.outcome is not Outcome.RUNNING for record in records):
            return records
        lost = {record.run_id: record for record in self.lost_runs()}
        return [lost.get(record.run_id, record) for record in records]

    def n_runs(self) -> int:
        """How many runs `runs` would list."""
        return int(self._store.rows("SELECT count(*) FROM runs WHERE deleted_at IS NULL")[0][0])

    def delete(self, run_ids: Iterable[int]) -> None:
        """Take runs off the list; `restore` undoes it for 30 days."""
        now = time.time()
        old = "SELECT run_id FROM runs WHERE deleted_at < ? AND outcome <> 'running'"
        self._store.change(
            [
                (f"DELETE FROM batches WHERE run_id IN ({old})", (now - UNDO_S,)),
                (f"DELETE FROM runs WHERE run_id IN ({old})", (now - UNDO_S,)),
                (
                    f"UPDATE runs SET deleted_at = ? WHERE deleted_at IS NULL AND {_AMONG}",
                    (now, json.dumps(list(run_ids))),
                ),
            ]
        )

    def restore(self, run_ids: Iterable[int]) -> None:
        """Put deleted runs back on the list."""
        self._store.change([(f"UPDATE runs SET deleted_at = NULL WHERE {_AMONG}", (json.dumps(list(run_ids)),))])

    def note(self, run_id: int, text: str) -> None:
        """Write a person's note on a run; an empty text takes it off."""
        clean = text.encode("utf-8", "replace").decode("utf-8")  # SQLite cannot hold half a surrogate pair
        self._store.change([("UPDATE runs SET note = ? WHERE run_id = ?", (clean or None, run_id))])

    def notes(self) -> dict[int, str]:
        """All notes by the number of their run."""
        return dict(self._store.rows("SELECT run_id, note FROM runs WHERE note IS NOT NULL"))

    def set_baseline(self, run_id: int | None, job: str = TRAIN) -> None:
        """Pin the run that others of its job are compared with, or none."""
        self._store.change([("INSERT OR REPLACE INTO settings VALUES (?, ?)", (_BASELINES[job], run_id))])

    def baseline(self, job: str = TRAIN) -> int | None:
        """The number of a job's pinned run; None when none is, or when it is deleted."""
        return self.baselines().get(job)

    def baselines(self) -> dict[str, int]:
        """The pinned runs' numbers by job, where one is pinned that is not deleted."""
        query = (
            "SELECT settings.name, run_id FROM settings JOIN runs ON run_id = CAST(value AS INTEGER) "
            "WHERE deleted_at IS NULL AND settings.name IN (?, ?, ?)"
        )
        pinned = dict(self._store.rows(query, tuple(_BASELINES.values())))
        return {job: int(pinned[name]) for job, name in _BASELINES.items() if name in pinned}

    def series(self, run_id: int, after: int = 0) -> Iterator[tuple[int, Event]]:
        """A run's stored events in order, with their sequence numbers (from 1), those beyond `after` only.

        Reads bit by bit, so another thread or program may write meanwhile; ends with the last event written.
        """
        query = "SELECT last_seq, payload FROM batches WHERE run_id = ? AND last_seq > ? ORDER BY last_seq LIMIT ?"
        while rows := self._store.rows(query, (run_id, after, _READ_BATCHES)):
            for last_seq, payload in rows:
                try:
                    events = unpack(run_id, payload)
                except ValueError as error:
                    message = (
                        f"The history {self.path} is damaged: the series of run {run_id} ends after event {after}."
                    )
                    raise HistoryError(message) from error
                for seq, event in enumerate(events, last_seq - len(events) + 1):
                    if event is not None and seq > after:
                        yield seq, event
                after = last_seq

    def change_token(self) -> int:
        """A number that is another one when any program, this one included, has written; costs microseconds."""
        return int(self._store.rows("PRAGMA data_version")[0][0])
