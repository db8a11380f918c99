"""Keeper: the history written and read for somebody who must not wait, with another program in the way."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.contract.changes import Change, Delete, Note, Pin, Restore
from engine.contract.config import RunConfig
from engine.contract.events import HistoryChanged
from engine.contract.records import DeviceInfo
from engine.history.history import History
from engine.process.mailbox import Mailbox
from engine.session.keeper import Keeper, Reading

PATIENCE_S = 60.0


class Kept:
    """A history of three runs, a keeper at work, and its mailbox."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history = History(path)
        for _ in range(3):
            self.history.writer.begin_run(RunConfig(), DeviceInfo(name="cpu", kind="cpu"), 1000.0)
        self.mailbox = Mailbox()
        self.keeper = Keeper(self.history, self.mailbox.put)
        self.threads = [threading.Thread(target=do) for do in (self.keeper.write_changes, self.keeper.answer)]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        self.keeper.close()
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        self.history.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another program is in the middle of a write."""
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    def told(self, n: int) -> list[HistoryChanged]:
        """What came of the next `n` changes."""
        events: list[HistoryChanged] = []
        while len(events) < n:
            more = self.mailbox.wait(PATIENCE_S)
            assert more
            events += [event for event in more if isinstance(event, HistoryChanged)]
        return events

    def ask(self, reading: Reading[int]) -> Reading[int]:
        """Wait for an answer, by asking for another behind it."""
        over = threading.Event()
        self.keeper.read(lambda _: over.set())
        assert over.wait(PATIENCE_S)
        assert reading.done
        return reading


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "history.sqlite3")
    yield kept
    kept.close()


def test_changes_are_written_in_their_order(kept: Kept) -> None:
    changes: list[Change] = [
        Pin(run_id=2, job="train"),
        *(Note(run_id=1, text="cold"), Note(run_id=1, text="hot"), Note(run_id=3, text="x")),
        *(Note(run_id=3, text=""), Delete(run_ids=(1, 3)), Restore(run_ids=(3,))),
    ]
    for change in changes:
        kept.keeper.keep(change)
    assert [(event.change, event.problem) for event in kept.told(7)] == [(change, None) for change in changes]
    assert kept.history.baseline() == 2
    assert kept.history.notes() == {1: "hot"}
    assert [run.run_id for run in kept.history.runs()] == [2, 3]


def test_nobody_waits_for_a_locked_history_and_readers_do_not_stand_behind_the_writer(kept: Kept) -> None:
    with kept.locked():
        kept.keeper.keep(Pin(run_id=2, job="train"))
        assert kept.ask(kept.keeper.read(History.n_runs)).value == 3
        assert kept.mailbox.drain() == []
        assert kept.keeper.n_waiting == 1
        assert kept.history.baseline() is None
    assert kept.told(1) == [HistoryChanged(change=Pin(run_id=2, job="train"))]
    assert kept.history.baseline() == 2


def test_what_cannot_be_written_is_told_and_the_next_change_is(kept: Kept) -> None:
    full = "SELECT RAISE(ABORT, 'database or disk is full')"
    with sqlite3.connect(kept.path) as other:
        other.execute(f"CREATE TRIGGER no_room BEFORE UPDATE OF note ON runs BEGIN {full}; END")
    other.close()
    kept.keeper.keep(Note(run_id=1, text="cold"))
    kept.keeper.keep(Pin(run_id=1, job="train"))
    failed, written = kept.told(2)
    assert failed.change == Note(run_id=1, text="cold")
    assert "is full" in (failed.problem or "")
    assert str(kept.path) in (failed.problem or "")
    assert written.problem is None
    assert kept.history.notes() == {}


def test_what_cannot_be_read_is_a_sentence(kept: Kept) -> None:
    def broken(_: History) -> int:
        raise ZeroDivisionError

    assert kept.ask(kept.keeper.read(broken)).problem == "The history could not be read: details are in the log file."
    with sqlite3.connect(kept.path) as other:
        other.execute("DROP TABLE settings")
    other.close()
    reading = kept.ask(kept.keeper.read(lambda history: history.baseline() or 0))
    assert reading.value is None
    assert str(kept.path) in (reading.problem or "")


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "history.sqlite3")
    with kept.locked():
        for run_id in (1, 2, 3):
            kept.keeper.keep(Note(run_id=run_id, text="last"))
        kept.keeper.close()
    for thread in kept.threads:
        thread.join(PATIENCE_S)
    assert kept.keeper.n_waiting == 0
    assert set(kept.history.notes()) == {1, 2, 3}
    kept.history.close()
