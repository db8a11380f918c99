"""Runs on several GPUs in the real session: two virtual ranks, from a request to a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from engine.contract.events import (
    DeviceChosen,
    EngineReady,
    PlanFinished,
    RankBeat,
    RanksStarted,
    RunFinished,
    RunProgress,
    RunRefused,
    RunStarted,
    Saved,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.records import Outcome
from engine.history.history import History
from engine.plans.course import Plan, PlannedRun
from engine.session.session import Session
from tests.engine.ranks.driver import SMALL
from tests.engine.session.test_session import Driver

LONG = SMALL.with_values(samples=100_000)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    torch.set_num_threads(1)
    driver = Driver(tmp_path)
    driver.history = History(tmp_path / "history.sqlite3")
    driver.session = Session(driver.history, device="virtual:tesla-p4", keeps_model=True)
    driver.session.open()
    yield driver
    driver.session.close()
    driver.history.close()


def test_a_run_from_start_to_row(driver: Driver) -> None:
    record = driver.run(SMALL.with_values(gpus=None, device="virtual:tesla-p4×2")).record
    assert (record.outcome, record.updates, record.config.gpus) == (Outcome.COMPLETED, 6, 2)
    assert record.device is not None
    assert record.device.is_virtual
    kinds = [type(event) for event in driver.events]
    order = [RunStarted, RunProgress, RanksStarted, TrainingStarted, UpdateDone, RunFinished]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    assert kinds.count(RunStarted) == kinds.count(TrainingStarted) == 1
    assert RankBeat in kinds
    assert driver.history.runs() == [record]
    assert len(record.peak_used_by_rank) == 2
    ranks = next(event for event in driver.events if isinstance(event, RanksStarted)).ranks
    for rank in ranks:
        assert rank.log_path is not None
        assert Path(rank.log_path).is_file()
    driver.session.save_model(record.run_id, "anywhere")
    saved = driver.until(Saved)
    assert isinstance(saved, Saved)
    assert saved.problem == (
        f"The model of run {record.run_id} was in the processes of its GPUs, which have ended with it: --output-dir "
        "writes it while it trains."
    )


def test_a_plan_goes_on_after_a_run_that_is_skipped_and_one_that_is_refused(driver: Driver) -> None:
    unusable = LONG.with_values(model=str(Path("nothing") / "there"))
    runs = tuple(PlannedRun(config=config, label=str(n)) for n, config in enumerate((LONG, unusable, SMALL)))
    driver.session.start_plan(Plan(name="three", title="Three runs", runs=runs))
    driver.until(UpdateDone)
    driver.session.skip_run()
    finished = driver.until(PlanFinished)
    assert isinstance(finished, PlanFinished)
    assert finished.completed
    records = [event.record for event in driver.events if isinstance(event, RunFinished)]
    assert [record.outcome for record in records] == [Outcome.STOPPED, Outcome.COMPLETED]
    refused = [event for event in driver.events if isinstance(event, RunRefused)]
    assert [event.knob for event in refused] == ["model"]


def test_leaving_ends_all_ranks_in_time(driver: Driver) -> None:
    driver.session.start(LONG)
    driver.until(UpdateDone)
    ranks = next(event for event in driver.events if isinstance(event, RanksStarted)).ranks
    assert driver.session.close()
    assert not any(psutil.pid_exists(rank.pid) for rank in ranks)
    assert driver.history.runs()[0].outcome is Outcome.STOPPED
    assert EngineReady in map(type, driver.events)
    assert DeviceChosen not in map(type, driver.events)
