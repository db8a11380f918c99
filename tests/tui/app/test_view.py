"""Zoom, scales and windows, the baseline behind the live run, colours, and the presenter's view."""

from __future__ import annotations

import pytest

from engine.contract.config import RunConfig
from tests.tui.fake_session import finished, record, sampled, started, training, update
from tests.tui.screen_text import SIZES, FakeHistory, stage
from tui.panes.base import Pane
from tui.terminal.palette import THEMES

TRAINING = (started(8), training(8), *(update(n, 8) for n in range(1, 31)), sampled(8, t=30.0))
PANES = ["knobs", "memory", "utilization", "speed", "loss", "time", "results", "log"]


@pytest.mark.parametrize("size", SIZES)
async def test_the_focused_pane_fills_the_screen_and_goes_back(size: tuple[int, int]) -> None:
    async with stage(size, [record(7)], *TRAINING) as s:
        before = {pane.id: pane.size for pane in s.app.screen.query(Pane)}
        await s.press("z")
        seen = []
        for _ in PANES:
            shown = [pane for pane in s.app.screen.query(Pane) if pane.is_on_screen]
            [middle] = [pane for pane in shown if pane.id not in ("title", "footer")]
            assert middle.size == (size[0], size[1] - 2)
            assert middle.has_focus
            assert any(cell != " " for line in middle._painted for cell, _ in line)
            seen.append(middle.id)
            await s.press("tab")
        assert seen == PANES
        await s.press("escape")
        assert {pane.id: pane.size for pane in s.app.screen.query(Pane)} == before


async def test_enter_on_a_plot_zooms_it() -> None:
    async with stage((120, 40), [], *TRAINING) as s:
        await s.pilot.click("#loss")
        await s.press("enter")
        assert s.app.screen.query_one("#loss", Pane).size.width == 120
        await s.press("enter")
        assert s.app.screen.query_one("#loss", Pane).size.width < 120


async def test_the_loss_on_a_logarithmic_axis() -> None:
    async with stage((120, 40), [], *TRAINING) as s:
        linear = list(s.app.screen.query_one("#loss", Pane)._painted)
        await s.press("Y")
        assert "Loss (log)" in s.text
        assert s.app.screen.query_one("#loss", Pane)._painted != linear
        await s.press("Y")
        assert "Loss (log)" not in s.text


async def test_the_last_minute_and_the_whole_run() -> None:
    events = [update(n, 8, t=float(n)) for n in range(1, 201)]
    async with stage((120, 40), [], started(8), training(8, planned=1000), *events) as s:
        run = s.app.state.run
        assert run is not None
        low, high = run.recent_range()
        assert low == pytest.approx(140, abs=2)
        assert 200 < high < 220
        pane = s.app.screen.query_one("#loss", Pane)
        rightmost = max(index for line in pane._painted[2:-1] for index, (_, role) in enumerate(line) if role == "loss")
        await s.press("g")
        assert "the last minute" in s.lines[-1]
        assert rightmost < 25
        assert max(i for line in pane._painted[2:-1] for i, (_, role) in enumerate(line) if role == "loss") > 35


def ghosts(pane: Pane) -> int:
    """Cells of the baseline's curve."""
    return sum(role == "ghost" for line in pane._painted for _, role in line)


async def test_the_baseline_is_drawn_behind_another_run_and_not_behind_itself() -> None:
    history = FakeHistory([record(1)], baseline=1)
    history.events[1] = [training(1, planned=32), *(update(n, 1, loss=0.9) for n in range(1, 33))]
    async with stage((120, 40), [], *TRAINING, history=history) as s:
        for name in ("loss", "speed"):
            assert ghosts(s.app.screen.query_one(f"#{name}", Pane)) > 10
        await s.press("tab", "home", "space")
        assert ghosts(s.app.screen.query_one("#loss", Pane)) == 0
        await s.press("space")
        s.app.tick()
        s.app.controllers.painter.paint()
        assert ghosts(s.app.screen.query_one("#loss", Pane)) > 10
        await s.feed(finished(8), started(1, RunConfig()), training(1))
        assert ghosts(s.app.screen.query_one("#loss", Pane)) == 0


async def test_colours_go_round() -> None:
    async with stage((80, 24)) as s:
        seen = [s.app.theme]
        for _ in THEMES:
            await s.press("T")
            seen.append(s.app.theme)
        assert seen == [*THEMES, next(iter(THEMES))]


@pytest.mark.parametrize("size", SIZES)
async def test_the_presenter_shows_large_figures_and_the_keys(size: tuple[int, int]) -> None:
    async with stage(size, [], *TRAINING) as s:
        await s.press("V")
        assert "┗━┛" in s.text
        assert not s.app.screen.query_one("#utilization", Pane).is_on_screen
        await s.press("b", "c")
        assert s.app.state.view.keys == ["b", "c"]
        assert " b " in s.lines[-1][-12:]
        await s.press("V")
        assert "┗━┛" not in s.text
        assert s.app.state.view.keys == []


async def test_no_color_means_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with stage((120, 40), [record(1)], *TRAINING) as s:
        await s.press("c")
        segments = [segment for strip in s.app.screen._compositor.render_strips() for segment in strip]
        styles = [segment.style for segment in segments if segment.style is not None]
        assert not any((style.color or style.bgcolor) and not _default(style) for style in styles)
        assert any(style.reverse for style in styles)


def _default(style: object) -> bool:
    colours = [getattr(style, name) for name in ("color", "bgcolor")]
    return all(colour is None or colour.is_default for colour in colours)
