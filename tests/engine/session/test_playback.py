"""Recorded runs played again: their timing by a clock that the test turns, their state against the live one."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import (
    Event,
    Logged,
    PlanFinished,
    PlanProgress,
    PlanStarted,
    RunFinished,
    RunRefused,
    RunStarted,
    Sampled,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.records import DeviceInfo, HostSample, Memory, Outcome, RunRecord, Shares
from engine.history.history import History
from engine.plans.types import Plan
from engine.session.playback import BATCH, GAP_S, Replay
from tui.drawing.plot import Columns

ROOT = Path(__file__).parents[3]
DEVICE = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=7611 * 2**20)
DAY = 1_700_000_000.0


class Clock:
    """A clock that moves when it is told to, or when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def update(run_id: int, number: int, t: float) -> UpdateDone:
    return UpdateDone(
        run_id=run_id,
        update=number,
        epoch=number / 10,
        loss=1 / number,
        learning_rate=5e-5,
        grad_norm=None,
        loss_scale=None,
        skipped=False,
        n_samples=8,
        n_tokens=1024,
        update_s=1.0,
        warmup=False,
        t=t,
        shares=Shares(),
        memory=Memory(used=number * 2**20),
    )


def sampled(run_id: int, t: float | None) -> Sampled:
    return Sampled(run_id=run_id, t=t, gpu=None, host=HostSample(), memory=Memory(used=2**20))


def record_run(history: History, config: RunConfig, n_updates: int = 4, outcome: Outcome = Outcome.COMPLETED) -> int:
    """A run of one update a second, after 1.5 seconds of loading."""
    run_id = history.writer.begin_run(config, DEVICE, DAY)
    for event in [sampled(run_id, None)] * 3:
        history.writer.append(event)
    started = TrainingStarted(
        run_id=run_id,
        n_parameters=1000,
        n_train=8 * n_updates,
        n_eval=0,
        planned_updates=n_updates,
        micro_steps_per_epoch=n_updates,
    )
    history.writer.append(started)
    for number in range(1, n_updates + 1):
        history.writer.append(update(run_id, number, t=float(number)))
    history.writer.finish_run(
        RunRecord(
            run_id=run_id,
            config=config,
            outcome=outcome,
            device=DEVICE,
            started_at=DAY,
            updates=n_updates,
            train_runtime_s=float(n_updates),
        )
    )
    return run_id


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "history.sqlite3") as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(history: History, clock: Clock, *run_ids: int, speed: float = 1.0) -> Replay:
    replay = Replay(history, run_ids, speed, clock=clock, sleep=clock.sleep)
    replay.open()
    return replay


def numbers(events: list[Event]) -> list[int]:
    return [event.update for event in events if isinstance(event, UpdateDone)]


@pytest.mark.parametrize("speed", [1.0, 10.0, 0.5])
def test_events_come_when_they_came(history: History, clock: Clock, speed: float) -> None:
    config = RunConfig(batch_size=4, precision="bf16")
    replay = opened(history, clock, record_run(history, config), speed=speed)
    (begun,) = replay.drain()
    assert begun == RunStarted(run_id=1, config=config, device=DEVICE, started_at=DAY)
    assert replay.drain() == []
    clock.now += 1.5 / speed  # two readings a second tell the time while the model loads
    assert [type(event) for event in replay.drain()] == [Sampled] * 3 + [TrainingStarted]
    clock.now += 0.99 / speed
    assert replay.drain() == []
    for number in (1, 2, 3):
        clock.now += 1.0 / speed
        assert numbers(replay.drain()) == [number]
    clock.now += 1.0 / speed
    last = replay.drain()
    assert numbers(last) == [4]
    assert isinstance(last[-1], RunFinished)
    assert last[-1].record == history.run(1)
    assert replay.over
    assert replay.position == replay.duration == 5.5
    assert not replay.busy


def test_the_label_says_that_it_is_a_recording(history: History, clock: Clock) -> None:
    replay = opened(history, clock, record_run(history, RunConfig()), speed=10)
    assert replay.label.startswith("recorded on 2023-11-1")
    assert replay.label.endswith("×10")
    replay.pause()
    assert replay.label.endswith("paused")
    replay.pause()
    clock.now += 1
    replay.drain()
    assert replay.label.endswith("over")


def test_pause_holds_the_position_and_speed_changes_from_there_on(history: History, clock: Clock) -> None:
    replay = opened(history, clock, record_run(history, RunConfig()))
    clock.now += 2.5
    assert numbers(replay.drain()) == [1]
    replay.pause()
    clock.now += 1000
    assert replay.drain() == []
    replay.pause()
    assert replay.drain() == []
    replay.change_speed(2)
    clock.now += 0.5
    assert numbers(replay.drain()) == [2]
    replay.change_speed(1e9)
    assert replay.speed == 1000
    replay.change_speed(1e-9)
    assert replay.speed == 0.125


def test_seeking_forward_gives_what_was_passed_and_back_gives_all_again(history: History, clock: Clock) -> None:
    replay = opened(history, clock, record_run(history, RunConfig()))
    assert not replay.seek(3.6)
    assert numbers(replay.drain()) == [1, 2]
    assert replay.seek(-1.0)
    again = replay.drain()
    assert isinstance(again[0], RunStarted)
    assert numbers(again) == [1]
    assert not replay.seek(1e9)
    assert replay.position == replay.duration
    assert numbers(replay.drain()) == [2, 3, 4]
    assert replay.seek(-1e9)
    assert replay.position == 0.0
    assert [type(event) for event in replay.drain()] == [RunStarted]


def test_several_runs_are_a_plan_with_gaps(history: History, clock: Clock) -> None:
    ids = [record_run(history, RunConfig(batch_size=size)) for size in (1, 2)]
    replay = opened(history, clock, *ids)
    plan, progress, begun = replay.drain()
    assert isinstance(plan, PlanStarted)
    assert plan.total == 2
    assert isinstance(progress, PlanProgress)
    assert (progress.position, progress.total) == (1, 2)
    assert isinstance(begun, RunStarted)
    clock.now += 5.5
    assert isinstance(replay.drain()[-1], RunFinished)
    clock.now += GAP_S - 0.01
    assert replay.drain() == []
    clock.now += 0.01
    progress, begun = replay.drain()
    assert isinstance(progress, PlanProgress)
    assert progress.position == 2
    assert isinstance(begun, RunStarted)
    assert begun.config.batch_size == 2
    replay.seek(1e9)
    ended = replay.drain()[-1]
    assert isinstance(ended, PlanFinished)
    assert ended.completed
    assert replay.duration == 2 * 5.5 + GAP_S


def test_a_long_recording_comes_in_pieces(history: History, clock: Clock) -> None:
    replay = opened(history, clock, record_run(history, RunConfig(), n_updates=2 * BATCH))
    replay.seek(1e9)
    pieces = []
    while piece := replay.drain():
        assert len(piece) <= BATCH
        pieces += piece
    assert numbers(pieces) == list(range(1, 2 * BATCH + 1))


def test_waiting_returns_at_the_first_event_or_in_time(history: History, clock: Clock) -> None:
    replay = opened(history, clock, record_run(history, RunConfig()))
    replay.drain()
    assert [type(event) for event in replay.wait(5)] == [Sampled]
    assert 100.5 <= clock.now <= 101
    replay.pause()
    before = clock.now
    assert replay.wait(2) == []
    assert clock.now == pytest.approx(before + 2)


def test_nothing_can_be_started_or_stopped(history: History, clock: Clock) -> None:
    replay = opened(history, clock, record_run(history, RunConfig()))
    replay.drain()
    replay.start(RunConfig(batch_size=3))
    replay.start_plan(Plan(name="p", title="p", runs=()))
    replay.pause_plan()
    replay.skip_run()
    replay.stop()
    refused, *logged = replay.drain()
    assert isinstance(refused, RunRefused)
    assert (refused.run_id, refused.config.batch_size) == (None, 3)
    assert "read-only" in refused.message
    assert len(logged) == 4
    assert all(isinstance(event, Logged) and "Read-only" in event.text for event in logged)
    assert replay.close()
    assert history.n_runs() == 1


def test_a_row_without_a_device_or_a_date_still_plays(history: History, clock: Clock) -> None:
    run_id = history.writer.begin_run(RunConfig(), DEVICE, DAY)
    record = RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.FAILED, host=platform.node())
    history.writer.finish_run(record)
    replay = opened(history, clock, run_id)
    begun, ended = replay.drain()
    assert isinstance(begun, RunStarted)
    assert begun.device.name == "unknown device"
    assert ended == RunFinished(record=record)
    assert "unknown day" in replay.label


def test_a_damaged_series_is_told_and_the_rest_plays(history: History, clock: Clock) -> None:
    run_id = record_run(history, RunConfig())
    history._store.change([("UPDATE batches SET payload = x'00'", ())])
    logged, begun = opened(history, clock, run_id).drain()
    assert isinstance(logged, Logged)
    assert "damaged" in logged.text
    assert isinstance(begun, RunStarted)


def test_a_recorded_run_ends_as_it_ended_live(tmp_path: Path, clock: Clock) -> None:
    """The one real training here: folded live, and folded from its recording, the screen's state is the same."""
    from engine.session.session import Session
    from tui.state.fold import fold
    from tui.state.knobs import KnobEditor
    from tui.state.state import State

    config = RunConfig(
        model="bert-tiny", device="cpu", samples=12, seq_len=16, batch_size=2, gradient_accumulation_steps=2
    )
    live, played = State(editor=KnobEditor(config)), State(editor=KnobEditor(config), playback="recorded")
    with History(tmp_path / "history.sqlite3") as history:
        session = Session(history)
        session.open()
        session.start(config)
        while live.run is None or live.run.under_way:
            for event in session.wait(60):
                fold(live, event)
        assert session.close(60)
        replay = opened(history, clock, live.run.run_id, speed=1000)
        while not replay.over:
            clock.now += 0.01
            for event in replay.drain():
                fold(played, event)
    assert played.run is not None
    assert played.finished == live.finished
    assert played.finished[0].outcome is Outcome.COMPLETED
    for name in (
        "record",
        "reached",
        "last",
        "evaluation",
        "shares",
        "n_parameters",
    ):
        assert getattr(played.run, name) == getattr(live.run, name), name
    assert played.run.figures.as_record() == live.run.figures.as_record()
    for name in ("losses", "speeds", "warmup_speeds"):
        assert _points(getattr(played.run, name)) == _points(getattr(live.run, name)), name
    peaks = ("peak_used", "peak_reserved", "peak_allocated")
    assert [getattr(played.run.memory, name) for name in peaks] == [getattr(live.run.memory, name) for name in peaks]
    assert played.editor.config == config
    assert [line for line in played.log if line.source in ("run", "memory")] == [
        line for line in live.log if line.source in ("run", "memory")
    ]


def _points(columns: Columns) -> tuple[list[float], list[float]]:
    return list(columns._x), list(columns._y)


def test_playing_and_watching_import_nothing_heavy() -> None:
    code = (
        "import sys, tempfile, pathlib\n"
        "from engine.session.demo import unpack_demo\n"
        "from engine.history.history import History\n"
        "from engine.session.playback import Replay\n"
        "from engine.session.watch import Watch\n"
        "with tempfile.TemporaryDirectory() as folder, History(unpack_demo(pathlib.Path(folder))) as history:\n"
        "    replay = Replay(history, [run.run_id for run in history.runs()])\n"
        "    replay.open(); replay.seek(1e9)\n"
        "    assert replay.drain() and Watch(history, show_last=True).drain()\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'pandas', 'textual', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
