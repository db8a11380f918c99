"""Plans in the real session: real runs in the real thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.events import (
    Event,
    HistoryState,
    PlanFinished,
    PlanProgress,
    RunFinished,
    RunRefused,
    RunStarted,
    UpdateDone,
)
from engine.contract.records import Outcome
from engine.history.history import History
from engine.plans.course import Plan, PlannedRun, sweep
from engine.session.session import Session

SMALL = RunConfig(device="cpu", samples=8, batch_size=4, seq_len=16)
LONG = SMALL.with_values(samples=100_000)


class Driver:
    """A session with its history, and a patient reader of its mailbox."""

    def __init__(self, folder: Path) -> None:
        self.history = History(folder / "history.sqlite3")
        self.session = Session(self.history)
        self.events: list[Event] = []

    def until(self, kind: type[Event], n: int = 1) -> Event:
        """Wait for the n-th event of a kind; fails after two minutes without any event."""
        while True:
            found = [event for event in self.events if isinstance(event, kind)]
            if len(found) >= n:
                return found[n - 1]
            more = self.session.wait(120)
            assert more, f"no event came while waiting for {kind.__name__}"
            self.events += more

    def until_training(self, run: int) -> None:
        """Wait until the `run`-th run has done an update."""
        started = self.until(RunStarted, run)
        while not any(
            isinstance(e, UpdateDone) and isinstance(started, RunStarted) and e.run_id == started.run_id
            for e in self.events
        ):
            self.events += self.session.wait(120)

    @property
    def outcomes(self) -> list[Outcome]:
        return [event.record.outcome for event in self.events if isinstance(event, RunFinished)]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    torch.set_num_threads(1)
    driver = Driver(tmp_path)
    driver.session.open()
    yield driver
    driver.session.close()
    driver.history.close()


def test_a_plan_waits_for_a_history_that_is_locked(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.history.store.OPEN_WAIT_S", 0.01)
    monkeypatch.setattr("engine.session.plan_runner.RETRY_S", 0.0)
    other = sqlite3.connect(driver.history.path, isolation_level=None, check_same_thread=False)
    begin, calls = driver.history.writer.begin_run, []

    def begin_run(*values: Any) -> int:
        calls.append(values)
        if len(calls) in (2, 4):
            other.execute("BEGIN IMMEDIATE" if len(calls) == 2 else "ROLLBACK")
        return begin(*values)

    monkeypatch.setattr(driver.history.writer, "begin_run", begin_run)
    driver.session.start_plan(_plan(SMALL, SMALL, SMALL))
    end = driver.until(PlanFinished)
    other.close()
    assert isinstance(end, PlanFinished)
    assert (end.completed, end.done, len(calls)) == (True, 3, 5)
    assert driver.outcomes == [Outcome.COMPLETED] * 3
    assert driver.history.plans.newest()[0].run_ids == (1, 2, 3)


def test_a_run_alone_is_refused_by_a_history_that_is_locked(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.history.store.OPEN_WAIT_S", 0.01)
    other = sqlite3.connect(driver.history.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    driver.session.start(SMALL)
    refused = driver.until(RunRefused)
    other.close()
    assert isinstance(refused, RunRefused)
    assert (refused.knob, refused.no_history) == ("", True)
    assert "locked: close it" in refused.message


def test_a_disk_that_is_full_for_a_while_is_shown(driver: Driver) -> None:
    driver.session.start(LONG)
    driver.until_training(1)
    write = driver.history._store.opened.write
    assert write is not None
    write.execute("PRAGMA max_page_count = 1")
    stuck = driver.until(HistoryState)
    assert isinstance(stuck, HistoryState)
    assert "is full: free some space" in (stuck.problem or "")
    write.execute("PRAGMA max_page_count = 1000000")
    assert driver.until(HistoryState, 2) == HistoryState(problem=None)
    driver.session.stop()
    finished = driver.until(RunFinished)
    assert isinstance(finished, RunFinished)
    updates = [event.update for _, event in driver.history.series(1) if isinstance(event, UpdateDone)]
    assert updates == list(range(1, finished.record.updates + 1))


def _plan(*configs: RunConfig) -> Plan:
    runs = tuple(PlannedRun(config=config, label=f"run {n}") for n, config in enumerate(configs, 1))
    return Plan(name="sweep", title="Test", runs=runs)


def test_a_sweep_with_a_run_that_is_refused(driver: Driver) -> None:
    driver.session.start_plan(sweep(SMALL, {"precision": ["fp32", "fp16", "bf16"]}))
    assert driver.session.busy
    end = driver.until(PlanFinished)
    assert isinstance(end, PlanFinished)
    assert (end.completed, end.done) == (True, 3)
    assert driver.outcomes == [Outcome.COMPLETED, Outcome.COMPLETED]
    assert [stored.run_ids for stored in driver.history.plans.newest()] == [(1, 2)]
    refused = driver.history.plans.steps(1)[1, 0]
    assert "fp16" in refused.why
    driver.session.start(SMALL)
    driver.until(RunFinished, 3)


def test_skip_pause_and_stop(driver: Driver) -> None:
    driver.session.start_plan(_plan(LONG, LONG, SMALL, LONG, SMALL))
    driver.until_training(1)
    driver.session.skip_run()
    driver.until_training(2)
    driver.session.pause_plan()
    driver.session.skip_run()
    while not any(isinstance(event, PlanProgress) and event.paused for event in driver.events):
        driver.events += driver.session.wait(120)
    assert driver.outcomes == [Outcome.STOPPED, Outcome.STOPPED]
    driver.session.pause_plan(False)
    driver.until_training(4)
    driver.session.stop()
    end = driver.until(PlanFinished)
    assert isinstance(end, PlanFinished)
    assert (end.completed, end.done) == (False, 3)
    assert driver.outcomes == [Outcome.STOPPED, Outcome.STOPPED, Outcome.COMPLETED, Outcome.STOPPED]
    (stored,) = driver.history.plans.interrupted()
    assert set(driver.history.plans.steps(stored.plan_id)) == {(0, 0), (1, 0), (2, 0)}
    driver.session.start_plan(_plan(*(run.config.with_values(samples=8) for run in stored.plan.runs)), stored.plan_id)
    driver.until(PlanFinished, 2)
    assert driver.outcomes[4:] == [Outcome.COMPLETED, Outcome.COMPLETED]
    assert driver.history.plans.interrupted() == []


def test_a_plan_waits_for_the_end_of_a_run_and_begins_though_that_is_ended_early(driver: Driver) -> None:
    driver.session.start(LONG)
    driver.until_training(1)
    driver.session.start_plan(_plan(SMALL))
    driver.session.start_plan(_plan(LONG))
    driver.session.forget_queued()
    driver.session.start_plan(_plan(SMALL, SMALL))
    driver.session.skip_run()
    end = driver.until(PlanFinished)
    assert isinstance(end, PlanFinished)
    assert (end.plan_id, end.completed, end.done) == (1, True, 2)
    assert driver.outcomes == [Outcome.STOPPED, Outcome.COMPLETED, Outcome.COMPLETED]
    assert not driver.session.busy


def test_closing_wakes_a_paused_plan(driver: Driver) -> None:
    driver.session.start_plan(_plan(LONG, SMALL))
    driver.until_training(1)
    driver.session.pause_plan()
    assert driver.session.close(60)
    assert driver.history.plans.newest()[0].ended == "stopped"
