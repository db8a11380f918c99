"""The plots' cursor: where it goes, what it reads, how it is drawn, and that the keys are a pane's own without it."""

from __future__ import annotations

import random

import pytest

from engine.contract.events import Sampled
from engine.contract.numbers import loss, number
from tests.tui.fake_session import FakeHistory, finished, memory, record, sampled, started, training, update
from tests.tui.screen_text import SIZES, stage
from tui.drawing.plot import ASCII, Columns, Layer, Mark, plot
from tui.panes.base import Pane
from tui.state.cursor import Cursor, updates_per_column, value_at

WHOLE = (0.0, 64.0)


def test_it_covers_the_updates_of_a_column() -> None:
    assert Cursor(41).where == "update 41"
    assert Cursor(41, 9).where == "updates 33–41"
    assert Cursor(3, 9).where == "updates 1–3"
    assert Cursor(12_345, 10).where == "updates 12,336–12,345"


def test_it_moves_by_columns_and_stays_within_what_is_drawn_and_known() -> None:
    assert Cursor(41, 2).moved(-3, 2, WHOLE, 50) == Cursor(35, 2)
    assert Cursor(41, 2).moved(1, 1, WHOLE, 50) == Cursor(42, 1)
    assert Cursor(41).moved(-1000, 1, WHOLE, 50) == Cursor(1)
    assert Cursor(41).moved(1000, 1, WHOLE, 50) == Cursor(50)
    assert Cursor(41).moved(-1000, 1, (20.5, 64.0), 50) == Cursor(21)
    assert Cursor(41).moved(1000, 1, (0.0, 30.5), 50) == Cursor(30)


def test_going_column_by_column_reads_every_update() -> None:
    per_column = updates_per_column((0.0, 100_000.0), 110)
    seen: set[int] = set()
    cursor = Cursor(100_000, per_column)
    while True:
        seen |= set(range(max(1, cursor.update - cursor.span + 1), cursor.update + 1))
        following = cursor.moved(-1, per_column, (0.0, 100_000.0), 100_000)
        if following == cursor:
            break
        cursor = following
    assert seen == set(range(1, 100_001))
    assert updates_per_column((0.0, 64.0), 110) == 1


def test_it_reads_one_value_or_the_lowest_and_the_highest() -> None:
    series = Columns((n, 0.7 - n * 0.005) for n in range(1, 31))
    assert value_at(series, Cursor(10), loss) == "0.650"
    assert value_at(series, Cursor(10, 4), loss) == "0.650…0.665"
    assert value_at(series, Cursor(31), loss) == "–"
    assert value_at(Columns([(1, 2.0001), (2, 2.0002)]), Cursor(2, 2), loss) == "2.000"


def test_a_held_reading_says_where_it_is_from() -> None:
    series = Columns([(3.5, 97.0), (9.2, None)])
    assert value_at(series, Cursor(4), number, held=True) == "97"
    assert value_at(series, Cursor(7), number, held=True) == "97 (at 4)"
    assert value_at(series, Cursor(7), number) == "–"
    assert value_at(series, Cursor(12), number, held=True) == "–"
    assert value_at(series, Cursor(2), number, held=True) == "–"


def test_a_spike_among_100_000_points_is_read_exactly_and_only_in_its_column() -> None:
    points = [(n, 1.0) for n in range(1, 100_001)]
    spike = random.Random(3).randrange(1, 100_001)
    points[spike - 1] = (spike, 9.5)
    series, span = Columns(points), updates_per_column((0.0, 100_000.0), 110)
    column = Cursor(-(-spike // span) * span, span)
    assert value_at(series, column, loss) == "1.000…9.500"
    assert value_at(series, Cursor(column.update + span, span), loss) == "1.000"


def test_points_out_of_order_are_read_too() -> None:
    assert Columns([(5, 1.0), (2, 3.0), (3, 2.0)]).within(1, 3) == (2.0, 3.0)


def test_the_mark_is_a_line_behind_the_curve() -> None:
    layers = [Layer(Columns([(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0)]), 1)]
    rows = plot(layers, 4, 2, x_range=(0, 3), y_range=(0, 3), charset=ASCII, mark=Mark(2, 2, 3))
    assert rows == [[("  ", 0), ("┊", 2), (" ", 0)], [("..", 1), (".", 3), (".", 1)]]
    assert plot(layers, 4, 2, x_range=(0, 3), y_range=(0, 3), mark=Mark(4, 2, 3)) == plot(
        layers, 4, 2, x_range=(0, 3), y_range=(0, 3)
    )


def busy(t: float, used: int) -> Sampled:
    reading = sampled(8, t=t)
    assert reading.gpu is not None
    return Sampled(run_id=8, t=t, gpu=reading.gpu, host=reading.host, memory=memory(used))


RUN = (started(8), training(8), *(update(n, 8, memory=memory(5000 + n)) for n in range(1, 31)), busy(30.0, 7099))


@pytest.mark.parametrize("size", SIZES)
async def test_all_plots_say_what_was_there(size: tuple[int, int]) -> None:
    async with stage(size, [], *RUN) as s:
        await s.press("v", *["shift+left"] * 9)
        assert s.text.count("update 21") >= 4
        assert "used 5021" in s.line("VRAM MiB")
        assert "0.595" in s.text
        assert "8.00" in s.text
        assert "update 21 of 64" in s.lines[-1]


async def test_it_stays_while_the_run_goes_on_and_leaves_with_escape() -> None:
    async with stage((120, 40), [], *RUN) as s:
        await s.press("v", "home")
        await s.feed(*(update(n, 8) for n in range(31, 41)))
        assert "used 5001" in s.line("VRAM MiB")
        await s.press("end")
        assert "update 40" in s.line("VRAM MiB")
        await s.press("escape")
        assert "peak ▲ 7099" in s.line("VRAM MiB")
        assert s.app.state.view.cursor is None


async def test_its_keys_are_the_panes_own_without_it() -> None:
    async with stage((120, 40), [], *RUN) as s:
        batch = s.app.state.editor.config.batch_size
        await s.press("v", "left")
        assert s.app.state.editor.config.batch_size == batch
        await s.press("v", "right")
        assert s.app.state.editor.config.batch_size == 2 * batch


async def test_a_dialog_keeps_its_keys() -> None:
    async with stage((120, 40), [], *RUN) as s:
        await s.press("v", "enter", "home", "left", "escape")
        assert s.app.state.view.cursor is not None
        assert s.app.screen is s.app.controllers.desk.main


async def test_without_a_curve_it_says_so() -> None:
    async with stage() as s:
        await s.press("v")
        assert "no curve to read yet" in s.lines[-1]


async def test_the_baseline_is_read_too() -> None:
    history = FakeHistory([record(1)], baseline=1)
    history.events[1] = [training(1), *(update(n, 1, loss=0.9) for n in range(1, 65))]
    async with stage((120, 40), [], *RUN, history=history) as s:
        await s.press("v")
        assert "baseline 0.900" in s.text
        assert "baseline 8.00" in s.text


async def test_nothing_is_repainted_for_it_while_it_is_away() -> None:
    async with stage((120, 40), [], *RUN, finished(8)) as s:
        before = {pane.id: [*pane._painted] for pane in s.app.screen.query(Pane) if pane.id != "footer"}
        await s.press("v")
        assert {pane.id: pane._painted for pane in s.app.screen.query(Pane) if pane.id != "footer"} != before
        await s.press("v")
        assert {pane.id: pane._painted for pane in s.app.screen.query(Pane) if pane.id != "footer"} == before
