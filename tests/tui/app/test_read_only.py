"""The app where it does not drive: what its keys refuse, what they still do, and how a recording is steered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.records import Outcome
from engine.history.history import History
from engine.session.demo import unpack_demo
from engine.session.playback import Replay
from tests.tui.fake_session import FakeHistory, FakeSession, record, started, training, update
from tests.tui.screen_text import SIZES, Stage
from tui.app.app import TraintopApp


class Clock:
    """Moved by the test alone: what is played does not depend on how long a test takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def watching(size: tuple[int, int] = (120, 40)) -> AsyncIterator[Stage]:
    """The app over somebody else's runs: two that are over."""
    history = FakeHistory([record(1), record(2)])
    session = FakeSession("watching", history)
    app = TraintopApp(session, RunConfig(), read_only=True)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        stage = Stage(app, pilot, session, history)
        await stage.feed()
        yield stage


@asynccontextmanager
async def playing(folder: Path, speed: float = 1.0, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Stage]:
    """The app playing the recorded session that traintop brings along."""
    with History(unpack_demo(folder)) as history:
        clock = Clock()
        replay = Replay(history, [run.run_id for run in history.runs()], speed, clock=clock)
        app = TraintopApp(replay, RunConfig(), read_only=True)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            stage: Any = Stage(app, pilot, replay, history)  # type: ignore[arg-type]
            stage.clock = clock
            yield stage


async def pass_s(stage: Any, seconds: float) -> None:
    """Let time pass on the recording's clock, and the screen show it."""
    stage.clock.now += seconds
    while stage.session._next < len(stage.session._times):
        before = stage.session._next
        stage.app.tick()
        if stage.session._next == before:
            break
    stage.app.controllers.painter.paint()
    await stage.pilot.pause()


@pytest.mark.parametrize("key", ["r", "s", "b", "B", "c", "f", "a", "A", "m", "w", "o", "p", "S", "n", "u", "space"])
async def test_keys_that_would_change_something_say_why_they_do_not(key: str) -> None:
    async with watching() as s:
        before = s.app.state.editor.config
        await s.press(key)
        assert "read-only: watching" in s.lines[-1]
        assert s.session.started == []
        assert s.session.stopped == 0
        assert s.app.state.editor.config == before
        assert s.history.baseline() is None
        assert s.app.screen is s.app.controllers.desk.main


async def test_keys_of_the_table_that_would_change_the_history_are_refused_too() -> None:
    async with watching() as s:
        s.app.query_one("#results").focus()
        for key in ("d", "N"):
            await s.press(key)
            assert "read-only: watching" in s.lines[-1]
            assert s.app.screen is s.app.controllers.desk.main
        assert len(s.history.runs()) == 2


async def test_what_only_looks_still_works() -> None:
    async with watching() as s:
        s.app.query_one("#results").focus()
        await s.press("up")
        assert s.app.state.selected is not None
        assert s.app.state.selected.run_id == 1
        await s.press("l")
        assert s.app.controllers.desk.main is not None
        assert s.app.controllers.desk.main.has_class("log")
        await s.press("question_mark")
        assert s.app.screen is not s.app.controllers.desk.main
        assert "start" not in "\n".join(line for line in s.lines if " r " in line)
        await s.press("escape")
        await s.press("q")
    assert s.app.return_value == "quit"


async def test_the_palette_and_the_last_line_offer_only_what_works() -> None:
    async with watching() as s:
        offered = {command.title for command in s.app.get_system_commands(s.app.screen)}
        assert {"Help", "Quit", "Log", "Run details"} <= offered
        assert not offered & {"Run", "Stop", "Undo", "Pin", "Delete runs", "Note"}
        assert not [name for name in offered if name.startswith("Set ")]
        assert " r run" not in s.lines[-1]
        assert " q quit" in s.lines[-1]


async def test_an_action_that_nobody_thought_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TraintopApp, "action_launch", lambda self: None, raising=False)
    async with watching() as s:
        changing = ("run", "stop", "plans", "undo", "pin", "note", "delete", "restore", "type_value", "launch")
        assert [action for action in changing if s.app.check_action(action, ())] == []
        looking = ("run_details", "explain", "log", "help", "quit", "zoom", "export", "screenshot", "focus_next")
        assert [action for action in looking if not s.app.check_action(action, ())] == []
        monkeypatch.setattr(TraintopApp, "is_web", True)
        assert not s.app.check_action("export", ())  # it would write where the server runs
        assert not s.app.check_action("screenshot", ())


@pytest.mark.parametrize("size", SIZES)
async def test_the_title_says_what_is_shown(size: tuple[int, int], tmp_path: Path) -> None:
    async with watching(size) as s:
        assert "watching" in s.lines[0]
        await s.feed(started(3), training(3), update(1, run_id=3))
        assert "watching" in s.lines[0]
        assert "press r" not in s.text
    async with playing(tmp_path, size=size) as s:
        await pass_s(s, 1)
        assert "recorded on 20" in s.lines[0]
        assert "×1" in s.lines[0]


async def test_the_knobs_are_those_of_the_run_that_is_shown() -> None:
    async with watching() as s:
        await s.feed(started(3, RunConfig(batch_size=32, gradient_checkpointing="on")))
        assert s.app.state.editor.config.batch_size == 32
        assert "32" in s.line("batch size")
        await s.feed(started(4, RunConfig(batch_size=32, gradient_checkpointing="on", precision="bf16")))
        assert s.app.state.editor.selected == "precision"
        assert "Next run" not in s.text


async def test_a_run_that_begins_again_has_one_row() -> None:
    async with watching() as s:
        s.app.state.add_history([record(3, Outcome.RUNNING)])
        await s.feed(started(3), training(3))
        assert [row.run_id for row in s.app.state.rows] == [1, 2, 3]


async def test_the_demo_plays_to_its_end_and_back(tmp_path: Path) -> None:
    async with playing(tmp_path, speed=1000) as s:
        runs = s.history.runs()
        await pass_s(s, 1000)
        assert [row.outcome for row in s.app.state.rows] == [run.outcome for run in runs]
        assert "over" in s.lines[0]
        assert s.app.state.baseline == 4
        await s.press("left")
        assert "of" in s.lines[-1]
        await pass_s(s, 0.0)
        assert s.app.state.finished == []
        assert [row.run_id for row in s.app.state.rows] == [
            runs[0].run_id
        ]  # 10 seconds at this speed are more than all of it
        assert s.app.state.baseline is None
        await s.press("right")
        await pass_s(s, 0.0)
        assert len(s.app.state.rows) == len(runs)


async def test_space_pauses_and_plus_and_minus_change_the_speed(tmp_path: Path) -> None:
    async with playing(tmp_path) as s:
        await pass_s(s, 5)
        await s.press("space")
        assert "paused" in s.lines[0]
        position = s.session.position  # type: ignore[attr-defined]
        await pass_s(s, 100)
        assert s.session.position == position  # type: ignore[attr-defined]
        await s.press("space", "plus")
        assert "×2" in s.lines[0]
        await s.press("minus", "minus")
        assert "×0.5" in s.lines[0]
        assert "space pause" in s.lines[-1]
        assert "←/→ 10 s" in s.lines[-1]
        await s.press("r")
        assert "read-only: recorded on" in s.lines[-1]


async def test_the_cursor_takes_the_arrows_of_a_recording_while_it_is_there(tmp_path: Path) -> None:
    async with playing(tmp_path) as stage:
        await pass_s(stage, 12.0)
        run = stage.app.state.run
        assert run is not None
        position = stage.session.position
        await stage.press("v", "left")
        assert stage.app.state.view.cursor is not None
        assert stage.session.position == position
        await stage.press("escape", "right")
        assert stage.app.state.view.cursor is None
        assert stage.session.position > position


@pytest.mark.parametrize("size", SIZES)
async def test_the_notes_of_a_recording_are_its_captions(size: tuple[int, int], tmp_path: Path) -> None:
    async with playing(tmp_path, size=size) as s:
        await pass_s(s, 5)
        assert "Batch 1: one sample a pass," in s.lines[1]
        await pass_s(s, 1e6)
        assert "run 10 completed" in s.lines[1]
        await s.press("V", "V")  # the presenter's view and back: what the run under way, or the last one, was to show
        s.app.tick()
        await s.pilot.pause()
        assert "bert-tiny" not in s.lines[1]


async def test_the_presenter_speaks_of_the_run_that_is_shown() -> None:
    async with watching() as s:
        await s.press("V")
        assert s.lines[2].strip() == "watching"
        await s.feed(started(3, RunConfig(batch_size=3)))
        await s.press("V", "V")
        assert "run 3: bert-tiny" in s.lines[2]
        assert "batch 3" in s.lines[2]


async def test_without_notes_there_is_no_band_of_captions() -> None:
    async with watching() as s:
        assert not s.app.screen.has_class("guided")
        assert not s.app.query_one("#caption").display
