"""The app on a link that stalls or is slow, what it costs, and how it calls somebody who is not looking."""

from __future__ import annotations

import math

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import RunFinished
from engine.contract.records import Outcome
from tests.tui.fake_answers import ANSWERING, answer_record, answering, begun, prefilled, tokens
from tests.tui.fake_session import FakeSession, finished, started, training, update
from tests.tui.screen_text import Stage, stage
from tests.tui.terminal.test_link import Clock
from tui.app.app import TraintopApp
from tui.desk.painter import HOLD_S, PAINT_EVERY, SLOW_PAINT_EVERY
from tui.panes.base import Pane
from tui.terminal.link import Link


def shown(s: Stage) -> str:
    """The first line as it was painted last."""
    return painted(s, "title").partition("\n")[0]


def painted(s: Stage, pane: str) -> str:
    """A pane's lines as they were painted last."""
    lines = s.app.screen.query_one(f"#{pane}", Pane)._painted
    return "\n".join("".join(text for text, _ in line) for line in lines)


def stall(s: Stage) -> tuple[Link, Clock]:
    """From now on nothing leaves."""
    clock = Clock()
    link = Link(clock)
    s.app.controllers.painter.link = link
    link.handed_over()
    return link, clock


# a stalled link --------------------------------------------------------------------------------------------------


async def test_nothing_is_painted_while_the_link_is_behind_and_the_newest_is_at_once_after() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        link, clock = stall(s)
        clock.now += 0.5
        await s.feed(*(update(number) for number in range(2, 40)))
        await s.press("b")  # a key's answer has to wait too
        assert "update 1/64" in shown(s)
        assert s.app.state.run is not None
        assert s.app.state.run.reached == 39  # what happens is still taken
        link.left(1, 100)
        s.app.tick()
        assert "update 39/64" in shown(s)
        await s.pilot.pause()
        assert "8 → 16" in s.text


async def test_after_a_second_nothing_at_all_is_drawn_until_the_terminal_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        link, clock = stall(s)
        clock.now += HOLD_S * 2
        s.app.tick()
        drawn: list[object] = []
        monkeypatch.setattr(s.app.screen._compositor, "render_update", lambda **_: drawn.append(1), raising=True)
        for size in ((100, 30), (140, 45), (120, 40)):
            await s.pilot.resize_terminal(*size)
        await s.press("question_mark")
        await s.press("escape")
        monkeypatch.undo()
        link.left(1, 100)
        s.app.tick()
        await s.pilot.pause()
        assert s.app.controllers.painter._hold is None
        assert "update 1/64" in s.text
        assert s.line("Next run").startswith("┌")


# a slow one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slow", "every"), [(False, PAINT_EVERY), (True, SLOW_PAINT_EVERY)])
async def test_a_slow_link_is_painted_less_often_but_answers_keys(slow: bool, every: int) -> None:
    session = FakeSession()
    app = TraintopApp(session, RunConfig(), slow_link=slow)
    async with app.run_test(size=(120, 40)) as pilot:
        s = Stage(app, pilot, session, session.history)
        await s.feed(started(), training(), update(1))
        app.controllers.painter._turns = 0
        for number in range(2, every + 2):
            assert "update 1/64" in shown(s)
            session.feed(update(number))
            app.tick()
        assert f"update {every + 1}/64" in shown(s)
        session.feed(update(60))
        await s.press("b")
        assert "8 → 16" in s.text


# an answer -------------------------------------------------------------------------------------------------------


async def test_while_a_model_writes_every_second_repaint_shows_its_answer_alone() -> None:
    """Whoever draws on the processor takes from who computes there; keys and ends are shown at once as ever."""
    async with stage(
        (120, 40), [], begun(), answering(), prefilled(1), tokens(1, text="word0 "), config=ANSWERING
    ) as s:
        s.app.controllers.painter._turns = 0
        at: dict[str, list[int]] = {"answer": [], "speed": []}
        for turn in range(1, 4 * PAINT_EVERY + 1):
            before = {pane: painted(s, pane) for pane in at}
            s.session.feed(tokens(1, text=f"word{turn} ", gap=0.005 + turn / 1000, t=0.1 + turn / 10))
            s.app.tick()
            for pane, text in before.items():
                if painted(s, pane) != text:
                    at[pane].append(turn)
        assert at["answer"] == [PAINT_EVERY * n for n in (1, 2, 3, 4)]
        assert at["speed"] == [PAINT_EVERY * n for n in (2, 4)]
        s.session.feed(RunFinished(record=answer_record(1)))
        s.app.tick()
        assert "completed" in painted(s, "title")


# the meter -------------------------------------------------------------------------------------------------------


async def test_the_footer_shows_what_the_app_costs_on_demand() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        assert "KB/s" not in s.lines[-1]
        await s.press("M")
        assert s.lines[-1].rstrip().endswith("app –")
        s.app.controllers.meter.meter.read(-2.0, 0.0, 0)  # type: ignore[union-attr]
        s.app.controllers.meter.meter._before = (0.0, 0.0, 0)  # type: ignore[union-attr]
        await s.feed(update(2))
        assert "of a core" in s.lines[-1]
        assert "KB/s" in s.lines[-1]
        await s.press("M")
        assert "KB/s" not in s.lines[-1]


# who is not looking ----------------------------------------------------------------------------------------------


class Rung:
    """How often the bell rang, and what the window was called."""

    def __init__(self, app: TraintopApp, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bells = 0
        self.titles: list[str] = []
        monkeypatch.setattr(app, "bell", self._ring)
        app.controllers.painter.link.show_title = self._name

    def _ring(self) -> None:
        self.bells += 1

    def _name(self, title: str) -> None:
        if not self.titles or title != self.titles[-1]:
            self.titles.append(title)


@pytest.mark.parametrize(
    ("outcome", "bells"), [(Outcome.COMPLETED, 1), (Outcome.OUT_OF_MEMORY, 1), (Outcome.STOPPED, 0)]
)
async def test_the_end_of_a_run_rings_and_names_the_window(
    outcome: Outcome, bells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage((120, 40)) as s:
        rung = Rung(s.app, monkeypatch)
        await s.feed(started(), training(), update(32))
        await s.feed(finished(outcome=outcome))
        assert rung.bells == bells
        words = outcome.value.replace("_", " ")
        assert rung.titles == ["traintop: run 1 batch 8 50 %", f"traintop: run 1 {words}"]


async def test_a_loss_that_is_no_number_is_said_once_in_the_footer_and_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        rung = Rung(s.app, monkeypatch)
        await s.feed(*(update(number, loss=math.nan) for number in range(2, 9)))
        assert "Run 1: the loss is nan from update 2 on" in s.lines[-1]
        assert [line.text for line in s.app.state.log if line.source == "alert"] == [s.app.state.notice]
        assert rung.bells == 1


async def test_a_run_that_stands_still_is_shown_in_the_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("tui.desk.alerts.monotonic", clock)
    async with stage((120, 40), [], started(), training(), *(update(n, t=float(n)) for n in range(1, 9))) as s:
        rung = Rung(s.app, monkeypatch)
        for _ in range(40):
            clock.now += 1.0
            s.app.tick()
        assert rung.bells == 1
        assert rung.titles[-1] == "traintop: run 1 batch 8 stands still 12 %"
        await s.feed()
        assert "stands still for 00:40" in s.lines[0]
        await s.feed(update(9, t=49.0))
        assert "stands still" not in s.lines[0]
        assert rung.bells == 1


@pytest.mark.parametrize("more", [{"read_only": True}, {"rings": False}], ids=["watching", "no bell"])
async def test_who_only_watches_or_wants_no_bell_hears_none(
    more: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = FakeSession("watching" if "read_only" in more else "")
    app = TraintopApp(session, RunConfig(), **more)
    async with app.run_test(size=(120, 40)) as pilot:
        s = Stage(app, pilot, session, session.history)
        rung = Rung(app, monkeypatch)
        await s.feed(started(), training(), update(1, loss=math.inf), finished())
        assert rung.bells == 0
        assert "the loss is inf" in s.lines[-1]
