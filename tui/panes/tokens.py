"""Tokens/s of a run that answers, in the place of samples/s: generation, prefill, what guesses and caches do.

Named as llama-bench has it: pp is prompt tokens/s, tg generation's.
"""

from __future__ import annotations

from engine.contract.figures import CPU
from engine.contract.numbers import of_hundred, percent, plus_minus, rate
from tui.drawing.cells import Line, first_that_fits, join
from tui.drawing.digits import large
from tui.panes.drawing import RunPlot, at_cursor
from tui.state.answer_view import AnswerView
from tui.state.cursor import value_at
from tui.state.run_view import RunView
from tui.state.state import State


def unit(run: RunView, answer: AnswerView) -> str:
    """`tokens/s`, of a classifier `samples/s`, with whose they are on a virtual GPU."""
    name = "samples/s" if answer.scores else "tokens/s"
    return f"{CPU} {name}" if run.device.is_virtual else name


def chart(plot: RunPlot, state: State, run: RunView, answer: AnswerView, width: int, height: int) -> list[Line]:
    """Of all sequences together, over the run."""
    ghost = state.view.ghost_of(run)
    behind = [ghost[1]] if ghost else []
    layers = [*((series, "ghost") for series in behind), (answer.speeds, "speed")]
    scale_by = [answer.speeds, *behind]
    return plot.lines(run, layers, width, height, recent=state.view.recent, scale_by=scale_by, cursor=state.view.cursor)


def figure(state: State, run: RunView, answer: AnswerView, width: int) -> list[Line]:
    """In large digits: the median, or the value at the cursor."""
    cursor = state.view.cursor
    if cursor is not None:
        return large(value_at(answer.speeds, cursor, rate, held=True), "speed", cursor.where, width)
    return large(rate(_median(run, answer)), "speed", unit(run, answer), width)


def numbers(state: State, run: RunView, answer: AnswerView, width: int) -> Line:
    """Generation's median and spread first, then prefill's, then what guesses and caches came to."""
    cursor = state.view.cursor
    if cursor is not None:
        ghost = state.view.ghost_of(run)
        behind = value_at(ghost[1], cursor, rate, held=True) if ghost else ""
        return at_cursor(cursor, [(value_at(answer.speeds, cursor, rate, held=True), "speed")], behind, width)
    row = run.as_record()
    figures = row.answer
    if answer.warmup:
        return [("warm-up", "muted")] if run.under_way and answer.started is not None else [("–", "speed")]
    if figures is None or answer.scores:
        parts: list[Line] = [[(plus_minus(row.steady_samples_per_s, row.steady_spread), "speed")]]
        if figures is not None and figures.padding_share is not None:
            parts.append([("padding ", "muted"), (percent(100 * figures.padding_share), "value")])
        return first_that_fits([join(parts, "   "), parts[0]], width)
    tg: Line = [(plus_minus(figures.generation_tokens_per_s, figures.generation_spread), "speed")]
    parts = [tg]
    if figures.proposed is not None:
        parts.append([(rate(figures.tokens_per_forward), "value"), (" a forward", "muted")])
        parts.append([("accepted ", "muted"), (percent(of_hundred(figures.acceptance)), "value")])
    if figures.hits is not None:
        parts.append([("hits ", "muted"), (percent(of_hundred(figures.hit_rate)), "value")])
    parts.append([("pp ", "muted"), (rate(figures.prompt_tokens_per_s), "value")])
    return first_that_fits([join(parts[:n], gap) for n in range(len(parts), 0, -1) for gap in ("   ", "  ")], width)


def _median(run: RunView, answer: AnswerView) -> float | None:
    row = run.as_record()
    if answer.scores or row.answer is None:
        return row.steady_samples_per_s
    return row.answer.generation_tokens_per_s
