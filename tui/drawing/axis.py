"""Axes of the plots: ranges and ticks at 1, 2, 5 times a power of ten, their labels, and a range that does not jump."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

_STEPS = 5  # a nice range is at most this many ticks plus the rounding at both ends
_TOO_LONG = "…"
_LARGEST = 1e300  # keeps differences of two values finite


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that divides `span` (> 0) into at most `count` steps."""
    raw = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10, 20) if m * power >= raw * (1 - 1e-9))


def nice_range(
    low: float, high: float, *, zero: bool = False, log: bool = False, min_span: float = 0.05
) -> tuple[float, float]:
    """Widen (low, high) to nice ends.

    `zero` makes 0 part of the range; `log` gives positive ends (1-2-5 of a decade). The range is at least `min_span`
    times the larger magnitude, so that noise on a flat line is not blown up to the full height.
    """
    low, high = (max(-_LARGEST, min(end, _LARGEST)) for end in (low, high))
    if log:
        return _nice_log_range(low, high)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    least = min_span * max(abs(low), abs(high)) or 1.0
    if high - low < max(least, 1e-300):
        middle, half = (low + high) / 2, max(least, 1e-300) / 2
        positive = low >= 0
        low, high = middle - half, middle + half
        if positive and low < 0:
            low, high = 0.0, high - low
    step = nice_step(high - low, _STEPS)
    # A nice end that rounding put a hair inside the data would have the data marked as outside.
    return min(low, math.floor(low / step + 1e-9) * step), max(high, math.ceil(high / step - 1e-9) * step)


def ticks(low: float, high: float, count: int, *, log: bool = False) -> list[float]:
    """Nice values in [low, high], ascending, about `count` of them.

    One alone says nothing of the scale: then there are more, at smaller steps, until there are two.
    """
    if log:
        decades = _log_ticks(low, high, count)
        if len(decades) >= 2:
            return decades
    span = high - low
    if not 1e-300 < span < math.inf:
        return []
    marks: list[float] = []
    for more in range(3):
        step = nice_step(span, max(1, count) << more)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        marks = [i * step for i in range(first, last + 1)]
        if len(marks) > 1:
            break
    return marks


def tick_label(value: float, step: float, width: int) -> str:
    """`value` with the digits that a distance of `step` asks for, in at most `width` characters where that is possible.

    Falls back to leaving out the leading zero, to k, M, G, T (thousands) and to 2e-05; "…" where nothing fits that is
    true to a twentieth of the step.
    """
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    texts: list[tuple[str, float]] = []
    if digits < 20:
        plain = f"{value:.{digits}f}"
        texts = [(plain, float(plain)), (plain.replace("0.", ".", 1), float(plain))]
    for power, letter in ((1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")):
        if abs(value) >= power:
            short = f"{value / power:.{max(0, -math.floor(math.log10(step / power) + 1e-9))}f}"
            texts.append((f"{short}{letter}", float(short) * power))
    texts.append((f"{value:.0e}", float(f"{value:.0e}")))
    fitting = (text for text, told in texts if len(text) <= width and abs(told - value) <= step / 20)
    return next(fitting, _TOO_LONG).replace("-", "−")


class Axis:
    """A y range that follows the data without jumping: it changes if data leaves it or uses less than half."""

    def __init__(self, *, zero: bool = False, log: bool = False, min_span: float = 0.05) -> None:
        self.zero = zero
        self.log = log
        self.min_span = min_span
        self.range: tuple[float, float] | None = None

    def follow(self, extremes: tuple[float, float] | None) -> tuple[float, float]:
        """The range to draw with, given the (lowest, highest) value that must be seen; None where there is no data."""
        if extremes is None or (self.log and extremes[1] <= 0):
            return self.range or ((0.1, 1.0) if self.log else (0.0, 1.0))
        low, high = extremes
        wanted = nice_range(low, high, zero=self.zero, log=self.log, min_span=self.min_span)
        if self.range is None:
            self.range = wanted
        else:
            inside = self.range[0] <= low and high <= self.range[1]
            # Less than half used, and worth the repaint: a flat line that drifts keeps its axis.
            if not inside or self._span(wanted) < 0.5 * self._span(self.range):
                self.range = wanted
        return self.range

    def _span(self, ends: tuple[float, float]) -> float:
        return math.log(ends[1] / ends[0]) if self.log else ends[1] - ends[0]


class Scale:
    """Values to `n` dot rows, 0 at the bottom, over (low, high); ValueError for ends that cannot be an axis."""

    def __init__(self, low: float, high: float, n: int, log: bool) -> None:
        if log and low <= 0:
            raise ValueError(f"a logarithmic axis starts above 0, not at {low}; give y_range a positive low end")
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f"bad y range {low} … {high}; give finite, ascending ends")
        self.ends, self.n, self.log = (low, high), n, log
        # Halves: the distance of two large floats is not always a float.
        self._base, self._top = (math.log(low), math.log(high)) if log else (low / 2, high / 2)
        self._span = (self._top - self._base) or 1.0

    def row(self, y: float) -> int:
        """The dot row of y, clipped to the edges."""
        low, high = self.ends
        if y <= low:
            return 0
        if y >= high:
            return self.n - 1
        return int(((math.log(y) if self.log else y / 2) - self._base) / self._span * (self.n - 1) + 0.5)


def y_labels(scale: Scale, height: int, dots_y: int, width: int, y_format: Callable[[float], str] | None) -> list[str]:
    """Tick labels, one text per row of cells from the top, empty between ticks; `y_format` None: `tick_label`."""
    labels = [""] * height
    marks, texts = _labelled(scale, max(2, height // 3), width, y_format)
    if _TOO_LONG in texts:  # fewer ticks need fewer digits
        marks, texts = _labelled(scale, 1, width, y_format)
    for tick, text in zip(marks, texts, strict=True):
        labels[height - 1 - scale.row(tick) // dots_y] = text
    return labels


def _labelled(
    scale: Scale, count: int, width: int, y_format: Callable[[float], str] | None
) -> tuple[list[float], list[str]]:
    """About `count` ticks, and what each is called."""
    marks = ticks(*scale.ends, count, log=scale.log)
    if y_format is not None:
        return marks, [text if len(text := y_format(tick)) <= width else _TOO_LONG for tick in marks]
    apart = min((b - a for a, b in pairwise(marks)), default=0.0)
    # of a decade each tick is its own step; a tick alone has the digits of a twentieth of it
    steps = (tick if scale.log and _is_round(tick) else apart or abs(tick) / 20 for tick in marks)
    return marks, [tick_label(tick, step, width) for tick, step in zip(marks, steps, strict=True)]


def _is_round(value: float) -> bool:
    """Whether one digit says all of it: 0.02, not 0.65."""
    return abs(float(f"{value:.0e}") - value) <= 1e-9 * abs(value)


def x_labels(x_range: tuple[float, float], width: int, x_format: Callable[[float], str] | None) -> str:
    """One row of tick labels under their columns, `width` characters; a label that would touch another is left out."""
    marks = ticks(x_range[0], x_range[1], max(1, width // 12))
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    text = ""
    for tick in marks:
        label = tick_label(tick, step, 8) if x_format is None else x_format(tick)
        share = (tick - x_range[0]) / ((x_range[1] - x_range[0]) or 1.0)
        start = min(max(0, round(share * (width - 1)) - len(label) // 2), width - len(label))
        if start >= (len(text) + 1 if text else 0):
            text = text.ljust(start) + label
    return text.ljust(width)


def _nice_log_range(low: float, high: float) -> tuple[float, float]:
    high = max(high, 1e-300)
    low = min(max(low, 1e-300), high)
    below, above = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.floor(math.log10(high))
    bottom = max((m * below for m in (1, 2, 5) if m * below <= low * (1 + 1e-9)), default=below / 2)
    top = next(m * above for m in (1, 2, 5, 10, 20) if m * above >= high * (1 - 1e-9))
    return (min(low, bottom), max(high, top)) if bottom < top else (bottom / 2, top * 2)


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / max(1, count)))
    decades = [10.0**i for i in range(first, last + 1, stride)]
    if len(decades) >= 2:
        return decades
    mantissas = [m * 10.0**i for i in range(first - 1, last + 1) for m in (1, 2, 5)]
    return [tick for tick in mantissas if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)][: max(2, count)]
