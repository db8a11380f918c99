"""The training loss, and the accuracy on held-out data."""

from __future__ import annotations

from tui.cells import Line, first_that_fits, join
from tui.formatting import loss, rate
from tui.panes.base import Pane
from tui.panes.drawing import RunPlot, compact
from tui.run_view import RunView
from tui.state import State


class LossPane(Pane):
    """The loss of the last update, the last evaluation, and the curve over the run."""

    TITLE = "Loss"

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._plot = RunPlot()

    def lines(self, state: State, width: int, height: int) -> list[Line]:
        """One line where the layout gives only one."""
        if height > 1:
            return super().lines(state, width, height)
        chart = width // 3
        return [compact("loss", _numbers(state.run, width - chart - 13), self._chart(state, chart, 1), width, chart)]

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The numbers, and the curve in the rows that are left."""
        lines: list[Line] = [[(" ", "text"), *_numbers(state.run, width - 2)]]
        return lines + [[(" ", "text"), *line] for line in self._chart(state, width - 2, height - 1)]

    def _chart(self, state: State, width: int, height: int) -> list[Line]:
        if state.run is None:
            return []
        return self._plot.lines(state.run, [(state.run.losses, "loss")], width, height)


def _numbers(run: RunView | None, width: int) -> Line:
    if run is None or run.last is None:
        return [("–", "loss")]
    last, evaluation = run.last, run.evaluation
    now: Line = [(loss(last.loss), "loss")]
    if last.skipped:
        now.append(("  skipped: overflow", "warn"))
    accuracy: Line = [("eval acc ", "muted"), (loss(evaluation.accuracy), "value")] if evaluation else []
    norm: Line = [("grad ", "muted"), (rate(last.grad_norm), "value")] if last.grad_norm is not None else []
    epoch: Line = [("epoch ", "muted"), (f"{last.epoch:.1f}", "value")]
    return first_that_fits(
        [join([now, accuracy, norm, epoch], "   "), join([now, accuracy, norm]), join([now, accuracy])], width
    )
