"""One update's memory as a picture: what lives from the first allocation of the forward to the last of the optimizer.

A stacked area in characters, one column a moment (the fullest of those that share it), one colour a category.
Pure: no Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from engine.contract.forecast_types import (
    ACTIVATIONS,
    GRADIENTS,
    INPUTS,
    LIBRARIES,
    OPTIMIZER,
    TEMPORARIES,
    WEIGHTS,
    Forecast,
    TimelinePoint,
)
from engine.contract.numbers import mib
from engine.gpus.units import MIB, to_mib
from tui.drawing.axis import Scale, y_labels
from tui.drawing.categories import ROLES, SHADES
from tui.drawing.cells import Line, Span, segments, width_of

STACKED = (LIBRARIES, WEIGHTS, OPTIMIZER, GRADIENTS, ACTIVATIONS, TEMPORARIES)
"""From the bottom: what stays through the update first, so that the bands above are what moves."""
_STILL = STACKED[:3]
LABELS = 5
LEAST = (24, 5)
"""Columns and rows below which there is no picture."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_PHASES = {"forward": "fwd", "backward": "bwd", "clip": "clip", "optimizer": "opt"}
_PHASE_ROLES = {"forward": "forward", "backward": "backward", "optimizer": "optimizer"}
_NEAR = 1.3
"""A limit is drawn when it is at most this many times the peak: a far one would flatten the picture."""


def timeline(made: Forecast, width: int, height: int, *, shades: bool = False) -> list[Line]:
    """The picture in `width` × `height` cells: the peak, the bands, the phases, what is held at the peak in MiB.

    `shades` tells the bands apart by their fill, for screens without colour.
    """
    points = made.timeline
    if not points or width < LEAST[0] or height < LEAST[1]:
        return []
    columns = _columns(points, width - LABELS - 1)
    peak = max(columns, key=lambda point: point.allocated)
    legend = _legend(points, peak, width, 2 if height >= 9 else 1, shades)
    rows = max(1, height - 2 - len(legend))
    free = room(made)
    top = max(peak.allocated, free if free <= _NEAR * peak.allocated else 0, 1)
    cells = [_column(point, top, rows, shades) for point in columns]
    limit = round(free / top * rows) if free < top * (1 - 0.5 / rows) else None
    scale = Scale(0.0, to_mib(top) or 0.0, rows * len(_BLOCKS), log=False)
    labels = y_labels(scale, rows, len(_BLOCKS), LABELS, None)
    lines = [_headline(columns, peak, free)]
    for row in reversed(range(rows)):
        blank: Span = ("╌", "limit") if row == limit else (" ", "text")
        drawn = segments([column[row] or blank for column in cells])
        lines.append([(f"{labels[rows - 1 - row]:>{LABELS}} ", "muted"), *drawn])
    return [*lines, [(" " * (LABELS + 1), "text"), *_phases(columns)], *legend]


def room(made: Forecast) -> int:
    """Bytes that the limit leaves to the tensors: without the context, and without libraries beside the allocator."""
    return max(0, made.limit - (made.peak_used - made.peak_reserved))


def most_held(made: Forecast) -> tuple[str, int, int] | None:
    """The category that holds most at the peak, its bytes, and those of all; None without a timeline."""
    if not made.timeline:
        return None
    peak = max(made.timeline, key=lambda point: point.allocated)
    held = _bands(peak)
    name = max(held, key=lambda category: held[category])
    return name, held[name], peak.allocated


def _columns(points: Sequence[TimelinePoint], n: int) -> list[TimelinePoint]:
    """The fullest moment of each of `n` columns; a moment is stretched where there are fewer."""
    columns = []
    for column in range(n):
        start = column * len(points) // n
        end = max(start + 1, (column + 1) * len(points) // n)
        columns.append(max(points[start:end], key=lambda point: point.allocated))
    return columns


def _bands(point: TimelinePoint) -> dict[str, int]:
    held = {name: point.by_category.get(name, 0) for name in STACKED}
    held[ACTIVATIONS] += point.by_category.get(INPUTS, 0)
    return held


def _column(point: TimelinePoint, top: int, rows: int, shades: bool) -> list[Span | None]:
    """One column's cells from the bottom; None where nothing lives."""
    bands = [(name, size) for name, size in _bands(point).items() if size > 0]
    eighths = min(8 * rows, int(sum(size for _, size in bands) / top * rows * 8 + 0.5))
    cells: list[Span | None] = []
    n_still = sum(name in _STILL for name, _ in bands)
    counts = _counts([size / top * rows for _, size in bands], -(-eighths // 8), n_still)
    for (name, _), count in zip(bands, counts, strict=True):
        cells += [(SHADES[name] if shades else "█", ROLES[name])] * count
    last = cells[-1] if cells else None
    if last is not None and eighths % 8 and not shades:
        cells[-1] = (_BLOCKS[eighths % 8 - 1], last[1])
    return cells + [None] * (rows - len(cells))


def _counts(wanted: Sequence[float], cells: int, n_still: int) -> list[int]:
    """Whole cells for the bands, which sum to `cells`: what lies below does not move with what lies above.

    A band of at least an eighth of a cell gets one where a band above the first `n_still` has one to give.
    """
    counts, end, total = [], 0, 0.0
    for want in wanted:
        total += want
        counts.append(max(0, min(cells, round(total)) - end))
        end += counts[-1]
    if counts:
        counts[-1] += cells - end
    for index, want in enumerate(wanted):
        richest = max(range(n_still, len(counts)), key=lambda other: counts[other], default=index)
        if counts[index] == 0 and want >= 1 / 8 and counts[richest] > 1:
            counts[index], counts[richest] = 1, counts[richest] - 1
    return counts


def _headline(columns: Sequence[TimelinePoint], peak: TimelinePoint, free: int) -> Line:
    """Where the peak is, how high, and whether there is room for it."""
    at, width, over = LABELS + 1 + columns.index(peak), LABELS + 1 + len(columns), peak.allocated - free
    height = f"peak {mib(peak.allocated)} MiB"
    ways = [f"{height} in {peak.phase}", height]
    if over > 0:
        ways = [f"{ways[0]}, {mib(over)} MiB too much", f"{height}, {mib(over)} too much", f"{mib(over)} MiB too much"]
    role = "bad" if over > 0 else "value"
    for text in ways:
        if at + len(text) + 2 <= width:
            return [(" " * at, "text"), (f"▼ {text}", role)]
        if len(text) < at:
            return [(" " * (at - len(text) - 1), "text"), (f"{text} ▼", role)]
    return [(" " * at, "text"), ("▼", role)]


def _phases(columns: Sequence[TimelinePoint]) -> Line:
    line: Line = []
    for phase, group in groupby(columns, key=lambda point: point.phase):
        width = len(list(group))
        names = (f"└ {phase} ", f"└{phase}", f"└{_PHASES.get(phase, phase)}", "└")
        text = next(name for name in names if len(name) <= width)
        line.append((text.ljust(width, "─"), _PHASE_ROLES.get(phase, "muted")))
    return line


def _legend(points: Sequence[TimelinePoint], peak: TimelinePoint, width: int, limit: int, shades: bool) -> list[Line]:
    """What can be seen of the bands in at most `limit` lines, the largest first, with what each holds at the peak."""
    most = {name: max(_bands(point)[name] for point in points) for name in STACKED}
    at_peak = _bands(peak)
    lines: list[Line] = [[]]
    for name in sorted(STACKED, key=lambda name: -most[name]):
        if most[name] < MIB:
            continue
        fill = SHADES[name] if shades else "█"
        entry: Line = [(f"{fill} ", ROLES[name]), (f"{name} ", "muted"), (mib(at_peak[name]), "value")]
        if lines[-1] and width_of(lines[-1]) + 2 + width_of(entry) > width:
            lines.append([])
        lines[-1] += [("  ", "text"), *entry] if lines[-1] else entry
    return lines[:limit]
