"""The recorded session that traintop brings along: what it tells, how long it takes, how large it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.events import Event, Logged, RunFinished
from engine.contract.figures import speed_of
from engine.contract.records import Outcome
from engine.history.history import History
from engine.session.demo import unpack_demo
from tests.benchmarks.record_demo import STORY
from tests.engine.session.demo_story import problems
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
        notes = history.notes()
    assert problems(runs) == []
    assert [run.config.batch_size for run in runs[:5]] == [1, 2, 4, 8, 16]
    assert baseline == runs[3].run_id
    assert [config for config, _ in STORY] == [run.config for run in runs]
    assert list(notes.values()) == [caption for _, caption in STORY]
    assert [event.record for event in events if isinstance(event, RunFinished)] == runs
    assert not [event for event in events if isinstance(event, Logged) and "/" in event.text]
    assert not [event for event in events if isinstance(event, Logged) and event.level == "error"]


def test_a_story_that_contradicts_the_lecture_is_told(tmp_path: Path) -> None:
    with History(unpack_demo(tmp_path)) as history:
        runs = history.runs()
    one, eight = runs[0], runs[3]

    def told(number: int, **values: object) -> str:
        return " ".join(problems([*runs[: number - 1], replace(runs[number - 1], **values), *runs[number:]]))  # type: ignore[arg-type]

    slow = {"steady_samples_per_s": 0.5 * (speed_of(one) or 0.0), "samples_per_s": 0.5 * (speed_of(one) or 0.0)}
    fast = {"steady_samples_per_s": speed_of(eight), "samples_per_s": eight.samples_per_s}
    assert told(2, **slow).startswith("samples/s do not grow with the batch")
    assert "memory does not grow" in told(2, peak_used=one.peak_used)
    assert "checkpointing costs no time" in told(7, **fast)
    assert "checkpointing does not save memory" in told(8, peak_used=eight.peak_used)
    assert "does not lose accuracy" in told(10, eval_accuracy=runs[8].eval_accuracy)
    assert "runs end otherwise" in told(5, outcome=Outcome.COMPLETED)


def test_the_demo_is_small_and_takes_about_two_minutes(tmp_path: Path, clock: Clock) -> None:
    from importlib.resources import files

    from engine.session.demo import FILE
    from tui.commands.replay import DEMO_SPEED

    assert len(files("engine.session").joinpath(FILE).read_bytes()) <= 300_000
    with History(unpack_demo(tmp_path)) as history:
        replay = opened(history, clock, *(run.run_id for run in history.runs()))
        assert 80 <= replay.duration / DEMO_SPEED <= 160
