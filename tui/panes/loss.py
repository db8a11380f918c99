"""The training loss, and the accuracy on held-out data; of a run that answers the latency of its tokens."""

from __future__ import annotations

from engine.contract.accuracy import beats_majority, interval
from engine.contract.events import EvalDone
from engine.contract.figures import ACCURACY, NO_BETTER
from engine.contract.numbers import fixed, loss, number, rate
from engine.contract.tasks import TASKS
from tui.drawing.cells import Line, first_that_fits, join
from tui.drawing.digits import large
from tui.panes import latency, script_loss
from tui.panes.base import PlotPane
from tui.panes.drawing import RunPlot, at_cursor, compact
from tui.state.cursor import value_at
from tui.state.run_view import RunView
from tui.state.state import State


class LossPane(PlotPane):
    """The loss of the last update, the last evaluation, and the curve over the run; of answers the time per token; of a
    script what is seen of its losses, or logged.
    """

    TITLE = "Loss"

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._plot = RunPlot()

    def lines(self, state: State, width: int, height: int) -> list[Line]:
        """One line where the layout gives only one."""
        if height > 1:
            return super().lines(state, width, height)
        chart = width // 3
        label = "loss" if state.scores is None else "latency"
        return [compact(label, _numbers(state, width - chart - 13), self._chart(state, chart, 1), width, chart)]

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The numbers, and the curve in the rows that are left."""
        lines: list[Line] = [[(" ", "text"), *_numbers(state, width - 2)]]
        if state.view.presenter:
            lines = _figure(state, width)
        return lines + [[(" ", "text"), *line] for line in self._chart(state, width - 2, height - len(lines))]

    def title(self, state: State) -> str:
        """The title says what it is, and when the axis is not linear."""
        scores = state.scores
        title = self.TITLE if scores is None else latency.title(scores=scores)
        return f"{title} (log)" if state.view.log_y else title

    def _chart(self, state: State, width: int, height: int) -> list[Line]:
        run, view = state.run, state.view
        if run is None:
            return []
        if run.answer is not None:
            return latency.chart(self._plot, state, run, run.answer, width, height)
        ghost = view.ghost_of(run)
        layers = [*([(ghost[0], "ghost")] if ghost else []), (run.losses, "loss")]
        log_y = view.log_y and height > 1
        points = (run.eval_losses, "accent") if len(run.eval_losses) else None
        return self._plot.lines(
            run, layers, width, height, recent=view.recent, log_y=log_y, points=points, cursor=view.cursor
        )


def _figure(state: State, width: int) -> list[Line]:
    run, cursor = state.run, state.view.cursor
    if run is not None and run.answer is not None:
        return latency.figure(state, run, run.answer, width)
    if run is not None and cursor is not None:
        return large(value_at(run.losses, cursor, loss), "loss", cursor.where, width)
    if run is not None and run.script is not None:
        return large(loss(run.script.last_loss), "loss")
    return large(loss(run.last.loss if run is not None and run.last is not None else None), "loss")


def _numbers(state: State, width: int) -> Line:
    run, cursor = state.run, state.view.cursor
    if run is not None and run.answer is not None:
        return latency.numbers(state, run, run.answer, width)
    if run is None or run.last is None:
        return [("–", "loss")]
    if cursor is not None:
        ghost = state.view.ghost_of(run)
        value: Line = [(value_at(run.losses, cursor, loss), "loss")]
        if len(run.eval_losses):
            value += [("  eval ", "muted"), (value_at(run.eval_losses, cursor, loss, held=True), "accent")]
        return at_cursor(cursor, value, value_at(ghost[0], cursor, loss, held=True) if ghost else "", width)
    if run.script is not None:
        return script_loss.numbers(run, run.script, width)
    last, evaluation = run.last, run.evaluation
    now: Line = [(loss(last.loss), "loss")]
    if last.skipped:
        now.append((f"  skipped: overflow, scale {number(last.loss_scale)}", "warn"))
    accuracy, worth = _accuracy(run, evaluation)
    norm: Line = [("grad ", "muted"), (rate(last.grad_norm), "value")] if last.grad_norm is not None else []
    epoch: Line = [("epoch ", "muted"), (fixed(last.epoch, 1), "value")]
    return first_that_fits(
        [
            join([now, accuracy + worth, norm, epoch], "   "),
            join([now, accuracy + worth, norm]),
            join([now, accuracy + worth]),
            join([now, accuracy]),
        ],
        width,
    )


def _accuracy(run: RunView, evaluation: EvalDone | None) -> tuple[Line, Line]:
    """What the last evaluation came to, ● in the plot, and what it is worth: the score's interval and the mean F1,
    or that the majority class alone would give it. Without a score it is the loss.
    """
    if evaluation is None:
        return [], []
    share, n = evaluation.accuracy, evaluation.n_samples
    if share is None:
        return [("eval ", "muted"), (loss(evaluation.loss), "value")], []
    called = (TASKS[run.config.task].score or "accuracy").replace("accuracy", "acc")
    said: Line = [(f"eval {called} ", "muted"), (ACCURACY.write(share), "value")]
    if not n:
        return said, []
    if beats_majority(share, n, run.majority) is False:
        return [*said, (NO_BETTER, "warn")], [(f" majority class {ACCURACY.write(run.majority)}", "warn")]
    low, high = interval(share, n)
    worth: Line = [(f" ({ACCURACY.write(low)}–{ACCURACY.write(high)})", "muted")]
    if evaluation.macro_f1 is not None:
        worth += [(" F1 ", "muted"), (ACCURACY.write(evaluation.macro_f1), "value")]
    return said, worth
