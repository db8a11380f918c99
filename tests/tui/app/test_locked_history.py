"""The app while another program keeps the history locked: keys are answered, and what was changed is written later."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.contract.changes import Change
from engine.contract.config import RunConfig
from engine.history.history import History
from engine.session.keeper import Keeper, Reading
from tests.tui.fake_session import GPU, FakeSession, ready, record
from tests.tui.screen_text import Stage
from tui.app.app import TraintopApp
from tui.desk import readings
from tui.screens.main import MainScreen
from tui.screens.plans import PlansScreen


class KeepingSession(FakeSession):
    """Trains nothing, and has the threads that write and read the history."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self.keeper = Keeper(history, self.events.append)
        self._threads = [threading.Thread(target=do) for do in (self.keeper.write_changes, self.keeper.answer)]

    def open(self) -> None:
        super().open()
        for thread in self._threads:
            thread.start()

    def keep(self, change: Change) -> None:
        self.keeper.keep(change)

    def read(self, read: Callable[[Any], Any]) -> Reading[Any]:
        return self.keeper.read(read)

    def close(self) -> None:
        self.keeper.close()
        for thread in self._threads:
            thread.join()


@asynccontextmanager
async def over(path: Path) -> AsyncIterator[Stage]:
    """The app over a history of three finished runs."""
    with History(path) as history:
        for _ in range(3):
            run_id = history.writer.begin_run(RunConfig(), GPU, 1000.0)
            history.writer.finish_run(record(run_id))
        session = KeepingSession(history)
        app = TraintopApp(session, RunConfig())
        try:
            async with app.run_test(size=(120, 40)) as pilot:
                s = Stage(app, pilot, session, session.history)
                await until(lambda: len(app.state.finished) == 3)
                await s.feed(ready())
                yield s
                assert not app.controllers.faults.errors
        finally:
            session.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.005)


def lock(path: Path, how: str) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"BEGIN {how}")
    return other


async def test_changes_are_shown_at_once_and_written_when_they_can_be(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    async with over(path) as s:
        other = lock(path, "IMMEDIATE")
        await s.press("tab", "home", "space", "N", *"cold", "enter", "down", "d", "shift+tab", "b")
        assert s.app.state.baseline == 1
        assert s.app.state.table.notes == {1: "cold"}
        assert [row.run_id for row in s.app.state.rows] == [1, 3]
        assert s.app.state.editor.config.batch_size == 16
        assert s.app.session.keeper.n_waiting == 3  # type: ignore[union-attr]
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: s.app.session.keeper.n_waiting == 0)  # type: ignore[union-attr]
        await s.feed()
        assert s.app.state.baseline == 1
    with History(path) as history:
        assert history.baseline() == 1
        assert history.notes() == {1: "cold"}
        assert [run.run_id for run in history.runs()] == [1, 3]


async def test_a_reader_that_has_to_wait_does_not_hold_the_keys_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINTOP_JOURNAL", "delete")  # a network file system's: there a writer locks readers out
    monkeypatch.setattr(readings, "TELL_S", 0.0)
    path = tmp_path / "history.sqlite3"
    async with over(path) as s:
        other = lock(path, "EXCLUSIVE")
        await s.press("p")
        await until(lambda: s.app.state.notice == readings.WAITING)
        await s.press("p", "b")
        assert isinstance(s.app.screen, MainScreen)
        assert s.app.state.editor.config.batch_size == 16
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: isinstance(s.app.screen, PlansScreen))
        await s.pilot.pause()
        assert len(s.app.screen_stack) == 2
        await s.press("escape")
        assert isinstance(s.app.screen, MainScreen)
