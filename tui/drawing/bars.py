"""Horizontal bars and one-row sparklines: pure functions from values to characters. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tui.drawing.plot import Row, runs

BLOCKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Part(NamedTuple):
    """One part of a stacked bar."""

    value: float
    style: int
    fill: str = "█"
    """One character; another than █ tells the part from its neighbours without colour (░ cached, · context)."""


class Marker(NamedTuple):
    """A character put over the bar at a value: a limit, or the ghost of a forecast."""

    value: float
    style: int
    char: str = "│"


def stacked_bar(parts: Sequence[Part], total: float, width: int, markers: Sequence[Marker] = ()) -> Row:
    """`parts` left to right on a scale of 0 … `total`: `width` cells as (text, style) runs; the rest is blank, style 0.

    Whole cells are shared out by largest remainder, so their sum is the bar's own length; a part of at least an eighth
    of a cell gets a cell where the bar has one to give. The bar ends on an eighth (▏ … █) if its last part is solid.
    Parts that exceed `total` stretch the scale to their sum: the bar is then full, and a marker at `total` shows where
    the limit lies. Values that are not positive and finite count as 0.
    """
    if width < 1:
        return []
    shown = [part for part in parts if 0 < part.value < math.inf]
    scale = max(total if 0 < total < math.inf else 0.0, math.fsum(part.value for part in shown))
    chars, styles = [" "] * width, [0] * width
    if scale > 0 and shown:
        wanted = [part.value / scale * width for part in shown]
        eighths = min(8 * width, math.floor(math.fsum(wanted) * 8 + 0.5))
        counts = _share_out(wanted, math.ceil(eighths / 8))
        end = 0
        for part, count in zip(shown, counts, strict=True):
            chars[end : end + count] = part.fill * count
            styles[end : end + count] = [part.style] * count
            end += count
        if eighths % 8 and chars[end - 1] == "█":
            chars[end - 1] = _EIGHTHS[eighths % 8]
    for marker in markers:
        if scale > 0 and 0 <= marker.value <= scale:
            cell = min(width - 1, int(marker.value / scale * width))
            chars[cell], styles[cell] = marker.char, marker.style
    return runs(chars, styles)


def _share_out(wanted: Sequence[float], cells: int) -> list[int]:
    """Whole numbers near `wanted` that sum to `cells`: largest remainder, then one cell for each visible part."""
    factor = cells / math.fsum(wanted)
    exact = [want * factor for want in wanted]
    counts = [min(int(share), cells) for share in exact]
    order = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in order[: cells - sum(counts)]:
        counts[i] += 1
    for i, want in enumerate(wanted):
        richest = max(range(len(counts)), key=lambda j: counts[j])
        if counts[i] == 0 and want >= 1 / 8 and counts[richest] > 1:
            counts[i], counts[richest] = 1, counts[richest] - 1
    return counts


def sparkline(
    values: Sequence[float | None],
    width: int,
    *,
    low: float | None = None,
    high: float | None = None,
) -> str:
    """One row of `width` cells: the highest value per cell (so that no spike is lost), blanks for None and NaN.

    Fewer values than cells stand on the right, one to a cell. `low` and `high` default to the data's own; values beyond
    them, and ±inf, take the end levels.
    """
    if width < 1:
        return ""
    n_cells = min(width, len(values))
    highest: list[float | None] = [None] * n_cells
    for i, value in enumerate(values):
        if value is not None and value == value:
            cell = i * n_cells // len(values)
            best = highest[cell]
            highest[cell] = value if best is None else max(best, value)
    finite = [value for value in highest if value is not None and math.isfinite(value)]
    bottom = low if low is not None else min(finite, default=0.0)
    top = high if high is not None else max(finite, default=1.0)
    return "".join(_level(value, bottom, top) for value in highest).rjust(width)


def _level(value: float | None, low: float, high: float) -> str:
    if value is None:
        return " "
    if value >= high > low or value == math.inf:
        return BLOCKS[-1]
    if value <= low:
        return BLOCKS[0]
    return BLOCKS[min(len(BLOCKS) - 1, int((value - low) / (high - low) * len(BLOCKS)))]
