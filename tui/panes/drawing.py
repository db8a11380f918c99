"""From the pure plots and bars to the panes' lines: roles for style numbers, labels inside bars, one plot per run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from engine.contract.records import Outcome
from tui.drawing.axis import Axis
from tui.drawing.bars import sparkline
from tui.drawing.cells import Line, Span, cut, first_that_fits, join
from tui.drawing.plot import Columns, Layer, Mark, Range, Row, column_of, plot
from tui.state.cursor import Cursor
from tui.state.run_view import RunView

LABEL_WIDTH = 5
"""Columns of the y axis's labels, where a plot has room for them."""
X_ROW_HEIGHT = 12
"""Rows from which a plot gives one to the labels of its x axis: the updates."""

OUTCOME_ROLES = {
    Outcome.RUNNING: "accent",
    Outcome.COMPLETED: "good",
    Outcome.OUT_OF_MEMORY: "bad",
    Outcome.STOPPED: "warn",
    Outcome.FAILED: "bad",
    Outcome.INTERRUPTED: "warn",
}


def painted(row: Row, roles: Sequence[str]) -> Line:
    """A plot's row with roles in the place of style numbers (1 is the first role, 0 the muted labels)."""
    return [(text, roles[style - 1] if style else "muted") for text, style in row]


def labelled(row: Row, roles: Sequence[str], labels: Sequence[str]) -> Line:
    """A stacked bar whose solid parts carry their label in the bar's colour, where it fits."""
    line: Line = []
    for text, style in row:
        solid = text.rstrip("▏▎▍▌▋▊▉")
        if not style or not solid or set(solid) != {"█"}:
            line.append((text, roles[style - 1] if style else "text"))
            continue
        label = labels[style - 1]
        fits = cell_len(label) + 2 <= len(solid)
        edge = "▏" if line else " "  # parts are told apart without colour too
        line.append(((f"{edge}{label}" if fits else edge).ljust(len(solid)), f"on-{roles[style - 1]}"))
        if len(solid) < len(text):
            line.append((text[len(solid) :], roles[style - 1]))
    return line


class RunPlot:
    """A plot over a run's updates, or those of its last minute, whose y axis stays put while the run lasts."""

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero
        self._axis = Axis(zero=zero)
        self._drawn: tuple[int, bool, bool] | None = None

    def lines(
        self,
        run: RunView | None,
        layers: Sequence[tuple[Columns, str]],
        width: int,
        height: int,
        *,
        recent: bool = False,
        log_y: bool = False,
        y_range: Range | None = None,
        points: tuple[Columns, str] | None = None,
        scale_by: Sequence[Columns] = (),
        limit: float | None = None,
        cursor: Cursor | None = None,
    ) -> list[Line]:
        """`layers` (series, role) back to front; `points` stand alone, before them.

        `scale_by` names the series that the y axis follows (default: all).

        Without a value there is no axis to draw: then a word says what is missing.
        """
        if run is None or (x_end := run.x_end) is None or width < 4 or height < 1:
            return []
        if height > 1 and not any(series.extremes(positive=log_y) for series, _ in layers):
            return [[(cut(_nothing(run, [series for series, _ in layers]), width), "muted")]]
        if self._drawn != (run.run_id, recent, log_y):
            self._drawn, self._axis = (run.run_id, recent, log_y), Axis(zero=self._zero and not log_y, log=log_y)
        x_range = run.recent_range() if recent else (0.0, x_end)
        if y_range is None:
            drawn = [series for series, _ in layers] + ([points[0]] if points is not None else [])
            y_range = self._follow([series for series in scale_by if len(series)] or drawn)
        roles = [role for _, role in layers]
        if height == 1:
            return [_one_row(*layers[-1], width, x_range, y_range, cursor)]
        rows = plot(
            [Layer(series, index) for index, (series, _) in enumerate(layers, 1)],
            width,
            height,
            x_range=x_range,
            y_range=y_range,
            log_y=log_y,
            points=[Layer(points[0], len(layers) + 4)] if points is not None else [],
            limit=(limit, len(layers) + 1) if limit is not None else None,
            mark=Mark(cursor.update, len(layers) + 2, len(layers) + 3) if cursor is not None else None,
            label_width=LABEL_WIDTH if height >= 3 and width >= 30 else 0,
            x_row=height >= X_ROW_HEIGHT,
        )
        return [
            painted(row, [*roles, "limit", "accent", "cursor", points[1] if points is not None else "text"])
            for row in rows
        ]

    def _follow(self, followed: Sequence[Columns]) -> Range:
        found = [ends for series in followed if (ends := series.extremes(positive=self._axis.log)) is not None]
        return self._axis.follow((min(low for low, _ in found), max(high for _, high in found)) if found else None)


def _nothing(run: RunView, series: Sequence[Columns]) -> str:
    """Why nothing can be drawn."""
    if any(len(one) for one in series):
        return "no value that can be drawn"
    return "nothing yet" if run.under_way else "nothing was measured"


def _one_row(
    series: Columns, role: str, width: int, x_range: Range, y_range: Range, cursor: Cursor | None = None
) -> Line:
    bins = series.bins(width, x_range)
    values = [None if low is None else high for low, high in zip(bins.low, bins.high, strict=True)]
    text = sparkline(values, width, low=y_range[0], high=y_range[1])
    if cursor is None or not x_range[0] <= cursor.update <= x_range[1]:
        return [(text, role)]
    column = column_of(cursor.update, x_range, width)
    return [(text[:column], role), (text[column], "cursor"), (text[column + 1 :], role)]


def at_cursor(cursor: Cursor, value: Line, baseline: str, width: int) -> Line:
    """The number line of a pane whose plot is read: where, what was there, and what the baseline had there."""
    where: Line = [(cursor.where, "accent")]
    behind: Line = [("baseline ", "muted"), (baseline, "value")] if baseline else []
    return first_that_fits([join([where, value, behind]), join([where, value]), value], width)


def compact(label: str, numbers: Sequence[Span], chart: Sequence[Line], width: int, chart_width: int) -> Line:
    """A pane in one line: what it is, its numbers, and a plot of one row at the right."""
    left: Line = [(f" {label:<10}", "title"), *numbers]
    if not chart:
        return left
    used = sum(cell_len(text) for text, _ in left)
    room = width - chart_width - 1
    return [*left, (" " * (room - used), "text"), *chart[0]] if used < room else left
