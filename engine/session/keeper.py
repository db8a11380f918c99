"""The history for somebody who must not wait for it: another program may keep the file locked for seconds.

One thread writes what a person changes, in the order of the changes; another reads, since a reader seldom has to wait
where a writer does (SQLite's write-ahead log) and must then not stand behind one.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from typing_extensions import assert_never

from engine.contract.changes import Change, Delete, Note, Pin, Restore
from engine.contract.events import Event, HistoryChanged
from engine.history.history import History, HistoryError

log = logging.getLogger("traintop")

T = TypeVar("T")
Read = Callable[[History], T]


class Reading(Generic[T]):
    """An answer of the history that is on its way. Made by one thread, looked at by another."""

    def __init__(self, read: Read[T]) -> None:
        self._read = read
        self.value: T | None = None
        """What was read; None until it is, and where it could not be."""
        self.problem: str | None = None
        """One sentence on why it could not be read."""
        self.done = False

    def carry_out(self, history: History) -> None:
        """Read; never raises."""
        try:
            self.value = self._read(history)
        except HistoryError as error:
            self.problem = str(error)
        except Exception:  # a defect of ours must not end the thread: the screen would wait forever
            log.exception("the history could not be read")
            self.problem = "The history could not be read: details are in the log file."
        self.done = True


class Keeper:
    """Two queues, and the work of a thread for each. `emit` takes a `HistoryChanged` for every change."""

    def __init__(self, history: History, emit: Callable[[Event], None]) -> None:
        self._history = history
        self._emit = emit
        self._asked = self._told = 0  # each counted by one thread
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._readings: queue.SimpleQueue[Reading[Any] | None] = queue.SimpleQueue()

    def keep(self, change: Change) -> None:
        """Write a change after those before it; returns at once."""
        self._asked += 1
        self._changes.put(change)

    @property
    def n_waiting(self) -> int:
        """Changes that nothing came of yet."""
        return self._asked - self._told

    def read(self, read: Read[T]) -> Reading[T]:
        """Ask `read` of the history after what was asked before; returns at once."""
        reading = Reading(read)
        self._readings.put(reading)
        return reading

    def close(self) -> None:
        """Let both threads end, the writing one when everything is written."""
        self._changes.put(None)
        self._readings.put(None)

    def write_changes(self) -> None:
        """The writing thread."""
        while (change := self._changes.get()) is not None:
            problem = self._write(change)
            self._emit(HistoryChanged(change=change, problem=problem))
            self._told += 1

    def answer(self) -> None:
        """The reading thread."""
        while (reading := self._readings.get()) is not None:
            reading.carry_out(self._history)

    def _write(self, change: Change) -> str | None:
        """Write one change. Why it could not be written."""
        try:
            write(self._history, change)
        except HistoryError as error:
            return str(error)
        except Exception:  # a defect of ours must not end the thread
            log.exception("a change of the history could not be written")
            return "A change of the history could not be written: details are in the log file."
        return None


def write(history: History, change: Change) -> None:
    """Write one change. Raises `HistoryError`."""
    if isinstance(change, Pin):
        history.set_baseline(change.run_id, change.job)
    elif isinstance(change, Note):
        history.note(change.run_id, change.text)
    elif isinstance(change, Delete):
        history.delete(change.run_ids)
    elif isinstance(change, Restore):
        history.restore(change.run_ids)
    else:
        assert_never(change)
