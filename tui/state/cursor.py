"""The cursor of the plots: on which updates it stands, and what a series says there. Pure: no Textual."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from engine.contract.numbers import UNKNOWN
from tui.drawing.plot import Columns, Range


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place on the x axis of a run, the same in every plot."""

    update: int
    """Counted from 1."""
    span: int = 1
    """Updates that it covers, `update` being the last of them: as many as a column of the plot holds."""
    unit: str = "update"
    """What is counted: of a run that answers `token`, of a classifier that scores `text`."""

    @property
    def ends(self) -> Range:
        """What it covers of the x axis, without the lower end: update n is done at x = n."""
        return float(self.update - self.span), float(self.update)

    @property
    def where(self) -> str:
        """`update 41`, or `updates 33–41`."""
        first = max(1, self.update - self.span + 1)
        return f"{self.unit} {self.update:,}" if first == self.update else f"{self.unit}s {first:,}–{self.update:,}"

    def moved(self, by: int, span: int, x_range: Range, last: int) -> Cursor:
        """`by` steps of `span` updates to the right, within the drawn x axis and up to the `last` update."""
        most = max(1, min(last, math.floor(x_range[1])))
        least = min(most, max(1, math.ceil(x_range[0])))
        update = self.update + by * span
        return Cursor(max(least, min(most, update)), span, self.unit)


def updates_per_column(x_range: Range, columns: int) -> int:
    """Updates that a column of a plot holds, so that going column by column reads every one."""
    return max(1, math.ceil((x_range[1] - x_range[0]) / max(1, columns)))


def value_at(series: Columns, cursor: Cursor, written: Callable[[float | None], str], *, held: bool = False) -> str:
    """What `series` says at the cursor: one value, or `lowest…highest` where it covers several; "–" where nothing.

    `held` series say what was read last before the cursor, and where that was.
    """
    found = series.within(*cursor.ends)
    if found is not None:
        low, high = (written(end) for end in found)
        return low if low == high else f"{low}…{high}"
    before = series.last_until(cursor.update) if held else None
    if before is None or before[1] is None:
        return UNKNOWN
    return f"{written(before[1])} (at {math.ceil(before[0]):,})"
