"""Updates/s of a user's own script, in the place of samples/s, where nobody knows how many samples an update has."""

from __future__ import annotations

from engine.contract.numbers import plus_minus, rate
from tui.drawing.cells import Line, first_that_fits, join
from tui.drawing.digits import large
from tui.panes.drawing import RunPlot, at_cursor
from tui.state.cursor import value_at
from tui.state.run_view import RunView
from tui.state.script_view import ScriptView
from tui.state.state import State


def of_updates(run: RunView | None) -> ScriptView | None:
    """The script whose updates are counted in place of samples; None where samples are known, or may still be."""
    script = run.script if run is not None else None
    if run is None or script is None or len(run.speeds) or len(run.warmup_speeds) or not len(script.rates):
        return None
    return script


def chart(plot: RunPlot, state: State, run: RunView, script: ScriptView, width: int, height: int) -> list[Line]:
    """Over the run."""
    return plot.lines(run, [(script.rates, "speed")], width, height, recent=state.view.recent, cursor=state.view.cursor)


def figure(state: State, script: ScriptView, width: int) -> list[Line]:
    """In large digits: the median, or the value at the cursor."""
    cursor = state.view.cursor
    if cursor is not None:
        return large(value_at(script.rates, cursor, rate), "speed", cursor.where, width)
    steady = script.updates_per_s
    return large(rate(steady.samples_per_s if steady is not None else None), "speed", "updates/s", width)


def numbers(state: State, run: RunView, script: ScriptView, width: int) -> Line:
    """The median and its spread, and the mean of the whole run."""
    cursor = state.view.cursor
    if cursor is not None:
        return at_cursor(cursor, [(value_at(script.rates, cursor, rate), "speed")], "", width)
    steady = script.updates_per_s
    told: Line = [(plus_minus(steady.samples_per_s, steady.spread), "speed")] if steady else [("warm-up", "muted")]
    mean: Line = [("mean ", "muted"), (rate(run.reached / run.moved_t if run.moved_t else None), "value")]
    unseen: Line = [("samples –", "muted")]
    return first_that_fits([join([told, mean, unseen], "   "), join([told, mean], "   "), told], width)
