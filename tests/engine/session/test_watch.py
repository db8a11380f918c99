"""Runs of another process, followed through the history: pipes say when there is something to see."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.contract.events import Event, Logged, RunFinished, RunRefused, RunStarted, UpdateDone
from engine.contract.records import Outcome
from engine.history.history import History
from engine.session.playback import POLL_S
from engine.session.watch import Watch

SCRIPT = Path(__file__).with_name("watched_process.py")


class Driver:
    """The other process: each order is answered when it is in the history."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, str(SCRIPT), str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, order: str) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return int(self._answer())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Clock:
    """Every look at it is a second later, so that no question is put off."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


@pytest.fixture
def driver(path: Path) -> Iterator[Driver]:
    driver = Driver(path)
    yield driver
    driver.end()


def watching(history: History, run_id: int | None = None, *, show_last: bool = False) -> Watch:
    watch = Watch(history, run_id, show_last=show_last, clock=Clock())
    watch.open()
    return watch


def numbers(events: list[Event]) -> list[int]:
    return [event.update for event in events if isinstance(event, UpdateDone)]


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_run_is_followed_from_its_start_to_its_end(
    path: Path, journal: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("TRAINTOP_JOURNAL", journal)
    driver: Driver = request.getfixturevalue("driver")
    with History(path) as history:
        watch = watching(history)
        assert watch.drain() == []
        run_id = driver.do("begin 4")
        (begun,) = watch.drain()
        assert isinstance(begun, RunStarted)
        assert (begun.run_id, begun.config.batch_size, begun.device.name) == (run_id, 4, "Tesla P4")
        last = 0
        for n_more in (1, 5, 250, 2):  # beyond the merges of small batches
            driver.do(f"updates {n_more}")
            assert numbers(watch.drain()) == list(range(last + 1, last + n_more + 1))
            last += n_more
            assert watch.drain() == []
        driver.do("updates 3")
        driver.do("finish")
        events = watch.drain()
        assert numbers(events) == [last + 1, last + 2, last + 3]
        assert isinstance(events[-1], RunFinished)
        assert events[-1].record == history.run(run_id)
        assert watch.drain() == []


def test_who_comes_late_sees_the_run_from_its_start(path: Path, driver: Driver) -> None:
    driver.do("begin 2")
    driver.do("updates 40")
    with History(path) as history:
        begun, *events = watching(history).drain()
        assert isinstance(begun, RunStarted)
        assert numbers(events) == list(range(1, 41))


def test_runs_that_begin_later_are_followed_too_and_none_is_missed(path: Path, driver: Driver) -> None:
    with History(path) as history:
        watch = watching(history)
        watch.drain()
        for size in (1, 2):
            driver.do(f"begin {size}")
            driver.do("updates 4")
            driver.do("finish")
        driver.do("begin 3")
        driver.do("updates 2")
        events = watch.drain()
        starts = [event.config.batch_size for event in events if isinstance(event, RunStarted)]
        ends = [event.record.config.batch_size for event in events if isinstance(event, RunFinished)]
        assert (starts, ends) == ([1, 2, 3], [1, 2])
        assert numbers(events) == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]


def test_of_two_drivers_one_is_shown_and_the_other_ends_in_the_table(path: Path, driver: Driver) -> None:
    other = Driver(path)
    try:
        with History(path) as history:
            watch = watching(history)
            shown = driver.do("begin 1")
            assert len(watch.drain()) == 1
            aside, third = other.do("begin 2"), 0
            other.do("updates 3")
            assert watch.drain() == []
            other.do("finish")
            (ended,) = watch.drain()
            assert isinstance(ended, RunFinished)
            assert ended.record.run_id == aside
            third = other.do("begin 3")
            other.do("updates 3")
            driver.do("finish")
            ended, begun, *events = watch.drain()
            assert isinstance(ended, RunFinished)
            assert isinstance(begun, RunStarted)
            assert (ended.record.run_id, begun.run_id) == (shown, third)
            assert numbers(events) == [1, 2, 3]
    finally:
        other.end()


def test_a_driver_that_is_killed_leaves_an_interrupted_run(path: Path, driver: Driver) -> None:
    run_id = driver.do("begin 8")
    driver.do("updates 5")
    with History(path) as history:
        watch = watching(history)
        assert numbers(watch.drain()) == [1, 2, 3, 4, 5]
        driver.process.send_signal(signal.SIGKILL)
        driver.process.wait()
        (ended,) = watch.drain()
        assert isinstance(ended, RunFinished)
        assert (ended.record.run_id, ended.record.outcome) == (run_id, Outcome.INTERRUPTED)
        assert ended.record.updates == 5
        assert str(driver.process.pid) in (ended.record.message or "")
        assert watch.drain() == []
        row = history.run(run_id)
        assert row is not None
        assert row.outcome is Outcome.RUNNING  # who only watches writes nothing
        assert history.mark_interrupted() == [ended.record]


def test_a_run_that_was_dead_before_is_told_to_the_screen(path: Path, driver: Driver) -> None:
    dead = driver.do("begin 8")
    driver.end()
    with History(path) as history:
        other = Driver(path)
        try:
            other.do("begin 1")
            events = watching(history, show_last=True).drain()
        finally:
            other.end()
    assert [event.record.run_id for event in events if isinstance(event, RunFinished)] == [dead]
    assert [event.run_id for event in events if isinstance(event, RunStarted)] == [dead + 1]


def test_one_run_alone(path: Path, driver: Driver) -> None:
    first = driver.do("begin 1")
    driver.do("updates 2")
    driver.do("finish")
    second = driver.do("begin 2")
    with History(path) as history:
        over = watching(history, first)
        events = over.drain()
        assert numbers(events) == [1, 2]
        assert isinstance(events[-1], RunFinished)
        assert over.drain() == []
        assert over.label == f"watching run {first}"
        alone = watching(history, second)
        assert len(alone.drain()) == 1
        driver.do("updates 1")
        driver.do("finish")
        driver.do("begin 3")
        events = alone.drain()
        assert numbers(events) == [1]
        assert isinstance(events[-1], RunFinished)
        assert alone.drain() == []


def test_between_two_runs_the_last_one_is_on_the_screen(path: Path, driver: Driver) -> None:
    driver.do("begin 1")
    driver.do("finish")
    last = driver.do("begin 2")
    driver.do("updates 3")
    driver.do("finish")
    with History(path) as history:
        events = watching(history, show_last=True).drain()
        assert [event.run_id for event in events if isinstance(event, RunStarted)] == [last]
        assert isinstance(events[-1], RunFinished)
        assert watching(history).drain() == []


def test_a_refused_run_is_gone(path: Path, driver: Driver) -> None:
    with History(path) as history:
        watch = watching(history)
        run_id = driver.do("begin 1")
        watch.drain()
        driver.do("drop")
        (refused,) = watch.drain()
        assert isinstance(refused, RunRefused)
        assert refused.run_id == run_id
        assert "refused" in refused.message


def test_watching_writes_nothing(path: Path, driver: Driver) -> None:
    driver.do("begin 1")
    driver.do("updates 10")
    with History(path) as history:
        watch = watching(history)
        before = _content(path)
        assert numbers(watch.drain()) == list(range(1, 11))
        for _ in range(20):
            assert watch.drain() == []
        assert _content(path) == before


def _content(path: Path) -> list[str]:
    return [
        hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (path, path.with_name(path.name + "-wal"))
        if file.exists()
    ]


def test_the_history_is_asked_a_few_times_a_second_and_cheaply(
    path: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    driver.do("begin 1")
    driver.do("updates 10")
    with History(path) as history:
        asked: list[str] = []
        rows = history._store.rows

        def counted(query: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
            asked.append(query)
            return rows(query, values)

        monkeypatch.setattr(history._store, "rows", counted)
        watch = Watch(history, clock=lambda: now[0])
        watch.drain()
        asked.clear()
        for _ in range(100):  # ten seconds of the app's drains while nothing is written
            now[0] += 0.1
            watch.drain()
        tokens = [query for query in asked if "data_version" in query]
        assert 2 <= len(tokens) / 10 <= 1 / POLL_S + 1
        assert len(asked) - len(tokens) <= 10 * 3  # whether the driver lives, once a second


def test_a_history_that_cannot_be_read_is_told_once(path: Path, driver: Driver) -> None:
    with History(path) as history:
        watch = watching(history)
        driver.do("begin 1")
        driver.do("updates 1")
        history._store.change([("UPDATE batches SET payload = x'00'", ())])
        begun, logged = watch.drain()
        assert isinstance(begun, RunStarted)
        assert isinstance(logged, Logged)
        assert "damaged" in logged.text
        assert watch.drain() == []
