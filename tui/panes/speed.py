"""Samples/s of the run, or tokens/s of one that answers, or updates/s of a script whose samples are not seen."""

from __future__ import annotations

from engine.contract.figures import CARD_SPEED, CPU
from engine.contract.numbers import percent, plus_minus, rate
from tui.drawing.cells import Line, first_that_fits, join
from tui.drawing.digits import large
from tui.panes import tokens as of_answers
from tui.panes import updates
from tui.panes.base import PlotPane
from tui.panes.drawing import RunPlot, at_cursor, compact
from tui.panes.updates import of_updates
from tui.state.cursor import Cursor, value_at
from tui.state.run_view import RunView
from tui.state.state import State


class SpeedPane(PlotPane):
    """Steady median and spread beside the mean of the whole run; the warm-up is drawn muted.

    On a virtual GPU they are those of the CPU, and the card's forecast stands beside them.
    """

    TITLE = "Samples/s"

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._plot = RunPlot(zero=True)

    def lines(self, state: State, width: int, height: int) -> list[Line]:
        """One line where the layout gives only one."""
        if height > 1:
            return super().lines(state, width, height)
        chart = width // 3
        label = "tokens/s" if state.scores is False else "samples/s"
        label = "updates/s" if of_updates(state.run) is not None else label
        label = f"{CPU} /s" if _is_cpus(state) else label
        return [compact(label, _numbers(state, width - chart - 13), self._chart(state, chart, 1), width, chart)]

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The numbers, and the history in the rows that are left."""
        lines: list[Line] = [[(" ", "text"), *_numbers(state, width - 2)]]
        if state.view.presenter:
            lines = _figure(state, width)
        return lines + [[(" ", "text"), *line] for line in self._chart(state, width - 2, height - len(lines))]

    def title(self, state: State) -> str:
        """On a virtual GPU the title says whose speed is measured; of answers it is in tokens."""
        if state.scores is False:
            return f"{CPU} tokens/s" if _is_cpus(state) else "Tokens/s"
        if of_updates(state.run) is not None:
            return "Updates/s"
        return f"{CPU} samples/s" if _is_cpus(state) else self.TITLE

    def _chart(self, state: State, width: int, height: int) -> list[Line]:
        run = state.run
        if run is None:
            return []
        if run.answer is not None:
            return of_answers.chart(self._plot, state, run, run.answer, width, height)
        if (script := of_updates(run)) is not None:
            return updates.chart(self._plot, state, run, script, width, height)
        ghost = state.view.ghost_of(run)
        behind = [ghost[1]] if ghost else []
        layers = [*((series, "ghost") for series in behind), (run.warmup_speeds, "muted"), (run.speeds, "speed")]
        scale_by = [run.speeds, *behind]
        view = state.view
        return self._plot.lines(run, layers, width, height, recent=view.recent, scale_by=scale_by, cursor=view.cursor)


def _figure(state: State, width: int) -> list[Line]:
    run, cursor = state.run, state.view.cursor
    if run is not None and run.answer is not None:
        return of_answers.figure(state, run, run.answer, width)
    if (script := of_updates(run)) is not None:
        return updates.figure(state, script, width)
    if run is not None and cursor is not None:
        return large(_at(run, cursor), "speed", cursor.where, width)
    row = run.as_record() if run is not None else None
    unit = f"{CPU} samples/s" if _is_cpus(state) else "samples/s"
    if row is not None and row.forecast_samples_per_s is not None:
        unit += f", card {CARD_SPEED.of(row)}"
    return large(rate(row.steady_samples_per_s if row is not None else None), "speed", unit, width)


def _is_cpus(state: State) -> bool:
    """Whether what is measured is the speed of the CPU that stands in for a card."""
    device = state.run.device if state.run is not None else state.device
    return device is not None and device.is_virtual


def _at(run: RunView, cursor: Cursor) -> str:
    """Samples/s at the cursor, of the warm-up where it stands in it."""
    series = run.warmup_speeds if run.speeds.within(*cursor.ends) is None else run.speeds
    return value_at(series, cursor, rate)


def _numbers(state: State, width: int) -> Line:
    run, cursor = state.run, state.view.cursor
    if run is None:
        return [("–", "speed")]
    if run.answer is not None:
        return of_answers.numbers(state, run, run.answer, width)
    if (script := of_updates(run)) is not None:
        return updates.numbers(state, run, script, width)
    if cursor is not None:
        ghost = state.view.ghost_of(run)
        behind = value_at(ghost[1], cursor, rate, held=True) if ghost else ""
        return at_cursor(cursor, [(_at(run, cursor), "speed")], behind, width)
    row = run.as_record()
    steady: Line = [(plus_minus(row.steady_samples_per_s, row.steady_spread), "speed")]
    if run.under_way and run.reached and row.steady_samples_per_s is None:
        steady = [("warm-up", "muted")]
    card: Line = [("card ", "muted"), (CARD_SPEED.of(row), "value")] if row.forecast_samples_per_s else []
    mean: Line = [("mean ", "muted"), (rate(row.samples_per_s), "value")]
    tokens: Line = [("tokens/s ", "muted"), (rate(row.tokens_per_s), "value")]
    mfu: Line = [("MFU ", "muted"), (percent(None if row.mfu is None else row.mfu * 100), "value")]
    has_mfu = run.device.kind == "cuda" and run.script is None
    parts = [steady, *([card] if card else []), mean, tokens, *([mfu] if has_mfu else [])]
    return first_that_fits([join(parts[:n], "   ") for n in range(len(parts), 0, -1)], width)
