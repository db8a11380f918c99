"""The braille plot: hand-worked rows, and properties of every series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.drawing.plot import ASCII, BRAILLE, Columns, Layer, Point, Range, Row, plot

INF, NAN = math.inf, math.nan
VALUES = st.one_of(st.none(), st.just(NAN), st.floats(-10, 10), st.sampled_from([INF, -INF, 0.0, 11.0, -1e300]))
SERIES = st.lists(VALUES, max_size=60).map(lambda ys: [(float(i), y) for i, y in enumerate(ys)])
SIZES = st.tuples(st.integers(1, 30), st.integers(1, 6))


def texts(rows: list[Row]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def cells(rows: list[Row]) -> list[list[tuple[str, int]]]:
    return [[(char, style) for text, style in row for char in text] for row in rows]


def draw(points: Sequence[Point], width: int, height: int, x: Range, y: Range, **options: Any) -> list[str]:
    return texts(plot([Layer(Columns(points), 1)], width, height, x_range=x, y_range=y, **options))


def dots(rows: list[str]) -> set[tuple[int, int]]:
    """(column, row from the bottom) of every dot of a braille picture."""
    found = set()
    order = (0x40, 0x04, 0x02, 0x01, 0x80, 0x20, 0x10, 0x08)
    for r, row in enumerate(reversed(rows)):
        for c, char in enumerate(row):
            bits = ord(char) - 0x2800 if char != " " else 0
            found |= {(2 * c + i // 4, 4 * r + i % 4) for i, bit in enumerate(order) if 0 < bits < 256 and bits & bit}
    return found


class TestByHand:
    def test_one_dot_per_point_on_a_diagonal(self) -> None:
        points = [(float(i), float(i)) for i in range(4)]
        assert draw(points, 2, 1, (0, 3), (0, 3)) == ["⡠⠊"]

    def test_a_step_is_a_vertical_line(self) -> None:
        points = [(0, 0.0), (1, 0.0), (2, 7.0), (3, 7.0)]
        assert draw(points, 2, 2, (0, 3), (0, 7)) == [" ⡏", "⣀⠇"]

    def test_a_spike_within_one_column_is_seen(self) -> None:
        points: list[Point] = [(i / 100, 0.0) for i in range(401)]
        points[150] = (1.5, 7.0)
        assert draw(points, 2, 2, (0, 3), (0, 7)) == [" ⡇", "⣀⣇"]

    @pytest.mark.parametrize("at", [0, 1, 4_999, 50_000, 73_123, 99_999])
    def test_a_spike_among_100_000_points_is_seen_in_its_column(self, at: int) -> None:
        points: list[Point] = [(float(i), 1.0) for i in range(100_000)]
        points[at] = (float(at), 9.0)
        top = draw(points, 100, 8, (0, 99_999), (0, 9))[0]
        assert [i for i, char in enumerate(top) if char != " "] == [round(at / 99_999 * 199) // 2]

    def test_a_long_way_between_two_points_is_a_line(self) -> None:
        assert draw([(0, 0.0), (7, 3.0)], 4, 1, (0, 7), (0, 3)) == ["⣀⠤⠒⠉"]

    def test_a_line_goes_on_from_the_last_point_of_a_column(self) -> None:
        assert draw([(0, 3.0), (0, 0.0), (0, 2.0), (0, 1.0), (7, 1.0)], 4, 1, (0, 7), (0, 3)) == ["⡧⠤⠤⠤"]

    @pytest.mark.parametrize("gap", [None, NAN])
    def test_a_gap_stays_blank(self, gap: float | None) -> None:
        assert draw([(0, 0.0), (1, 0.0), (3, gap), (6, 0.0), (7, 0.0)], 4, 1, (0, 7), (0, 3)) == ["⣀  ⣀"]

    def test_a_gap_between_neighbours_is_not_joined(self) -> None:
        assert draw([(0, 0.0), (1, 0.0), (1, None), (2, 7.0), (3, 7.0)], 2, 2, (0, 3), (0, 7)) == [" ⠉", "⣀ "]

    def test_what_leaves_the_range_is_marked_on_the_edge(self) -> None:
        points = [(0, 0.0), (2, INF), (3, INF), (4, 1.0), (5, 1.0), (6, -9.0), (7, -9.0)]
        assert draw(points, 4, 2, (0, 7), (0, 7)) == ["⢀▲⡆ ", "⡸ ⠧▼"]

    def test_logarithmic(self) -> None:
        points = [(0, 1.0), (1, 10.0), (2, 100.0), (3, 1000.0)]
        assert draw(points, 2, 1, (0, 3), (1, 1000), log_y=True) == ["⡠⠊"]
        assert draw([(0, 0.0), (1, -1.0), (2, 100.0), (3, 1000.0)], 2, 1, (0, 3), (1, 1000), log_y=True) == [" ⠊"]

    def test_ascii(self) -> None:
        points = [(0, 0.0), (1, 0.0), (2, 3.0), (3, 2.0), (5, 2.0), (6, -1.0)]
        assert draw(points, 8, 2, (0, 7), (0, 3), charset=ASCII) == ["  |...  ", "..'   v "]

    def test_labels(self) -> None:
        rows = draw([(0, 0.0), (7, 3000.0)], 9, 3, (0, 7), (0, 3000), label_width=4, x_row=True)
        assert rows == ["2000   ⡠⠊", "   0 ⡠⠊  ", "     0 5 "]

    def test_limit_is_behind_the_data(self) -> None:
        rows = plot([Layer(Columns([(0, 3.0), (1, 3.0)]), 1)], 3, 1, x_range=(0, 5), y_range=(0, 3), limit=(3, 2))
        assert rows == [[("⠉", 1), ("⠁⠁", 2)]]
        rows = plot([], 3, 1, x_range=(0, 5), y_range=(0, 3), limit=(4, 2))
        assert rows == [[("   ", 0)]]

    def test_the_last_layer_is_in_front(self) -> None:
        back, front = Columns([(0, 0.0), (5, 0.0)]), Columns([(0, 3.0), (3, 3.0)])
        rows = plot([Layer(back, 2), Layer(front, 1)], 3, 1, x_range=(0, 5), y_range=(0, 3))
        assert rows == [[("⠉⠉", 1), ("⣀", 2)]]

    def test_nothing_to_draw(self) -> None:
        assert draw([], 3, 2, (0, 1), (0, 1)) == ["   ", "   "]
        assert draw([(0, 1.0)], 0, 2, (0, 1), (0, 1)) == []
        assert texts(plot([Layer(Columns(), 1)], 2, 1, x_range=(0, 1))) == ["  "]

    def test_axes_that_cannot_be(self) -> None:
        for x, y, log in [
            ((1, 0), (0, 1), False),
            ((0, 1), (1, 0), False),
            ((0, 1), (0, 1), True),
            ((0, INF), (0, 1), False),
        ]:
            with pytest.raises(ValueError, match=r"axis|range"):
                plot([Layer(Columns([(0, 1.0)]), 1)], 4, 2, x_range=x, y_range=y, log_y=log)


def column_of(x: float, x_max: float, n: int) -> int:
    return math.floor(x / x_max * (n - 1) + 0.5)


def row_of(y: float, low: float, high: float, n: int) -> int:
    return math.floor((y - low) / (high - low) * (n - 1) + 0.5)


@given(
    st.lists(st.one_of(st.none(), st.floats(-10, 10), st.integers(-10, 10)), min_size=1, max_size=80),
    st.tuples(st.integers(1, 8), st.integers(1, 6)),
)
def test_every_extreme_has_its_dot_and_none_lies_outside(ys: list[float | None], size: tuple[int, int]) -> None:
    (width, height), x_max = size, float(len(ys))
    picture = draw([(float(i), y) for i, y in enumerate(ys)], width, height, (0, x_max), (-10, 10))
    assert [len(row) for row in picture] == [width] * height
    drawn, by_column = dots(picture), dict[int, list[float]]()
    for i, y in enumerate(ys):
        if y is not None:
            by_column.setdefault(column_of(i, x_max, 2 * width), []).append(y)
    for column, values in by_column.items():
        low, high = (row_of(end(values), -10, 10, 4 * height) for end in (min, max))
        assert {(column, row) for row in range(low, high + 1)} <= drawn
    known = [y for y in ys if y is not None]
    if known:
        lowest, highest = row_of(min(known), -10, 10, 4 * height), row_of(max(known), -10, 10, 4 * height)
        assert all(min(by_column) <= c <= max(by_column) and lowest <= r <= highest for c, r in drawn)
    else:
        assert not drawn


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=80), SIZES)
def test_a_line_without_gaps_is_one_connected_line(ys: list[float], size: tuple[int, int]) -> None:
    drawn = dots(draw([(float(i), y) for i, y in enumerate(ys)], *size, (0, len(ys) - 1), (-10, 10)))
    assert {c for c, _ in drawn} == set(range(2 * size[0]))
    spans = [sorted(r for c, r in drawn if c == column) for column in range(2 * size[0])]
    for span, following in pairwise(spans):
        assert span == list(range(span[0], span[-1] + 1))
        assert following[0] <= span[-1] + 1
        assert span[0] <= following[-1] + 1


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.integers(5, 20), st.integers(1, 5))
def test_a_gap_of_columns_has_no_dots(ys: list[float], hole: int, height: int) -> None:
    n = len(ys)
    points: list[Point] = [(float(i), y) for i, y in enumerate([*ys, *[None] * hole, *ys])]
    width = len(points)
    drawn = dots(draw(points, width, height, (0, len(points) - 1), (-10, 10)))
    columns = {c for c, _ in drawn}
    last, first = (column_of(x, len(points) - 1, 2 * width) for x in (n - 1, n + hole))
    assert columns.isdisjoint(range(last + 1, first))
    assert {last, first} <= columns


@given(SERIES, SERIES, SIZES, st.sampled_from([BRAILLE, ASCII]), st.booleans())
def test_appending_changes_nothing_on_the_left(
    before: list[Point], more: list[Point], size: tuple[int, int], charset: object, log: bool
) -> None:
    x_max, y_range = float(len(before) + len(more) or 1), (0.5, 8.0) if log else (-8.0, 8.0)
    series = Columns(before)

    def picture() -> list[list[tuple[str, int]]]:
        options: dict[str, Any] = {"x_range": (0.0, x_max), "y_range": y_range, "log_y": log, "charset": charset}
        return cells(plot([Layer(series, 1)], *size, **options))

    old = picture()
    series.extend([(x + len(before), y) for x, y in more])
    dots_x = 2 if charset is BRAILLE else 1
    last = column_of(max(0, len(before) - 1), x_max, size[0] * dots_x) // dots_x if before else 0
    for row, changed in zip(old, picture(), strict=True):
        assert row[:last] == changed[:last]


@given(
    st.lists(st.tuples(st.floats(-1, 21), VALUES), max_size=60),
    st.lists(st.integers(1, 20), max_size=60),
    st.booleans(),
)
def test_appended_and_resized_equals_drawn_at_once(points: list[Point], widths: list[int], log: bool) -> None:
    series = Columns()
    y_range = (0.5, 8.0) if log else (-8.0, 8.0)
    for i, (x, y) in enumerate(points):
        series.append(x, y)
        width = widths[i % len(widths)] if widths else 7
        options: dict[str, Any] = {"x_range": (0.0, 20.0), "y_range": y_range, "log_y": log}
        kept = plot([Layer(series, 1)], width, 3, **options)
        assert kept == plot([Layer(Columns(points[: i + 1]), 1)], width, 3, **options)


@given(SERIES, st.integers(0, 12), st.integers(0, 5), st.integers(0, 8), st.booleans(), st.booleans())
def test_always_exactly_the_size_asked_for(
    points: list[Point], width: int, height: int, labels: int, x_row: bool, log: bool
) -> None:
    layer = Layer(Columns(points), 1)
    rows = plot([layer], width, height, x_range=(0, 60), label_width=labels, x_row=x_row, log_y=log, limit=(1.0, 2))
    assert [len(text) for text in texts(rows)] == ([width] * height if width else [])


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.booleans())
def test_any_floats_can_be_drawn(a: float, b: float, log: bool) -> None:
    rows = plot([Layer(Columns([(0, a), (9, b)]), 1)], 12, 5, x_range=(0, 9), label_width=5, log_y=log)
    assert [len(text) for text in texts(rows)] == [12] * 5


def test_appending_reads_no_old_point_again() -> None:
    series = Columns([(0, 1.0)])
    bins = series.bins(10, (0, 9))
    series.append(9, 2.0)
    assert series.bins(10, (0, 9)) is bins
    assert (bins.low[0], bins.low[9], len(series)) == (1.0, 2.0, 2)
    assert series.bins(10, (0, 18)) is not bins
    assert series.bins(10, (0, 18), log=True) is not series.bins(10, (0, 18))


def test_a_spike_among_a_hundred_thousand_points_is_seen() -> None:
    for at in (1, 33_333, 99_998):
        series = Columns((float(i), 7.0 if i == at else 0.0) for i in range(100_000))
        drawn = dots(texts(plot([Layer(series, 1)], 58, 2, x_range=(0, 99_999), y_range=(0, 7))))
        assert (column_of(at, 99_999, 116), 7) in drawn


def test_extremes_are_those_of_the_recent_part() -> None:
    series = Columns([(0, 9.0), (5, NAN), (6, 2.0), (8, INF), (10, -3.0)])
    for _ in range(2):
        assert series.extremes() == (-3.0, 9.0)
        assert series.extremes(6) == (-3.0, 2.0)
        assert series.extremes(6, positive=True) == (2.0, 2.0)
        series.bins(11, (0, 10))
    assert Columns([(0, None)]).extremes() is None


def test_points_stand_alone_over_the_line() -> None:
    line, points = Columns([(x, 0.0) for x in range(11)]), Columns([(0, 0.0), (5, 1.0), (10, 0.5)])
    rows = plot([Layer(line, 1)], 11, 3, x_range=(0.0, 10.0), y_range=(0.0, 1.0), points=[Layer(points, 2)])
    texts = ["".join(text for text, _ in row) for row in rows]
    assert [text.count("●") for text in texts] == [1, 1, 1]
    assert (texts[0].index("●"), texts[1].index("●"), texts[2].index("●")) == (5, 10, 0)
    styles = {style for row in rows for text, style in row if "●" in text}
    assert styles == {2}
