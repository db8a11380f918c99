"""A plan under way: order, pause, skip, stop, and going on where another process ended. Runs are made up."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engine.history.store
import engine.session.plan_runner
from engine.contract.config import RunConfig
from engine.contract.events import Event, Logged, PlanFinished, PlanProgress, PlanStarted, RunRefused
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.history.history import History, HistoryError
from engine.plans.course import Hopeless, Plan, sweep, until_oom
from engine.session.plan_runner import PlanRunner

DEVICE = DeviceInfo(name="Tesla P4", kind="cuda", memory_total=7611 * 2**20)
Ends = Callable[[RunConfig], Outcome | None]


class Machine:
    """Does runs in no time, each with its row in the history, as `ends` says; None refuses."""

    def __init__(self, history: History, ends: Ends = lambda config: Outcome.COMPLETED) -> None:
        self.history = history
        self.ends = ends
        self.events: list[Event] = []
        self.ran: list[int] = []
        self.before: Callable[[int], object] = lambda n: None
        self.during: Callable[[int], None] = lambda n: None
        """Called before the n-th run gets its row, counted from 1, and in its middle."""

    def run_one(self, config: RunConfig, began: Callable[[int], None]) -> RunRecord | RunRefused:
        self.ran.append(config.batch_size)
        outcome = self.ends(config)
        if outcome is None:
            return RunRefused(run_id=None, config=config, knob="seq_len", message="Too long.")
        self.before(len(self.ran))
        run_id = self.history.writer.begin_run(config, DEVICE, 1.0)
        began(run_id)
        self.during(len(self.ran))
        record = RunRecord(run_id=run_id, config=config, outcome=outcome, device=DEVICE, updates=3)
        self.history.writer.finish_run(record)
        return record

    def runner(self, plan: Plan, plan_id: int | None = None, hopeless: Hopeless = lambda config: None) -> PlanRunner:
        return PlanRunner(
            plan=plan,
            history=self.history,
            run_one=self.run_one,
            emit=self.events.append,
            plan_id=plan_id,
            hopeless=hopeless,
        )

    @property
    def end(self) -> PlanFinished:
        (end,) = (event for event in self.events if isinstance(event, PlanFinished))
        return end

    @property
    def progress(self) -> list[PlanProgress]:
        return [event for event in self.events if isinstance(event, PlanProgress)]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "history.sqlite3") as history:
        yield history


FOUR = sweep(RunConfig(), {"batch_size": ["1", "2", "4", "8"]})


def test_runs_in_order_with_their_positions(history: History) -> None:
    machine = Machine(history)
    machine.runner(FOUR).execute()
    assert machine.ran == [1, 2, 4, 8]
    assert machine.events[0] == PlanStarted(plan_id=1, name="sweep", title="Sweep over batch size", total=4)
    assert [(event.position, event.total, event.label) for event in machine.progress] == [
        (n, 4, f"batch size {size}") for n, size in enumerate((1, 2, 4, 8), 1)
    ]
    assert machine.end == PlanFinished(plan_id=1, name="sweep", completed=True, done=4, total=4)
    (stored,) = history.plans.newest()
    assert (stored.plan, stored.ended, stored.run_ids) == (FOUR, "completed", (1, 2, 3, 4))
    assert history.plans.interrupted() == []


def test_it_tells_the_run_after_the_one_that_begins(history: History) -> None:
    machine = Machine(history)
    machine.runner(FOUR).execute()
    following = [(event.upcoming, event.upcoming_label) for event in machine.progress]
    sizes = [(RunConfig(batch_size=size), f"batch size {size}") for size in (2, 4, 8)]
    assert following == [*sizes, (None, "")]


def test_a_bad_run_does_not_end_it(history: History) -> None:
    ends = {1: Outcome.FAILED, 2: None, 4: Outcome.OUT_OF_MEMORY, 8: Outcome.COMPLETED}
    machine = Machine(history, lambda config: ends[config.batch_size])
    machine.runner(FOUR).execute()
    assert machine.ran == [1, 2, 4, 8]
    assert machine.end.completed
    assert machine.end.done == 4


def test_impossible_runs_are_passed_over(history: History) -> None:
    values = {"optimizer_in_backward": ["on", "off"], "gradient_accumulation_steps": ["1", "2"]}
    machine = Machine(history)
    machine.runner(sweep(RunConfig(max_grad_norm=0.0), values)).execute()
    assert len(machine.ran) == 3
    (skipped,) = (event for event in machine.progress if event.skipped)
    assert skipped.position == 2
    assert "--gradient-accumulation-steps 1" in (skipped.skipped or "")


def test_stop_ends_it_and_it_goes_on_with_what_is_left(history: History) -> None:
    machine = Machine(history)
    runner = machine.runner(FOUR)
    machine.during = lambda n: runner.control.stop() if n == 2 else None
    runner.execute()  # the second run comes to its end before it notices
    assert machine.ran == [1, 2]
    assert not machine.end.completed
    assert not machine.end.failed
    assert machine.end.done == 2
    (stored,) = history.plans.interrupted()
    later = Machine(history)
    later.runner(stored.plan, stored.plan_id).execute()
    assert later.ran == [4, 8]
    assert later.events[0] == PlanStarted(plan_id=1, name="sweep", title=FOUR.title, total=4, done=2)
    assert [event.position for event in later.progress] == [3, 4]
    assert later.end.completed
    assert later.end.done == 4
    assert history.plans.interrupted() == []


def test_a_run_that_was_stopped_is_done_again_but_not_one_that_was_skipped(history: History) -> None:
    machine = Machine(history, lambda config: Outcome.STOPPED)
    runner = machine.runner(FOUR)

    def during(n: int) -> None:
        runner.control.skip()
        if n == 3:
            runner.control.take_skip()  # this one ends because the plan does
            runner.control.stop()

    machine.during = during
    runner.execute()
    assert machine.ran == [1, 2, 4]
    (stored,) = history.plans.interrupted()
    later = Machine(history)
    later.runner(stored.plan, stored.plan_id).execute()
    assert later.ran == [4, 8]


def test_pause_waits_after_the_run_under_way(history: History) -> None:
    machine = Machine(history)
    runner = machine.runner(FOUR)
    waiting = threading.Event()

    def emit(event: Event) -> None:
        machine.events.append(event)
        if isinstance(event, PlanProgress) and event.paused:
            waiting.set()

    runner.emit = emit
    machine.during = lambda n: runner.control.pause() if n == 1 else None
    thread = threading.Thread(target=runner.execute)
    thread.start()
    assert waiting.wait(60)
    assert machine.ran == [1]
    runner.control.pause(False)
    thread.join(60)
    assert not thread.is_alive()
    assert machine.ran == [1, 2, 4, 8]
    assert [(event.position, event.paused) for event in machine.progress] == [
        (1, False),
        (1, True),
        (2, False),
        (3, False),
        (4, False),
    ]


def test_a_paused_plan_can_be_stopped(history: History) -> None:
    machine = Machine(history)
    runner = machine.runner(FOUR)
    runner.control.pause()
    runner.emit = lambda event: (
        runner.control.stop() if isinstance(event, PlanProgress) else None,
        machine.events.append(event),
    )[1]
    runner.execute()
    assert machine.ran == []
    assert machine.end.done == 0


def _fits(config: RunConfig) -> Outcome:
    return Outcome.COMPLETED if config.batch_size <= 11 else Outcome.OUT_OF_MEMORY


def test_a_search_goes_on_where_it_was(history: History) -> None:
    plan = until_oom(RunConfig(batch_size=1, device="cuda"))
    machine = Machine(history, _fits)
    runner = machine.runner(plan, hopeless=lambda config: "surely not" if config.batch_size > 20 else None)
    machine.during = lambda n: runner.control.stop() if n == 6 else None
    runner.execute()
    assert machine.ran == [1, 2, 4, 8, 16, 12]
    (stored,) = history.plans.interrupted()
    later = Machine(history, _fits)
    later.runner(stored.plan, stored.plan_id).execute()
    assert later.ran == [10, 11]
    assert later.end.findings == ("largest batch size that fits: 11 (12 does not; 8 tries).",)
    (finding,) = (event.finding for event in later.progress if event.finding)
    assert finding == later.end.findings[0]


def test_what_a_forecast_once_ruled_out_stays_so(history: History) -> None:
    plan = until_oom(RunConfig(batch_size=1, device="cuda"))
    machine = Machine(history, _fits)
    runner = machine.runner(plan, hopeless=lambda config: "surely not" if config.batch_size > 11 else None)
    machine.during = lambda n: runner.control.stop() if config_is(machine, 10) else None
    runner.execute()
    assert machine.ran == [1, 2, 4, 8, 10]
    later = Machine(history, _fits)
    later.runner(plan, 1).execute()
    assert later.ran == [11]
    assert later.end.findings == ("largest batch size that fits: 11 (12 does not; 8 tries).",)


def config_is(machine: Machine, batch_size: int) -> bool:
    return machine.ran[-1] == batch_size


_CRASH = """
import os, sys
from pathlib import Path
import engine.history.store
import engine.session.plan_runner
from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.history.history import History
from engine.plans.course import sweep
device = DeviceInfo(name="x", kind="cuda")
history = History(Path(sys.argv[1]))
plan = sweep(RunConfig(), {"batch_size": ["1", "2", "4", "8"]})
plan_id = history.plans.begin(plan)
for item, run in enumerate(plan.runs[:2]):
    run_id = history.writer.begin_run(run.config, device, 1.0)
    history.plans.record_step(plan_id, (item, 0), run_id=run_id)
    if item == 0:
        history.writer.finish_run(RunRecord(run_id=run_id, config=run.config, outcome=Outcome.COMPLETED, device=device))
print("ready", flush=True)
sys.stdin.read()
os._exit(9)
"""


def test_a_killed_process_leaves_a_plan_that_goes_on(history: History, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CRASH, str(history.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert history.plans.newest()[0].under_way
        assert history.plans.interrupted() == []  # nobody takes a plan away from a living process
        process.kill()
    history.mark_interrupted()
    (stored,) = history.plans.interrupted()
    assert (stored.ended, stored.run_ids) == (None, (1, 2))
    machine = Machine(history)
    machine.runner(stored.plan, stored.plan_id).execute()
    assert machine.ran == [2, 4, 8]
    assert [run.outcome.value for run in history.runs()] == ["completed", "interrupted", *["completed"] * 3]
    assert history.plans.newest()[0].ended == "completed"


def test_a_history_that_cannot_be_written_does_not_stop_the_runs(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise HistoryError("The disk is full.")

    machine = Machine(history)
    monkeypatch.setattr(history.plans, "record_step", broken)
    machine.runner(FOUR).execute()
    assert machine.end.completed
    assert {event.text for event in machine.events if isinstance(event, Logged)} == {"The disk is full."}
    monkeypatch.setattr(history.plans, "begin", broken)
    machine.events.clear()
    machine.runner(FOUR).execute()
    assert machine.end.failed
    assert machine.end.no_history
    assert machine.end.message == "The disk is full."


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock."""
    monkeypatch.setattr(engine.history.store, "OPEN_WAIT_S", 0.01)
    monkeypatch.setattr(engine.session.plan_runner, "RETRY_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_run_waits_for_a_history_that_is_locked(history: History) -> None:
    other = sqlite3.connect(history.path, isolation_level=None)
    machine = Machine(history)
    runner = machine.runner(FOUR)
    machine.before = lambda n: other.execute("BEGIN IMMEDIATE" if n == 3 else "ROLLBACK") if n in (3, 5) else None
    runner.execute()
    assert machine.ran == [1, 2, 4, 4, 4, 8]
    assert machine.end.completed
    waits = [event.text for event in machine.events if isinstance(event, Logged)]
    assert len(waits) == 2
    assert all("locked" in text and "The plan waits" in text for text in waits)
    other.close()
    (stored,) = history.plans.newest()
    assert (stored.ended, stored.run_ids) == ("completed", (1, 2, 3, 4))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_plan_that_waits_in_vain_drops_no_run_and_can_go_on(
    history: History, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    other = sqlite3.connect(history.path, isolation_level=None)
    machine = Machine(history)
    runner = machine.runner(FOUR)
    monkeypatch.setattr(engine.session.plan_runner, "TRIES", 3)
    if stopped:
        monkeypatch.setattr(engine.session.plan_runner, "RETRY_S", 3600.0)

    def before(n: int) -> None:
        if n == 3:
            other.execute("BEGIN IMMEDIATE")
            if stopped:
                runner.control.stop()

    machine.before = before
    runner.execute()
    assert machine.ran == [1, 2, 4] if stopped else [1, 2, 4, 4, 4]
    assert not machine.end.completed
    assert (machine.end.failed, machine.end.no_history) == (not stopped, not stopped)
    assert machine.end.done == 2
    other.close()
    history.writer.flush()  # what the lock kept away is written as soon as it is gone
    (stored,) = history.plans.interrupted()
    later = Machine(history)
    later.runner(stored.plan, stored.plan_id).execute()
    assert later.ran == [4, 8]
    assert later.end.completed
    assert len(history.runs()) == 4


def test_a_defect_ends_the_plan_in_words(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(history)
    monkeypatch.setattr(machine, "run_one", lambda *_: 1 / 0)
    machine.runner(FOUR).execute()
    assert machine.end.failed
    assert "division by zero" in (machine.end.message or "")


def test_a_plan_that_cannot_be_read_is_left_out(history: History) -> None:
    history.plans.begin(FOUR)
    history._store.change([("UPDATE plans SET definition = '{'", ())])
    assert history.plans.newest() == []
