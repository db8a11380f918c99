"""A defect of the screen: what fails closes or says so, the log file has the details, and the run goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Input, Static

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted, PlanProgress, PlanStarted, Proposed
from engine.contract.forecast_types import Proposal
from engine.contract.records import Outcome
from engine.plans.course import NAMED, named_plan
from tests.tui.app.test_forecast import forecast
from tests.tui.app.test_snapshots import answer
from tests.tui.fake_session import FakeHistory, finished, ready, record, sampled, started, training, update
from tests.tui.screen_text import Stage, stage
from tui.actions.view import ViewControl
from tui.panes.loss import LossPane
from tui.panes.title import TitlePane
from tui.screens.dialog import Dialog
from tui.screens.help import HelpScreen
from tui.screens.line import LineScreen
from tui.screens.main import MainScreen
from tui.screens.plan_table import PlanTableScreen

TINY = [(27, 10), (20, 5), (10, 3), (2, 2), (1, 1)]


class BoomError(Exception):
    """Not one that anybody expects."""


def boom(*_: Any, **__: Any) -> Any:
    raise BoomError


class BadWidget(Static):
    def render(self) -> Any:
        raise BoomError


class Composes(Dialog[None]):
    TITLE = "The trial"

    def compose(self) -> ComposeResult:
        yield Static("half")
        raise BoomError


class Mounts(Dialog[None]):
    TITLE = "The trial"

    def on_mount(self) -> None:
        raise BoomError


class Renders(Dialog[None]):
    TITLE = "The trial"

    def compose(self) -> ComposeResult:
        yield BadWidget()


class Listens(Dialog[None]):
    """Fails once somebody types."""

    TITLE = "The trial"

    def compose(self) -> ComposeResult:
        yield Input()

    def on_input_changed(self) -> None:
        raise BoomError


class Types(Dialog[None]):
    """A widget of it fails once somebody types."""

    TITLE = "The trial"

    class Field(Input):
        def watch_value(self, value: str) -> None:
            if value:
                raise BoomError

    def compose(self) -> ComposeResult:
        yield self.Field()


class Acts(Dialog[None]):
    """An action of it fails."""

    TITLE = "The trial"
    BINDINGS = [Binding("a", "act", "act")]  # noqa: RUF012

    def action_act(self) -> None:
        raise BoomError


class Waits(Dialog[None]):
    """Fails a moment after it is there."""

    TITLE = "The trial"

    def on_mount(self) -> None:
        self.set_timer(0.001, boom)
        self.call_after_refresh(boom)


DIALOGS = [Composes, Mounts, Renders, Listens, Types, Acts, Waits]


async def until(true: Callable[[], bool]) -> None:
    """Let the app live until `true`: a pilot would wait for the widgets of a dialog that fails."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


@pytest.mark.parametrize("dialog", DIALOGS)
async def test_a_dialog_that_fails_closes_and_the_app_goes_on(
    dialog: type[Dialog[None]], caplog: pytest.LogCaptureFixture
) -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        s.may_fail = True
        s.app.controllers.desk.open(dialog())
        if dialog in (Listens, Types, Acts):
            await s.press("a")
        await until(lambda: isinstance(s.app.screen, MainScreen))
        await s.feed(update(2))
        assert s.lines[-1].rstrip().endswith("The trial could not be shown: details are in the log file")
        assert "update 2/64" in s.lines[0]
        assert s.app.screen.query_one("#footer") is not None
        assert any(entry.exc_info and entry.exc_info[0] is BoomError for entry in caplog.records)
        await s.press("b")
        assert s.app.state.editor.config.batch_size == 16
        await s.press("question_mark")
        assert isinstance(s.app.screen, HelpScreen)
        assert s.app.is_running
        assert s.session.stopped == 0


async def test_the_dialogs_above_one_that_fails_close_too_and_are_left_without_an_answer() -> None:
    answers: list[object] = []
    async with stage((120, 40)) as s:
        s.may_fail = True
        below = Listens()
        s.app.controllers.desk.open(below, lambda answer: answers.append(("below", answer)))
        await s.pilot.pause()
        s.app.controllers.desk.open(LineScreen("Above", "why"), lambda answer: answers.append(("above", answer)))
        await s.pilot.pause()
        below.query_one(Input).value = "x"
        await until(lambda: len(answers) == 2)
        assert sorted(answers, key=str) == [("above", None), ("below", None)]
        assert isinstance(s.app.screen, MainScreen)


async def test_an_explanation_that_fails_is_no_longer_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.explain.timeline", boom)
    config = record(7).config
    async with stage((120, 40), [record(7)]) as s:
        s.may_fail = True
        await s.press("tab", "e")
        await s.feed()
        assert s.session.asked[-1] == config
        await s.feed(answer(config))
        await until(lambda: isinstance(s.app.screen, MainScreen))
        assert "The explanation could not be shown" in s.app.state.notice
        await s.feed()
        assert s.session.asked[-1] == s.app.state.editor.config != config


async def test_a_key_whose_action_fails_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ViewControl, "log_scale", boom)
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        s.may_fail = True
        await s.press("Y")
        assert "“log scale” failed: details are in the log file" in s.lines[-1]
        await s.press("g")
        assert "plots: the last minute" in s.lines[-1]


@pytest.mark.parametrize("pane", [LossPane, TitlePane])
async def test_a_pane_that_cannot_be_drawn_says_so_and_draws_again_once_it_can(
    pane: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(pane, "body", boom)
        async with stage((120, 40), [], started(), training(), update(1)) as s:
            for number in range(2, 8):
                await s.feed(update(number))
            assert "cannot be drawn" in s.text
            told = [entry for entry in caplog.records if "cannot be drawn" in entry.message]
            assert len(told) == 1
            assert "Samples/s" in s.text
            broken.undo()
            await s.feed(update(8))
            assert "cannot be drawn" not in s.text
            assert "update 8/64" in s.lines[0]


async def test_a_turn_that_fails_every_time_is_told_once_and_keeps_nothing_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "traintop")
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        s.may_fail = True
        monkeypatch.setattr("tui.desk.alerts.AlertControl.keep_watch", boom)
        for number in range(2, 8):
            await s.feed(update(number))
        assert "update 7/64" in s.lines[0]
        assert len(caplog.records) == 1
        assert [line.source for line in s.app.state.log].count("screen") == 1


async def test_an_event_that_cannot_be_taken_does_not_keep_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage((120, 40), [], started(), training()) as s:
        s.may_fail = True
        monkeypatch.setattr("tui.state.run_view.RunView.sampled", boom)
        await s.feed(update(1), sampled(), finished())
        assert "run 1 completed" in s.lines[0]
        assert "Something on the screen failed: details are in the log file" in s.lines[-1]


# every screen in a terminal of no size ----------------------------------------------------------------------------


async def palette(s: Stage) -> None:
    await s.press("ctrl+p")


async def details(s: Stage) -> None:
    s.app.query_one("#results").focus()
    await s.press("enter")


async def what_fits(s: Stage) -> None:
    config = RunConfig(batch_size=4)
    await s.press("h")
    await s.feed(
        Proposed(run_id=9, proposals=(Proposal(label="batch size 4", config=config, forecast=forecast(6000)),))
    )


async def wont_fit(s: Stage) -> None:
    await s.feed(Forecasted(config=s.app.state.editor.config, forecast=forecast(9000)))
    await s.press("r")


async def quit_question(s: Stage) -> None:
    await s.feed(started(10), training(10), update(1, 10))
    s.session.busy = True
    await s.press("q")


async def stop_question(s: Stage) -> None:
    s.session.busy = s.session.has_plan = True
    step = PlanProgress(plan_id=1, position=2, total=5, label="batch size 2")
    await s.feed(PlanStarted(plan_id=1, name="batch-size", title="Batch size", total=5), step)
    await s.feed(started(10), training(10), update(1, 10))
    await s.press("s")


async def plan_table(s: Stage) -> None:
    plan = named_plan(next(iter(NAMED)), RunConfig(), "lecture")
    s.app.controllers.desk.open(PlanTableScreen(plan, [record(1), record(2)]))
    await s.pilot.pause()


async def explain(s: Stage) -> None:
    await s.press("e")
    await s.feed(answer(s.app.state.editor.config))


def keys(*pressed: str) -> Callable[[Stage], Awaitable[None]]:
    async def press(s: Stage) -> None:
        s.app.query_one("#results").focus()
        await s.press(*pressed)

    return press


SCREENS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "help": keys("question_mark"),
    "explain a knob": explain,
    "explain a run": keys("e"),
    "details": details,
    "export": keys("x"),
    "filter": keys("slash"),
    "note": keys("N"),
    "named": keys("K"),
    "plans": keys("p"),
    "plan table": plan_table,
    "what fits": what_fits,
    "won't fit": wont_fit,
    "quit": quit_question,
    "stop": stop_question,
    "palette": palette,
}


@pytest.mark.parametrize(
    "size",
    [TINY[0], *(pytest.param(size, marks=pytest.mark.slow) for size in TINY[1:])],
    ids=[f"{width}x{height}" for width, height in TINY],
)
@pytest.mark.parametrize("name", SCREENS)
async def test_every_screen_survives_a_terminal_of_no_size(name: str, size: tuple[int, int]) -> None:
    rows = [record(7), record(9, Outcome.OUT_OF_MEMORY)]
    async with stage(size, history=FakeHistory(rows)) as s:
        await SCREENS[name](s)
        assert not isinstance(s.app.screen, MainScreen), name
        for width, height in [(120, 40), size, (80, 24), (3, 40), (120, 1), size]:
            await s.pilot.resize_terminal(width, height)
        assert not isinstance(s.app.screen, MainScreen), name
        await s.press("escape")
        assert isinstance(s.app.screen, MainScreen)


@pytest.mark.parametrize("size", TINY, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_panes_survive_one_too(size: tuple[int, int]) -> None:
    async with stage(size, [record(7)], ready(), started(8), training(8), update(1, 8)) as s:
        for key in ("z", "tab", "z", "V", "l", "v", "left", "escape", "T", "M"):
            await s.press(key)
            await s.feed(update(2, 8))
        await s.feed(finished(8))
        assert isinstance(s.app, App)
        assert s.app.is_running
