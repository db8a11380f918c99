"""Line plots in braille: a pure function from values to rows of characters. Standard library only.

A row is a list of `(text, style)` runs, left to right, whose texts together are exactly `width` cells; `style` is an
index that the caller maps to a colour: 0 for blanks and labels, the others as given with the layers and the limit line.
The x axis is fixed by the caller (a run's 0 … planned updates), so that a new point changes only cells at or right of
the last one. `tui.drawing.axis` has ranges and ticks, `tui.drawing.bars` stacked bars and sparklines.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from tui.drawing.axis import Scale, nice_range, x_labels, y_labels

Row = list[tuple[str, int]]
Range = tuple[float, float]
Point = tuple[float, float | None]


class Charset(NamedTuple):
    """How dots become characters."""

    dots_x: int
    """Dot columns per cell."""
    dots_y: int
    """Dot rows per cell."""
    cells: str
    """Character by bits: bit i is dot row i from the bottom of the left column, bit dots_y + i of the right one."""
    over: str
    """Marks a cell whose values lie above the range (or are +inf)."""
    under: str
    """The same below the range."""
    point: str
    """A value that stands alone."""
    limit: str
    """The limit line, by dot row from the bottom of the cell: dotted, to tell it from data without colour."""


_BRAILLE_DOTS = (0x40, 0x04, 0x02, 0x01, 0x80, 0x20, 0x10, 0x08)  # Unicode 2800 block, bottom to top, left then right


def _braille(bits: int) -> str:
    return chr(0x2800 + sum(dot for i, dot in enumerate(_BRAILLE_DOTS) if bits >> i & 1)) if bits else " "


BRAILLE = Charset(2, 4, "".join(_braille(bits) for bits in range(256)), "▲", "▼", "●", "⡀⠄⠂⠁")
ASCII = Charset(1, 2, " .'|", "^", "v", "*", "--")


class Bins:
    """Minimum and maximum per dot column, in one pass; no value between is needed to draw the line."""

    __slots__ = ("breaks", "first", "high", "last", "log", "low", "n", "pending_gap", "x_range")

    def __init__(self, n: int, x_range: Range, log: bool) -> None:
        if n < 1 or not -math.inf < x_range[0] <= x_range[1] < math.inf:
            raise ValueError(f"bad plot axis: {n} columns for x in {x_range}; give n >= 1 and finite, ascending ends")
        self.n, self.x_range, self.log = n, x_range, log
        self.low: list[float | None] = [None] * n
        """None: no point in that column."""
        self.high, self.first, self.last = [0.0] * n, [0.0] * n, [0.0] * n
        self.breaks = [False] * n
        """Whether a gap lies between this column's first point and the point before it."""
        self.pending_gap = True

    def add(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Take points in. NaN, and in log plots anything not positive, is a gap; x outside the range is left out."""
        low, high, first, last, breaks = self.low, self.high, self.first, self.last, self.breaks
        (x_min, x_max), gap, log = self.x_range, self.pending_gap, self.log
        width, steps = (x_max - x_min) or 1.0, self.n - 1
        for x, y in zip(xs, ys, strict=True):
            if not x_min <= x <= x_max:
                continue
            if y != y or (log and y <= 0):
                gap = True
                continue
            i = int((x - x_min) / width * steps + 0.5)
            lowest = low[i]
            if lowest is None:
                low[i] = high[i] = first[i] = y
                breaks[i] = gap
            elif y < lowest:
                low[i] = y
            elif y > high[i]:
                high[i] = y
            last[i] = y
            gap = False
        self.pending_gap = gap


class Columns:
    """One series of a plot: its raw points, and their bins for the present width, kept up as points are appended.

    Appending costs the same for the first and the millionth point. As long as x does not decrease, what is drawn left
    of the last point stays as it is.
    """

    def __init__(self, points: Iterable[Point] = ()) -> None:
        self._x, self._y = array("d"), array("d")
        self._ascending = True
        self._bins: Bins | None = None
        self.extend(points)

    def __len__(self) -> int:
        return len(self._x)

    def append(self, x: float, y: float | None) -> None:
        """Add a point; y None or NaN is a gap in the line."""
        value = math.nan if y is None else float(y)
        self._ascending = self._ascending and (not self._x or self._x[-1] <= x)
        self._x.append(x)
        self._y.append(value)
        if self._bins is not None:
            self._bins.add((x,), (value,))

    def extend(self, points: Iterable[Point]) -> None:
        """Add points in order."""
        for x, y in points:
            self.append(x, y)

    def bins(self, n: int, x_range: Range, log: bool = False) -> Bins:
        """The bins for `n` dot columns over `x_range`; the raw points are read again only if one of these changed."""
        bins = self._bins
        if bins is None or (bins.n, bins.x_range, bins.log) != (n, x_range, log):
            bins = self._bins = Bins(n, x_range, log)
            start = bisect_left(self._x, x_range[0]) if self._ascending else 0
            bins.add(self._x[start:], self._y[start:])
        return bins

    def within(self, after: float, until: float) -> Range | None:
        """(lowest, highest) value with `after` < x <= `until`, from the raw points; None without one."""
        if self._ascending:
            found = self._y[bisect_right(self._x, after) : bisect_right(self._x, until)]
        else:
            found = array("d", (y for x, y in zip(self._x, self._y, strict=True) if after < x <= until))
        values = [y for y in found if y == y]
        return (min(values), max(values)) if values else None

    def last_until(self, x: float) -> Point | None:
        """The last point with an x of at most `x`, its value None in a gap; None without one. For ascending x."""
        index = bisect_right(self._x, x) - 1
        if index < 0:
            return None
        value = self._y[index]
        return self._x[index], value if value == value else None

    def extremes(self, x_from: float = -math.inf, *, positive: bool = False) -> Range | None:
        """(lowest, highest) finite value (above 0, if `positive`) with x >= `x_from`; None without one.

        Once the series was drawn, read from its dot columns: only points of the drawn axis, and whole columns.
        """
        if self._bins is None:
            pairs = zip(self._x, self._y, strict=True)
            found = [y for x, y in pairs if x >= x_from]
        else:
            bins, (x_min, x_max) = self._bins, self._bins.x_range
            share = (min(x_from, x_max) - x_min) / ((x_max - x_min) or 1.0)
            start = int(max(0.0, share) * (bins.n - 1) + 0.5)
            both = zip(bins.low[start:], bins.high[start:], strict=True)
            found = [y for low, high in both if low is not None for y in (low, high)]
        values = [y for y in found if math.isfinite(y) and (y > 0 or not positive)]
        return (min(values), max(values)) if values else None


class Layer(NamedTuple):
    """A series and the style it is drawn in. A cell shows one layer: the last in the list that has a dot there."""

    series: Columns
    style: int


class Mark(NamedTuple):
    """A vertical line at `x`: its own style where the column is blank, `over` where something is drawn."""

    x: float
    style: int
    over: int
    char: str = "┊"


class _Grid:
    """Characters and styles of the plot's area, row 0 on top."""

    def __init__(self, width: int, height: int) -> None:
        self.chars = [[" "] * width for _ in range(height)]
        self.styles = [[0] * width for _ in range(height)]

    def put(self, row: int, column: int, char: str, style: int) -> None:
        self.chars[row][column] = char
        self.styles[row][column] = style

    def rows(self) -> list[Row]:
        return [runs(chars, styles) for chars, styles in zip(self.chars, self.styles, strict=True)]


def runs(chars: Sequence[str], styles: Sequence[int]) -> Row:
    """Cells of equal style joined into (text, style) runs."""
    pairs = groupby(zip(chars, styles, strict=True), key=lambda cell: cell[1])
    return [("".join(char for char, _ in cells), style) for style, cells in pairs]


def plot(
    layers: Sequence[Layer],
    width: int,
    height: int,
    *,
    x_range: Range,
    y_range: Range | None = None,
    log_y: bool = False,
    points: Sequence[Layer] = (),
    limit: tuple[float, int] | None = None,
    mark: Mark | None = None,
    label_width: int = 0,
    y_format: Callable[[float], str] | None = None,
    x_row: bool = False,
    x_format: Callable[[float], str] | None = None,
    charset: Charset = BRAILLE,
) -> list[Row]:
    """Draw `layers`, back to front, in `width` × `height` cells (labels included); returns `height` rows.

    Each dot column is filled from its lowest to its highest value and joined to the column before it; gaps stay blank.
    Values outside `y_range` (None: a nice range around all data) and ±inf sit on the edge, marked ▲ or ▼.
    `points` are drawn over them, a character for each value, not joined.
    `limit` is (y, style) of a dotted horizontal line, `mark` a vertical one; what lies outside is not drawn.
    `label_width` > 0 puts tick labels of that many cells and a space on the left; `x_row` uses the last row for labels
    of the x axis.
    Raises ValueError for a y range or x range that cannot be an axis.
    """
    if width < 1 or height < 1:
        return []
    margin = label_width + 1 if 0 < label_width < width - 1 else 0
    area = height - 1 if x_row and height > 1 else height
    grid = _Grid(width - margin, area)
    columns = (width - margin) * charset.dots_x
    binned = [(layer.series.bins(columns, x_range, log_y), layer.style) for layer in layers]
    low, high = y_range if y_range is not None else _automatic([*layers, *points], log_y)
    scale = Scale(low, high, area * charset.dots_y, log_y)
    if limit is not None and low <= limit[0] <= high:
        row, dot = divmod(scale.row(limit[0]), charset.dots_y)
        for column in range(width - margin):
            grid.put(area - 1 - row, column, charset.limit[dot], limit[1])
    for bins, style in binned:
        _draw(grid, bins, scale, style, charset)
    for layer in points:
        _draw_points(grid, layer.series.bins(columns, x_range, log_y), scale, layer.style, charset)
    if mark is not None and x_range[0] <= mark.x <= x_range[1]:
        _draw_mark(grid, mark, column_of(mark.x, x_range, columns) // charset.dots_x)
    rows = grid.rows()
    if margin:
        labels = y_labels(scale, area, charset.dots_y, label_width, y_format)
        rows = [_joined((f"{label:>{label_width}} ", 0), row) for label, row in zip(labels, rows, strict=True)]
    if area < height:
        rows.append([(" " * margin + x_labels(x_range, width - margin, x_format), 0)])
    return rows


def column_of(x: float, x_range: Range, n: int) -> int:
    """Which of `n` columns over `x_range` a point at `x` falls in."""
    return int((x - x_range[0]) / ((x_range[1] - x_range[0]) or 1.0) * (n - 1) + 0.5)


def _draw_points(grid: _Grid, bins: Bins, scale: Scale, style: int, charset: Charset) -> None:
    bottom = len(grid.chars) - 1
    for i, low in enumerate(bins.low):
        for value in () if low is None else (low, bins.high[i]):
            grid.put(bottom - scale.row(value) // charset.dots_y, i // charset.dots_x, charset.point, style)


def _draw_mark(grid: _Grid, mark: Mark, column: int) -> None:
    for row, chars in enumerate(grid.chars):
        blank = chars[column] == " "
        grid.put(row, column, mark.char if blank else chars[column], mark.style if blank else mark.over)


def _automatic(layers: Sequence[Layer], log: bool) -> Range:
    found = [ends for layer in layers if (ends := layer.series.extremes(positive=log)) is not None]
    if not found:
        return (0.1, 1.0) if log else (0.0, 1.0)
    return nice_range(min(low for low, _ in found), max(high for _, high in found), log=log)


def _spans(bins: Bins, scale: Scale) -> list[tuple[int, int] | None]:
    """The filled dot rows (lowest, highest) of each dot column, joined so that neighbours touch."""
    spans: list[tuple[int, int] | None] = [None] * bins.n
    before = -1
    for i, low in enumerate(bins.low):
        if low is None:
            continue
        if before >= 0 and not bins.breaks[i]:
            start, end, distance = scale.row(bins.last[before]), scale.row(bins.first[i]), i - before
            for k in range(1, distance):
                row = (2 * (end - start) * k + distance) // (2 * distance) + start
                spans[before + k] = _touching(spans[before + k - 1], row, row)
            spans[i] = _touching(spans[i - 1], scale.row(low), scale.row(bins.high[i]))
        else:
            spans[i] = (scale.row(low), scale.row(bins.high[i]))
        before = i
    return spans


def _touching(neighbour: tuple[int, int] | None, low: int, high: int) -> tuple[int, int]:
    if neighbour is None:
        return low, high
    return min(low, neighbour[1] + 1), max(high, neighbour[0] - 1)


def _draw(grid: _Grid, bins: Bins, scale: Scale, style: int, charset: Charset) -> None:
    dots_x, dots_y, cells = charset.dots_x, charset.dots_y, charset.cells
    full, bottom = (1 << dots_y) - 1, len(grid.chars) - 1
    masks = [0 if span is None else (2 << span[1]) - (1 << span[0]) for span in _spans(bins, scale)]
    for column in range(len(grid.chars[0])):
        left = masks[column * dots_x]
        right = masks[column * dots_x + 1] if dots_x == 2 else 0
        either = left | right
        if not either:
            continue
        first = ((either & -either).bit_length() - 1) // dots_y
        for row in range(first, (either.bit_length() - 1) // dots_y + 1):
            bits = (left >> row * dots_y & full) | (right >> row * dots_y & full) << dots_y
            if bits:
                grid.put(bottom - row, column, cells[bits], style)
    low, high = scale.ends
    for i, lowest in enumerate(bins.low):
        if lowest is not None and lowest < low:
            grid.put(bottom, i // dots_x, charset.under, style)
        if lowest is not None and bins.high[i] > high:
            grid.put(0, i // dots_x, charset.over, style)


def _joined(label: tuple[str, int], row: Row) -> Row:
    if row and row[0][1] == label[1]:
        return [(label[0] + row[0][0], label[1]), *row[1:]]
    return [label, *row]
