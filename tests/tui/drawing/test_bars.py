"""Stacked bars add up, and sparklines show every spike."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.drawing.bars import Marker, Part, sparkline, stacked_bar
from tui.drawing.plot import Row


def text(row: Row) -> str:
    return "".join(part for part, _ in row)


def cells_of(row: Row, style: int) -> int:
    return sum(len(part) for part, its in row if its == style)


@pytest.mark.parametrize(
    ("parts", "total", "width", "wanted"),
    [
        ([Part(2, 1), Part(3, 2)], 10, 10, [("██", 1), ("███", 2), ("     ", 0)]),
        ([Part(5, 1), Part(5, 2)], 10, 4, [("██", 1), ("██", 2)]),
        ([Part(1, 1)], 16, 4, [("▎", 1), ("   ", 0)]),
        ([Part(11, 1)], 16, 4, [("██▊", 1), (" ", 0)]),
        ([Part(1, 1), Part(1, 2), Part(1, 3)], 3, 10, [("████", 1), ("███", 2), ("███", 3)]),
        ([Part(97, 1), Part(3, 2)], 100, 10, [("█████████", 1), ("█", 2)]),
        ([Part(99.9, 1), Part(0.1, 2)], 100, 10, [("██████████", 1)]),
        ([Part(3, 1), Part(3, 2, "░")], 10, 5, [("██", 1), ("░", 2), ("  ", 0)]),
        ([Part(6, 1), Part(6, 2)], 6, 4, [("██", 1), ("██", 2)]),
        ([], 10, 3, [("   ", 0)]),
        ([Part(0, 1), Part(-1, 2), Part(math.nan, 3), Part(math.inf, 4)], 10, 3, [("   ", 0)]),
        ([Part(1, 1)], 0, 2, [("██", 1)]),
        ([Part(1, 1)], 10, 0, []),
    ],
)
def test_bar(parts: list[Part], total: float, width: int, wanted: Row) -> None:
    assert stacked_bar(parts, total, width) == wanted


def test_markers_lie_over_the_bar() -> None:
    limit, ghost = Marker(8, 9), Marker(4, 7, "▏")
    assert stacked_bar([Part(2, 1)], 8, 8, [limit, ghost]) == [("██", 1), ("  ", 0), ("▏", 7), ("  ", 0), ("│", 9)]
    # Needs 16 of 8: the bar is full and the limit is in its middle.
    assert stacked_bar([Part(16, 1)], 8, 8, [limit]) == [("████", 1), ("│", 9), ("███", 1)]
    assert text(stacked_bar([Part(2, 1)], 8, 8, [Marker(9, 9), Marker(math.nan, 9)])) == "██      "


@given(st.lists(st.floats(0, 1e12), max_size=9), st.floats(0, 1e12), st.integers(1, 200))
def test_cells_are_shared_exactly(values: list[float], total: float, width: int) -> None:
    row = stacked_bar([Part(value, i + 1) for i, value in enumerate(values)], total, width)
    assert len(text(row)) == width
    scale = max(total, math.fsum(values))
    if not scale:
        return
    wanted = [value / scale * width for value in values]
    filled = sum(cells_of(row, i + 1) for i in range(len(values)))
    assert filled == math.ceil(math.floor(math.fsum(wanted) * 8 + 0.5) / 8)
    visible = [i for i, want in enumerate(wanted) if want >= 1 / 8]
    if filled >= len([value for value in values if value > 0]):
        assert all(cells_of(row, i + 1) >= 1 for i in visible)
    order = [style for _, style in row if style]
    assert order == sorted(order)


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1, None, math.nan, 3], 6) == "  ▁  █"
    assert sparkline([5, 5], 2) == "▁▁"
    assert sparkline([0, 50, 100, 200, -1], 5, low=0, high=100) == "▁▅██▁"
    assert sparkline([math.inf, 0, 1, -math.inf], 4) == "█▁█▁"
    assert sparkline([], 3) == "   "
    assert sparkline([1], 0) == ""


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), st.integers(1, 40))
def test_a_spike_is_seen_in_a_sparkline(values: list[float], width: int) -> None:
    values[len(values) // 2] = 11.0
    line = sparkline(values, width, low=0, high=11)
    assert len(line) == width
    assert "█" in line
