"""The recorded session that traintop brings along: what it tells, how long it takes, how large it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.events import Event, Logged, RunFinished
from engine.contract.records import Outcome
from engine.history.history import History
from engine.session.demo import unpack_demo
from tests.engine.session.test_playback import Clock, opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_demo_tells_the_lectures_story(tmp_path: Path, clock: Clock) -> None:
    with History(unpack_demo(tmp_path)) as history:
        runs = history.runs()
        assert history.notice is None
        replay = opened(history, clock, *(run.run_id for run in runs))
        replay.seek(1e9)
        events: list[Event] = []
        while piece := replay.drain():
            events += piece
        baseline = history.baseline()
    sizes = [(run.config.batch_size, run.outcome) for run in runs[:5]]
    assert sizes == [(size, Outcome.COMPLETED) for size in (1, 2, 4, 8)] + [(16, Outcome.OUT_OF_MEMORY)]
    eight = runs[3]
    assert baseline == eight.run_id
    by_knob = {
        (run.config.workload, run.config.batch_size, run.config.gradient_checkpointing): run for run in runs[5:8]
    }
    checkpointed = by_knob["dummy", 16, "on"]
    assert checkpointed.outcome is Outcome.COMPLETED
    assert checkpointed.peak_used is not None
    assert eight.peak_used is not None
    assert checkpointed.peak_used < eight.peak_used  # twice the batch in less memory
    one, sixteen = runs[-2:]
    assert one.config == replace(sixteen.config, gradient_accumulation_steps=1)
    assert one.eval_accuracy is not None
    assert sixteen.eval_accuracy is not None
    assert one.eval_accuracy > sixteen.eval_accuracy + 0.1
    assert [event.record for event in events if isinstance(event, RunFinished)] == runs
    assert not [event for event in events if isinstance(event, Logged) and "/" in event.text]
    assert not [event for event in events if isinstance(event, Logged) and event.level == "error"]


def test_the_demo_is_small_and_takes_about_two_minutes(tmp_path: Path, clock: Clock) -> None:
    from importlib.resources import files

    from engine.session.demo import FILE
    from tui.commands.replay import DEMO_SPEED

    assert len(files("engine.session").joinpath(FILE).read_bytes()) <= 300_000
    with History(unpack_demo(tmp_path)) as history:
        replay = opened(history, clock, *(run.run_id for run in history.runs()))
        assert 80 <= replay.duration / DEMO_SPEED <= 160
