"""Ranges and ticks are nice, and an axis does not jump."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.drawing.axis import Axis, Scale, nice_range, tick_label, ticks, y_labels

INF = math.inf


@pytest.mark.parametrize(
    ("low", "high", "count", "wanted"),
    [
        (0, 100, 5, [0, 20, 40, 60, 80, 100]),
        (0, 7611, 4, [0, 2000, 4000, 6000]),
        (-1, 1, 4, [-1, -0.5, 0, 0.5, 1]),
        (7.64, 7.72, 4, [7.64, 7.66, 7.68, 7.7, 7.72]),
        (5, 5, 4, []),
        (0.64, 0.69, 2, [0.64, 0.66, 0.68]),  # 0.65 alone would say nothing of the scale
    ],
)
def test_ticks(low: float, high: float, count: int, wanted: list[float]) -> None:
    assert ticks(low, high, count) == pytest.approx(wanted)


def test_log_ticks() -> None:
    assert ticks(0.001, 10, 5, log=True) == pytest.approx([0.001, 0.01, 0.1, 1, 10])
    assert ticks(1e-8, 1, 3, log=True) == pytest.approx([1e-8, 1e-5, 1e-2])
    assert ticks(2, 50, 4, log=True) == pytest.approx([2, 5, 10, 20])


@pytest.mark.parametrize(
    ("value", "step", "width", "wanted"),
    [
        (7.7, 0.02, 6, "7.70"),
        (2000, 1000, 6, "2000"),
        (12500, 500, 4, "…"),
        (12500, 500, 5, "12500"),
        (212500, 500, 6, "212500"),
        (1_500_000, 500_000, 4, "1.5M"),
        (120_000, 20_000, 5, "120k"),
        (2e-5, 1e-5, 5, "2e−05"),
        (-0.5, 0.5, 5, "−0.5"),
        (3e9, 1e9, 4, "3G"),
    ],
)
def test_tick_labels(value: float, step: float, width: int, wanted: str) -> None:
    assert tick_label(value, step, width) == wanted


def labels(low: float, high: float, height: int, *, log: bool = False) -> list[str]:
    return y_labels(Scale(*nice_range(low, high, log=log), height * 4, log), height, 4, 5, None)


def test_a_loss_between_two_thirds_and_seven_tenths_has_two_true_ticks() -> None:
    """One tick at .65 was once written "0.7", under a curve from .683 to .652."""
    assert labels(0.652, 0.683, 5) == ["", "0.68", "", "0.66", ""]
    assert labels(0.64, 0.69, 3) == ["0.68", "0.66", "0.64"]
    assert labels(0.65, 0.70, 4) == ["0.70", "", "", "0.65"]
    assert labels(0.00122, 0.00128, 4) == [".0013", "", "", ".0012"]  # fewer ticks need fewer digits
    assert labels(0.02, 0.7, 4, log=True) == ["1", "", "0.1", ""]


@given(st.floats(-6, 6), st.floats(0, 6), st.integers(2, 20), st.booleans())
def test_labels_are_true_and_distinct(power: float, decades: float, height: int, log: bool) -> None:
    low, high = 10**power, 10 ** (power + decades)
    ends = nice_range(low, high, log=log)
    shown = [label for label in y_labels(Scale(*ends, height * 4, log), height, 4, 5, None) if label]
    told = [label for label in shown if label != "…"]
    assert len(set(told)) == len(told)
    values = [float(_SCALED.sub(lambda found: f"e{_POWERS[found[0]]}", label.replace("−", "-"))) for label in told]
    for count in (max(2, height // 3), 1):
        marks = ticks(*ends, count, log=log)
        if all(any(value == pytest.approx(mark, rel=1e-6, abs=1e-12) for mark in marks) for value in values):
            return
    raise AssertionError(f"{told} are no ticks of {ends}")


_POWERS = {"k": 3, "M": 6, "G": 9, "T": 12}
_SCALED = re.compile("[kMGT]")


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.booleans(), st.booleans())
def test_nice_ranges_hold_the_data(a: float, b: float, zero: bool, log: bool) -> None:
    low, high = nice_range(min(a, b), max(a, b), zero=zero, log=log)
    assert -INF < low < high < INF
    if max(abs(a), abs(b)) <= 1e300 and not (log and min(a, b) < 1e-300):
        assert low <= min(a, b) <= max(a, b) <= high


def test_stays_while_the_data_stays() -> None:
    axis = Axis()
    assert axis.follow(None) == (0, 1)
    assert axis.follow((0.0, 9.3)) == (0, 10)
    assert axis.follow((1.0, 9.9)) == (0, 10)
    assert axis.follow((2.0, 7.5)) == (0, 10)
    assert axis.follow(None) == (0, 10)
    assert axis.follow((2.0, 10.5)) == (2, 12)
    assert axis.follow((3.1, 4.0)) == pytest.approx((3, 4))


def test_noise_on_a_flat_line_is_not_blown_up() -> None:
    axis = Axis()
    first = axis.follow((7.65, 7.71))
    assert first[1] - first[0] >= 0.05 * 7.7
    for k in range(100):
        assert axis.follow((7.65 + k / 1e4, 7.71 + k / 1e4)) == first


def test_log_and_zero() -> None:
    assert Axis(zero=True).follow((60.0, 93.0)) == (0, 100)
    assert Axis(log=True).follow((0.03, 2.3)) == pytest.approx((0.02, 5))
    assert Axis(log=True).follow((-3.0, 0.0)) == (0.1, 1)
