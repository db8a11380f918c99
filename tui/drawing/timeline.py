"""One update's memory as a picture: what lives from the first allocation of the forward to the last of the optimizer.

A stacked area in characters, one column a moment (the fullest of those that share it), one colour a category.
Pure: no Textual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from engine.contract.forecast_types import (
    ACTIVATIONS,
    CACHED,
    CONTEXT,
    GRADIENTS,
    INPUTS,
    KV_CACHE,
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
from tui.drawing.categories import FILLS, NAMES, PHASES, ROLES, SHADES
from tui.drawing.cells import Line, Span, segments, width_of

STACKED = (CONTEXT, LIBRARIES, WEIGHTS, OPTIMIZER, GRADIENTS, KV_CACHE, ACTIVATIONS, TEMPORARIES, CACHED)
"""From the bottom: what stays through the update first, so that the bands above are what moves. They sum to what is
used, which is what the limit is a limit of: `CONTEXT` is all that lies outside the allocator, `CACHED` what it keeps.
"""
_STILL = STACKED[:4]
LABELS = 5
LEAST = (24, 5)
"""Columns and rows below which there is no picture."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_PHASES = frozenset(("forward", "backward", "optimizer", "prefill", "decode", "draft", "sampling"))
"""Those with a role of their name."""
_NEAR = 1.3
"""A limit is drawn when it is at most this many times what is used: a far one would flatten the picture."""
_MOSTLY = 0.5
"""The picture begins above the context where that is more than this share of its height: a small model would else be a
thin line on top of it.
"""
_REQUEST = 3
"""Columns of the request that fails."""


def timeline(made: Forecast, width: int, height: int, *, shades: bool = False) -> list[Line]:
    """The picture in `width` × `height` cells: the peak, the limit, the bands, the phases, what is held at the peak.

    All in MiB of used memory; where the context would fill the picture, from there on. Of a configuration that does
    not fit it ends with the request that fails: from what is used up through the limit. `shades` tells the bands apart
    by their fill, for screens without colour.
    """
    points = made.timeline
    if not points or width < LEAST[0] or height < LEAST[1]:
        return []
    n_request = 0 if made.fits else _REQUEST
    columns = _columns(points, width - LABELS - 1 - n_request)
    peak = _told(made)
    used = max(_used(made, point) for point in columns)
    has_limit = not made.fits or made.limit <= _NEAR * used
    top = max(made.limit if has_limit else used, 1)
    floor = made.outside if made.outside > _MOSTLY * top else 0
    legend = _legend(made, peak, width, 2 if height >= 9 else 1, shades, is_floor=floor > 0)
    rows = max(1, height - 2 - has_limit - len(legend))
    above = max(1, top - floor)
    cells = [_column(_above(floor, _bands(made, point)), above, rows, shades) for point in columns]
    if n_request:
        last = _above(floor, _bands(made, points[-1]))
        cells += [_column(last, above, rows, shades, fails=True)] * n_request
    scale = Scale(to_mib(floor) or 0.0, to_mib(top) or 0.0, rows * len(_BLOCKS), log=False)
    labels = y_labels(scale, rows, len(_BLOCKS), LABELS, None)
    lines = [_headline(made, columns, peak)]
    if has_limit:
        labels = ["" if label == mib(made.limit) else label for label in labels]  # the limit's own line has it
        lines.append(_limit(made, len(columns), n_request))
    for row in reversed(range(rows)):
        drawn = segments([column[row] or (" ", "text") for column in cells])
        lines.append([(f"{labels[rows - 1 - row]:>{LABELS}} ", "muted"), *drawn])
    return [*lines, [(" " * (LABELS + 1), "text"), *_phases(columns)], *legend]


def _told(made: Forecast) -> TimelinePoint:
    """The moment that the picture tells of: where most is allocated, or where the request fails."""
    return max(made.timeline, key=lambda point: point.allocated) if made.fits else made.timeline[-1]


def _used(made: Forecast, point: TimelinePoint) -> int:
    """Bytes used on the GPU: by the allocator's segments, and outside them."""
    return made.outside + max(point.reserved, point.allocated)


def most_held(made: Forecast) -> tuple[str, int, int] | None:
    """What holds most of the allocated memory at the moment that the picture tells of: its name, its bytes, and those
    of all; None without a timeline."""
    if not made.timeline:
        return None
    point = _told(made)
    held = {name: size for name, size in _bands(made, point).items() if name not in (CONTEXT, CACHED)}
    name = max(held, key=lambda category: held[category])
    return NAMES.get(name, name), held[name], point.allocated


def _columns(points: Sequence[TimelinePoint], n: int) -> list[TimelinePoint]:
    """The fullest moment of each of `n` columns; a moment is stretched where there are fewer."""
    columns = []
    for column in range(n):
        start = column * len(points) // n
        end = max(start + 1, (column + 1) * len(points) // n)
        columns.append(max(points[start:end], key=lambda point: point.allocated))
    return columns


def _bands(made: Forecast, point: TimelinePoint) -> dict[str, int]:
    held = {name: point.by_category.get(name, 0) for name in STACKED}
    held[ACTIVATIONS] += point.by_category.get(INPUTS, 0)
    held[CONTEXT], held[CACHED] = made.outside, max(0, point.reserved - point.allocated)
    return held


def _above(floor: int, held: dict[str, int]) -> dict[str, int]:
    """What is drawn above a floor of so many bytes, which is the context or nothing."""
    return {**held, CONTEXT: held[CONTEXT] - floor}


def _fill(name: str, shades: bool) -> str:
    return SHADES[name] if shades else FILLS.get(name, "█")


def _column(held: Mapping[str, int], top: int, rows: int, shades: bool, *, fails: bool = False) -> list[Span | None]:
    """One column's cells from the bottom; None where nothing lives. `fails`: a request fills what is left of them."""
    bands = [(name, size) for name, size in held.items() if size > 0 and name != CACHED]
    eighths = min(8 * rows, int(sum(size for _, size in bands) / top * rows * 8 + 0.5))
    cells: list[Span | None] = []
    n_still = sum(name in _STILL for name, _ in bands)
    counts = _counts([size / top * rows for _, size in bands], -(-eighths // 8), n_still)
    for (name, _), count in zip(bands, counts, strict=True):
        cells += [(_fill(name, shades), ROLES[name])] * count
    last = cells[-1] if cells else None
    if last is not None and eighths % 8 and last[0] == "█" and not shades:
        cells[-1] = (_BLOCKS[eighths % 8 - 1], last[1])
    n_used = min(rows, round(sum(held.values()) / top * rows))
    cells += [(_fill(CACHED, shades), ROLES[CACHED])] * (n_used - len(cells))
    return cells + [("▒", "bad") if fails else None] * (rows - len(cells))


def _counts(wanted: Sequence[float], cells: int, n_still: int) -> list[int]:
    """Whole cells for the bands, which sum to `cells`: what lies below does not move with what lies above.

    A band of at least an eighth of a cell above the first `n_still` gets one where another has one to give.
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
        if index >= n_still and counts[index] == 0 and want >= 1 / 8 and counts[richest] > 1:
            counts[index], counts[richest] = 1, counts[richest] - 1
    return counts


def _limit(made: Forecast, width: int, n_request: int) -> Line:
    """The line of the limit above the bands, which the request that fails goes through."""
    name = "limit" if made.limit < made.total else "the card's limit"
    text = f"╌╌ {name} " if len(name) + 6 <= width else ""
    line: Line = [(f"{mib(made.limit):>{LABELS}} ", "limit"), (text.ljust(width, "╌"), "limit")]
    return [*line, ("▒" * n_request, "bad")] if n_request else line


def _headline(made: Forecast, columns: Sequence[TimelinePoint], peak: TimelinePoint) -> Line:
    """What fails and by how much; of what fits, where most is allocated, and what is used then."""
    if not made.fits:
        asks = f"{peak.phase} asks for {mib(made.failing_segment)} MiB, {mib(made.failing_free)} are free"
        short = f"{mib(made.short)} MiB too much"
        ways = [f"{asks}: {short}", short]
        at, end, role = LABELS + 1 + len(columns), LABELS + 1 + len(columns) + _REQUEST, "bad"
    else:
        height = f"peak {mib(peak.allocated)} MiB"
        used = f"allocated in {peak.phase}, {mib(_used(made, peak))} used of {mib(made.limit)}"
        ways = [f"{height} {used}", f"{height} allocated in {peak.phase}", height]
        at, end, role = LABELS + 1 + columns.index(peak), LABELS + 1 + len(columns), "value"
    for text in ways:
        if at + len(text) + 2 <= end:
            return [(" " * at, "text"), (f"▼ {text}", role)]
        if len(text) < at:
            return [(" " * (at - len(text) - 1), "text"), (f"{text} ▼", role)]
    return [(" " * at, "text"), ("▼", role)]


def _phases(columns: Sequence[TimelinePoint]) -> Line:
    line: Line = []
    for phase, group in groupby(columns, key=lambda point: point.phase):
        width = len(list(group))
        names = (f"└ {phase} ", f"└{phase}", f"└{PHASES.get(phase, phase)}", "└")
        text = next(name for name in names if len(name) <= width)
        line.append((text.ljust(width, "─"), phase if phase in _PHASES else "muted"))
    return line


def _legend(made: Forecast, peak: TimelinePoint, width: int, limit: int, shades: bool, *, is_floor: bool) -> list[Line]:
    """What can be seen of the bands in at most `limit` lines, the largest first, with what each holds at the peak.

    `is_floor`: the picture begins above the context.
    """
    every = [_bands(made, point) for point in made.timeline]
    most = {name: max(held[name] for held in every) for name in STACKED}
    at_peak = _bands(made, peak)
    lines: list[Line] = [[]]
    for name in sorted(STACKED, key=lambda name: -most[name]):
        if most[name] < MIB:
            continue
        entry: Line = [
            (f"{_fill(name, shades)} ", ROLES[name]),
            (f"{NAMES.get(name, name)} ", "muted"),
            (mib(at_peak[name]), "value"),
        ]
        if is_floor and name == CONTEXT:
            entry = [("below: context ", "muted"), entry[-1]]
        if lines[-1] and width_of(lines[-1]) + 2 + width_of(entry) > width:
            lines.append([])
        lines[-1] += [("  ", "text"), *entry] if lines[-1] else entry
    return lines[:limit]
