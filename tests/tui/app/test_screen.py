"""What the screen shows: at three sizes, before, during and after runs, with hostile text and while it is resized."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.geometry import Size

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted, HistoryState, Logged, PlanProgress, PlanStarted, RunProgress
from engine.contract.records import HostSample, Memory, Outcome, Phase, Place, RunRecord
from tests.tui.app.test_forecast import forecast
from tests.tui.fake_session import (
    CPU,
    GPU,
    MIB,
    FakeHistory,
    finished,
    moment,
    ready,
    record,
    sampled,
    started,
    training,
    update,
)
from tests.tui.screen_text import SIZES, stage
from tui.panes.base import Pane
from tui.screens.details import run_details
from tui.screens.main import MainScreen, layout_for

TRAINING = (
    started(run_id=8),
    moment("start", 8),
    training(8),
    *(update(n, 8) for n in range(1, 31)),
    sampled(8, t=30.0),
)


@pytest.mark.parametrize("size", SIZES)
async def test_a_run_under_way(size: tuple[int, int]) -> None:
    async with stage(size, [record(7)], *TRAINING) as s:
        text = s.text
        assert "Tesla P4" in s.lines[0]
        assert "run 8" in s.lines[0]
        assert "00:30 / ~01:07" in s.lines[0]
        assert "7099" in text
        assert "8.00 ±0.00" in text
        assert "0.550" in text
        assert "97" in text
        assert "backward" in text
        assert s.line("base").count("7.70") == 1
        assert "46 %" in text
        assert all(len(line) == size[0] for line in s.lines if line.isascii())


@pytest.mark.parametrize("size", SIZES)
async def test_a_busy_host_is_said_beside_the_plots_and_in_the_row(size: tuple[int, int]) -> None:
    busy = replace(record(7), device=CPU, host_cores=2.0, host_free_cores=0.1)
    reading = replace(sampled(8, t=79.0, gpu=False), host=HostSample(cpu=99.0, cores=2.0, free_cores=0.06))
    async with stage(size, [busy], started(run_id=8), training(8), reading) as s:
        assert size[1] == 24 or "s take 1.9 of 2 cores" in s.text
        assert (" busy " if size[0] == 80 else " host busy ") in s.line("base").ljust(size[0])
        s.app.push_screen(run_details(busy, size[0]))
        await s.pilot.pause()
        assert "completed, host busy" in s.text
        assert "Host busy 95 %" in s.text


@pytest.mark.parametrize("size", SIZES)
async def test_a_long_step_says_where_it_is(size: tuple[int, int]) -> None:
    place = Place(phase=Phase.BACKWARD, layer=7, layers=12)
    async with stage(size, [], started(run_id=8), training(8), replace(sampled(8, t=79.0), place=place)) as s:
        assert "layer 7 of 12, backward   01:19 / –" in s.lines[0]
        assert size[0] == 80 or "update 0/64  layer 7 of 12, backward" in s.lines[0]
        assert s.text.count("layer 7 of 12, backward") == (1 if size[1] == 24 else 2)
        await s.feed(update(1, 8, t=80.0))
        assert "layer 7" not in s.text


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_known_is_a_dash_not_a_zero(size: tuple[int, int]) -> None:
    async with stage(size, engine_ready=False) as s:
        assert "–" in s.text
        assert "0.000" not in s.text
        assert "nan" not in s.text


@pytest.mark.parametrize("size", SIZES)
async def test_out_of_memory_is_plain_to_see(size: tuple[int, int]) -> None:
    end = finished(8, Outcome.OUT_OF_MEMORY, message="Out of memory in forward of micro-step 31.")
    async with stage(size, [], *TRAINING, end) as s:
        assert "run 8 out of memory" in s.lines[0]
        assert "Out of memory in forward" in s.text
        assert "OOM" in s.text or s.text.count("out of memory") >= 2


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.RUNNING])
async def test_rows_of_every_outcome(outcome: Outcome) -> None:
    async with stage((120, 40), [record(3, outcome)]) as s:
        assert outcome.value.replace("_", " ") in s.text


async def test_the_newest_row_is_visible_in_a_long_table() -> None:
    async with stage((80, 24), [record(number) for number in range(1, 200)]) as s:
        assert any(line.split("│")[-2].strip().startswith("199 ") for line in s.lines if line.count("│") > 2)
        await s.press("tab", "home")
        assert any(line.split("│")[-2].strip().startswith("1 ") for line in s.lines if line.count("│") > 2)


async def test_a_cpu_measures_ram_and_leaves_out_what_it_does_not_have() -> None:
    async with stage((120, 40), [], ready(CPU), started(device=CPU), training()) as s:
        await s.feed(update(1, memory=Memory(used=900 * MIB, total=16_000 * MIB)), sampled(gpu=False))
        head = s.line("RAM MiB")
        assert "used 7099" in head or "used 900" in head
        assert "reserved" not in head
        assert "cpu 55" in s.text
        assert "Intel Xeon · cpu" in s.lines[0]


async def test_the_memory_parts_are_labelled_and_add_up() -> None:
    async with stage((120, 40), [], *TRAINING) as s:
        legend = s.line("weights 418")
        assert "activations 4693" in legend
        assert "cached 203" in legend
        assert "context 531" in legend
        assert 418 + 418 + 836 + 4693 + 203 + 531 == 7099


async def test_a_long_device_name_keeps_its_place_beside_the_clock() -> None:
    device = type(GPU)(name="Intel Xeon Processor E5-2699", kind="cpu", memory_total=8000 * MIB, memory_label="RAM")
    async with stage((80, 24), [], started(device=device), training(), update(1)) as s:
        assert "Intel Xeon Processor E5-2699 · cpu" in s.lines[0]
        assert "00:01" in s.lines[0]


@pytest.mark.parametrize("size", SIZES)
async def test_a_plan_says_where_it_is(size: tuple[int, int]) -> None:
    plan = PlanProgress(plan_id=1, position=3, total=12, label="batch 4")
    async with stage(size, [], PlanStarted(plan_id=1, name="batch", title="Batch sizes", total=12), plan) as s:
        assert "plan 3/12" in s.lines[0]
        await s.feed(*TRAINING)
        assert "plan 3/12" in s.lines[0]
        assert "00:30 / ~01:07" in s.lines[0]


async def test_warm_up_is_said() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        assert "warm-up" in s.text


async def test_loading_says_what_it_does() -> None:
    async with stage() as s:
        await s.feed(started(), RunProgress(run_id=1, phase=Phase.LOAD, detail="loading bert-tiny"))
        assert "loading bert-tiny…" in s.lines[0]


async def test_history_is_there_before_the_engine() -> None:
    async with stage((120, 40), [record(5)], engine_ready=False) as s:
        assert s.session.opened == 1
        assert "completed" in s.text
        await s.press("b")
        assert " 16 │" in s.line("batch size")


@pytest.mark.parametrize(
    ("size", "layout"),
    [
        ((79, 24), "too-small"),
        ((80, 23), "too-small"),
        ((80, 24), "small"),
        ((200, 30), "small"),
        ((120, 40), "medium"),
        ((120, 60), "medium"),
        ((200, 60), "large"),
    ],
)
def test_layouts(size: tuple[int, int], layout: str) -> None:
    assert layout_for(Size(*size)) == layout


async def test_too_small_is_one_sentence_and_resizing_works_live() -> None:
    async with stage((70, 20), [], *TRAINING) as s:
        assert s.text.strip() == "terminal too small: 70×20, needs 80×24"
        for width, height in [(80, 24), (120, 40), (200, 60), (80, 24), (120, 40)]:
            await s.pilot.resize_terminal(width, height)
            await s.pilot.pause()
            assert len(s.lines) == height
            assert "run 8" in s.lines[0]
            assert "quit" in s.lines[-1]
        await s.pilot.resize_terminal(60, 10)
        await s.pilot.pause()
        assert s.text.strip() == "terminal too small: 60×10, needs 80×24"


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (110, 36), (140, 45), (170, 50), (250, 80)])
async def test_no_pane_is_empty_at_sizes_between(size: tuple[int, int]) -> None:
    async with stage(size, [record(7)], *TRAINING) as s:
        panes = [pane for pane in s.app.screen.query(Pane) if pane.display and pane.id != "too-small"]
        for pane in panes:
            if pane.is_on_screen:
                assert any(cell != " " for line in pane._painted for cell, _ in line), pane.id


async def test_hostile_text_is_shown_as_text() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[red]x[/red] [@click=app.quit]y[/]"
    config = RunConfig(model="[bold]evil[/bold]\x1b[31m漢字", data="/tmp/[link=x]")
    gpu = type(GPU)(name="Tesla\x1b[2J [b]P4", kind="cuda", memory_total=8000 * MIB)
    async with stage((200, 60), [record(7, Outcome.FAILED, config=config, message=evil)], ready(gpu)) as s:
        await s.feed(Logged(source="stderr\x1b[1m", text=evil, level="error"), started(8, config, gpu))
        text = s.text
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]x[/red]" in text
        assert "[b]P4" in text
        await s.press("tab", "up", "enter")
        assert "[red]x[/red]" in s.text


async def test_a_light_theme_repaints_everything() -> None:
    async with stage((120, 40), [], *TRAINING) as s:
        style = s.app.screen.get_component_rich_style("loss")
        s.app.theme = "textual-light"
        await s.pilot.pause()
        assert s.app.screen.get_component_rich_style("loss") != style
        pane = s.app.screen.query_one("#loss", Pane)
        colours = {segment.style.bgcolor for segment in pane.render_line(0) if segment.style}
        assert colours == {s.app.screen.rich_style.bgcolor}


async def test_a_repaint_marks_only_the_cells_that_changed() -> None:
    async with stage((120, 40), [], *TRAINING) as s:
        await s.pilot.pause()
        s.session.feed(update(31, 8))
        s.app.tick()
        panes = list(s.app.screen.query(Pane))
        for pane in panes:
            pane._repaint_regions.clear()
        assert isinstance(s.app.screen, MainScreen)
        s.app.screen.show(s.app.state)
        dirty = sum(region.area for pane in panes for region in pane._repaint_regions)
        assert 0 < dirty < 120
        for pane in panes:
            pane._repaint_regions.clear()
        s.app.screen.show(s.app.state)
        assert not any(pane._repaint_regions for pane in panes)


async def test_clicking_moves_the_cursors() -> None:
    async with stage((120, 40), [record(1), record(2), record(3)]) as s:
        await s.pilot.click("#knobs", offset=(5, 4))
        assert s.app.state.editor.selected == "gradient_checkpointing"
        await s.pilot.click("#results", offset=(5, 2))
        assert s.app.state.selected_run == 1


@pytest.mark.parametrize("size", SIZES)
async def test_a_damaged_history_is_told_whole(size: tuple[int, int]) -> None:
    history = FakeHistory()
    history.notice = f"The history was damaged: it is kept as /home/ada/{'x' * 60}/history.damaged.sqlite3, see there."
    async with stage(size, history=history) as s:
        assert "The history was damaged" in s.text
        assert "see there" in s.text
        await s.press("escape")
        assert "see there" not in s.text
        assert "history" in {line.source for line in s.app.state.log}


@pytest.mark.parametrize("size", SIZES)
async def test_the_title_says_that_the_history_is_not_written(size: tuple[int, int]) -> None:
    async with stage(size, [], started(), training(), update(9)) as s:
        assert "history not written" not in s.text
        await s.feed(HistoryState(problem="The disk is full."))
        assert "traintop  history not written" in s.lines[0]
        await s.feed(HistoryState(problem=None))
        assert "history not written" not in s.text


VIRTUAL = replace(GPU, kind="virtual", index=None)
CARD = 745.0


def on_virtual(run_id: int, **values: Any) -> RunRecord:
    return record(run_id, device=VIRTUAL, config=RunConfig(), forecast_samples_per_s=CARD, **values)


@pytest.mark.parametrize("size", SIZES)
async def test_on_a_virtual_gpu_every_speed_says_whose_it_is(size: tuple[int, int]) -> None:
    """The card's forecast of 745 samples/s beside this CPU's 8."""
    asked = Forecasted(config=RunConfig(), forecast=forecast(695, samples_per_s=CARD))
    async with stage(size, [on_virtual(1)], ready(VIRTUAL), asked) as s:
        await s.feed(started(2, device=VIRTUAL), training(2), *(update(n, 2) for n in range(1, 11)))
        assert "card ~745 samples/s" in s.text  # the forecast
        speed = s.line("card ~745   ") or s.line("8.00 ±0.00")
        assert "8.00 ±0.00   card ~745" in speed
        assert "CPU samples/s" in s.text or "CPU /s " in s.line("8.00 ±0.00")
        assert "CPU 00:10" in s.lines[0]
        heading = s.line("VRAM MiB ").partition("Results")[2] or s.line(" status ")
        assert "CPU /s" in heading or "CPU samples/s" in heading
        assert "card" in heading
        first, second = (next(line for line in s.lines if f"│ {n}    " in line) for n in (1, 2))
        assert "~745" in first
        assert "~745" in second
        await s.press("tab", "home", "enter")
        assert "device Tesla P4, virtual: this CPU computes in its place" in s.dialog
        assert "CPU time s 66.70" in s.dialog
        assert "CPU samples/s 7.70 ±0.03 CPU mean samples/s 7.68" in s.dialog
        assert "card samples/s ~745 card time s ~0.688" in s.dialog


async def test_a_real_card_has_no_forecast_beside_its_speed() -> None:
    async with stage((120, 40), [record(1)]) as s:
        await s.feed(Forecasted(config=RunConfig(), forecast=forecast(695, samples_per_s=CARD)))
        await s.feed(started(2), training(2), *(update(n, 2) for n in range(1, 11)))
        assert "CPU" not in s.text
        assert s.text.count("~745") == 1  # in the forecast's pane


async def test_differences_to_the_baseline_are_the_cpus_and_the_cards() -> None:
    slower = on_virtual(2, steady_samples_per_s=3.85, samples_per_s=3.85)
    async with stage((120, 40), [on_virtual(1), replace(slower, forecast_samples_per_s=596.0)]) as s:
        await s.press("tab", "home", "space", "down")
        assert "Δ CPU Δ card" in s.line(" status ")
        row = next(line for line in s.lines if "│ 2    " in line)
        assert "−50%   −20%" in row
        assert "+100 % CPU time per sample, +25 % card time by" in s.text


@pytest.mark.parametrize("size", [(120, 40), (200, 60)])
async def test_a_plot_without_data_draws_no_axis_but_says_so(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await s.feed(started(), training())
        row = s.line("┌ Loss").index("┌ Loss")
        start = s.lines.index(s.line("┌ Loss"))
        inside = [line[row : row + 40] for line in s.lines[start + 1 : start + 7]]
        assert "nothing yet" in inside[1]
        assert not any(character in "".join(inside) for character in "0123456789")
        await s.feed(update(1, loss=float("nan")))
        assert "no value that can be drawn" in s.text
        await s.feed(update(2))
        assert "0.69" in "".join(line[row : row + 40] for line in s.lines[start + 1 : start + 8])
