"""How long each token took, in the place of a loss: spikes are prefills of others and guesses that were rejected."""

from __future__ import annotations

from engine.contract.answers import Percentiles
from engine.contract.numbers import UNKNOWN, rate
from tui.drawing.cells import Line, first_that_fits, join
from tui.drawing.digits import large
from tui.panes.drawing import RunPlot, at_cursor
from tui.state.answer_view import AnswerView
from tui.state.cursor import value_at
from tui.state.run_view import RunView
from tui.state.state import State


def title(*, scores: bool) -> str:
    """What is plotted."""
    return "Latency ms/batch" if scores else "Latency ms/token"


def chart(plot: RunPlot, state: State, run: RunView, answer: AnswerView, width: int, height: int) -> list[Line]:
    """The curve over the run, with the beginnings of answers as points."""
    view = state.view
    ghost = view.ghost_of(run)
    return plot.lines(
        run,
        [*([(ghost[0], "ghost")] if ghost else []), (answer.latencies, "loss")],
        width,
        height,
        recent=view.recent,
        log_y=view.log_y and height > 1,
        points=(answer.prefills, "accent") if len(answer.prefills) and height > 1 else None,
        cursor=view.cursor,
    )


def figure(state: State, run: RunView, answer: AnswerView, width: int) -> list[Line]:
    """In large digits: the median time per token, or the value at the cursor."""
    if state.view.cursor is not None:
        return large(value_at(answer.latencies, state.view.cursor, rate), "loss", state.view.cursor.where, width)
    figures = run.as_record().answer
    tpot = figures.tpot.p50 * 1000 if figures is not None and figures.tpot is not None else answer.newest_ms
    return large(rate(tpot), "loss", "ms a batch" if answer.scores else "ms a token", width)


def numbers(state: State, run: RunView, answer: AnswerView, width: int) -> Line:
    """The newest, the percentiles of time per output token, and those of the time to the first."""
    cursor = state.view.cursor
    if cursor is not None:
        ghost = state.view.ghost_of(run)
        behind = value_at(ghost[0], cursor, rate, held=True) if ghost else ""
        return at_cursor(cursor, [(value_at(answer.latencies, cursor, rate), "loss"), (" ms", "muted")], behind, width)
    now: Line = [(rate(answer.newest_ms), "loss"), (" ms", "muted")]
    figures = run.as_record().answer
    if answer.warmup:
        return first_that_fits([[*now, ("  warm-up", "muted")], now], width)
    if figures is None:
        return now
    if answer.scores:
        return first_that_fits([join([now, _percentiles("batch", figures.e2e)]), now], width)
    tpot, ttft = _percentiles("TPOT", figures.tpot), _percentiles("TTFT", figures.ttft)
    short = _percentiles("TPOT", figures.tpot, few=True), _percentiles("TTFT", figures.ttft, few=True)
    spread = [join([now, tpot, ttft], "   "), join([now, tpot, ttft]), join([tpot, ttft]), join(short)]
    return first_that_fits([*spread, tpot, short[0]], width)


def _percentiles(name: str, of: Percentiles | None, *, few: bool = False) -> Line:
    """`TPOT 6.23 · p99 7.41 ms`, or its median alone."""
    if of is None:
        return [(f"{name} ", "muted"), (UNKNOWN, "value")]
    median: Line = [(f"{name} ", "muted"), (rate(of.p50 * 1000), "value")]
    return median if few else [*median, (" p99 ", "muted"), (rate(of.p99 * 1000), "value")]
