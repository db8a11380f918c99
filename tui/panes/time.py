"""Where the time of an update goes."""

from __future__ import annotations

from engine.contract.figures import CPU
from engine.contract.numbers import percent, rate
from tui.drawing.bars import Part, stacked_bar
from tui.drawing.categories import PHASES as SHORT
from tui.drawing.cells import Line, width_of
from tui.panes.base import PlotPane
from tui.panes.drawing import labelled, painted
from tui.state.run_view import RunView
from tui.state.state import State

PHASES = ("data", "forward", "backward", "optimizer")


class TimePane(PlotPane):
    """Data, forward, backward and optimizer as shares of the updates after warm-up."""

    TITLE = "Where the time goes"

    def lines(self, state: State, width: int, height: int) -> list[Line]:
        """One line where the layout gives only one."""
        if height > 1:
            return super().lines(state, width, height)
        return [[(" time      ", "title"), *_bar(_seconds(state.run), width - 12)]]

    def headline(self, state: State, width: int) -> Line:
        """What one update takes."""
        run = state.run
        if run is None or not run.timed_updates:
            return []
        took: Line = [(f"{rate(sum(_seconds(run)) * 1000)} ms", "value")]
        if not run.device.is_virtual:
            return [*took, (" an update", "muted")]
        took = [(f"{CPU} ", "muted"), *took]
        whole: Line = [*took, (" an update", "muted")]
        return whole if width_of(whole) <= width else took

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """All phases in one bar, and each with its share and its milliseconds."""
        values = _seconds(state.run)
        whole = sum(values)
        lines: list[Line] = [[(" ", "text"), *_bar(values, width - 2)]]
        if not whole:
            place = state.run.place if state.run is not None and state.run.under_way else None
            return lines if place is None else [[(f" {place.words}", "accent")]]
        room = width - 30
        for index, (name, value) in enumerate(zip(PHASES, values, strict=True)):
            share: Line = [(f" {name:<10}", "muted"), (f"{percent(value / whole * 100):>5}", "value")]
            took: Line = [(f"{rate(value * 1000):>8} ms  ", "muted")]
            bar = painted(stacked_bar([Part(value, index + 1)], max(values), max(0, room)), PHASES)
            lines += [[], [*share, *took, *bar]] if height >= 9 else [[*share, *took, *bar]]
        return lines


def _seconds(run: RunView | None) -> list[float]:
    """Seconds of a mean update by phase."""
    if run is None or not run.timed_updates:
        return [0.0] * len(PHASES)
    return [getattr(run.shares, name) / run.timed_updates for name in PHASES]


def _bar(values: list[float], width: int) -> Line:
    whole = sum(values)
    if not whole:
        return [("–", "muted")]
    parts = [Part(value, index) for index, value in enumerate(values, 1)]
    shares = [value / whole * 100 for value in values]
    row = stacked_bar(parts, whole, width)
    long = [f"{name} {share:.0f} %" for name, share in zip(PHASES, shares, strict=True)]
    short = [f"{SHORT.get(name, name)} {share:.0f} %" for name, share in zip(PHASES, shares, strict=True)]
    bare = [f"{share:.0f} %" for share in shares]
    fitting = {style: len(text) for text, style in row}
    labels = [
        next((text for text in texts if len(text) + 2 <= fitting.get(index, 0)), "")
        for index, texts in enumerate(zip(long, short, bare, [text[:-2] for text in bare], strict=True), 1)
    ]
    return labelled(row, PHASES, labels)
