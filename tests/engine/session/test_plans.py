"""Plans in the real session: real runs in the real thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.events import Event, PlanFinished, PlanProgress, RunFinished, RunStarted, UpdateDone
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
    assert [stored.run_ids for stored in driver.history.plans()] == [(1, 2)]
    refused = driver.history.plan_steps(1)[1, 0]
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
    (stored,) = driver.history.interrupted_plans()
    assert set(driver.history.plan_steps(stored.plan_id)) == {(0, 0), (1, 0), (2, 0)}
    driver.session.start_plan(_plan(*(run.config.with_values(samples=8) for run in stored.plan.runs)), stored.plan_id)
    driver.until(PlanFinished, 2)
    assert driver.outcomes[4:] == [Outcome.COMPLETED, Outcome.COMPLETED]
    assert driver.history.interrupted_plans() == []


def test_closing_wakes_a_paused_plan(driver: Driver) -> None:
    driver.session.start_plan(_plan(LONG, SMALL))
    driver.until_training(1)
    driver.session.pause_plan()
    assert driver.session.close(60)
    assert driver.history.plans()[0].ended == "stopped"
