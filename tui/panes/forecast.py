"""The forecast of the next run: what it would need, whether it fits, and about how fast it would be."""

from __future__ import annotations

from engine.contract.forecast_types import BREAKDOWN, AnswerForecast, Forecast
from engine.contract.numbers import forecast_rate, mib, number, percent
from tui.drawing.bars import Marker, Part, stacked_bar
from tui.drawing.categories import FILLS, ROLES
from tui.drawing.cells import Line, first_that_fits, wrap
from tui.drawing.text import clean
from tui.panes.base import Pane
from tui.panes.estimate import estimate_lines
from tui.panes.memory_bar import fine_mib
from tui.state.ranks import fullest_of
from tui.state.script_estimate import Estimates
from tui.state.state import State

_WITH_BAR = 4
"""Rows from which there is a bar for several GPUs too."""


class ForecastPane(Pane):
    """Follows every key; while the newest answer is computed it says so, and shows none of other knobs.

    Of a script that has run, what it measured says what another batch size needs: that stands before a forecast.
    """

    TITLE = "Forecast"

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._estimates = Estimates()

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """Verdict, bar, speed; of a script first what was measured says."""
        found = self._estimates.of_next(state)
        if found is None:
            return self._forecast(state, width, height)
        total = state.ready.memory_total if state.ready is not None else None
        lines = estimate_lines(found, total, width)
        has_forecast = state.forecast is not None and state.forecast.forecast is not None
        below = self._forecast(state, width, height - len(lines)) if has_forecast and height > len(lines) else []
        return [*lines, *below][:height]

    def _forecast(self, state: State, width: int, height: int) -> list[Line]:
        answer = state.forecast
        if answer is None:
            return [[(" loading" if state.loading else " –", "muted")]]
        if answer.config != state.editor.config:
            return [[(" forecasting …", "muted")]]
        if answer.forecast is None:
            return [[(f" {line}", "muted")] for line in _refusal(clean(answer.message or "–", 200), width - 1, height)]
        made = answer.forecast
        if made.answer is not None:
            return _of_answers(made, made.answer, width, height)
        more = _more(made, width)
        # of several GPUs the speed says more than the bar, whose share the verdict has
        bar: list[Line] = [[(" ", "text"), *_bar(made, width - 2)]] if made.gpus == 1 or height >= _WITH_BAR else []
        return [_verdict(made, width), *bar, *more][:height]


def _of_answers(made: Forecast, answer: AnswerForecast, width: int, height: int) -> list[Line]:
    """Verdict, what dies, keys and values, the longest that fits, speed; the bar where there is room for it too."""
    lines = [_verdict(made, width)]
    if not made.fits:
        lines.append([(f" out of memory: {made.failing_phase}", "bad")])
    lines += [each for each in (_kv(answer, width), _pace(made, answer, width), _first(answer, width)) if each]
    lines += [each for each in (_gains(answer, width), _range(made, width)) if each]
    if height > len(lines):
        lines.insert(1, [(" ", "text"), *_bar(made, width - 2)])
    return lines[:height]


def _kv(answer: AnswerForecast, width: int) -> Line:
    """`KV 13 MiB, ≤ 1,024 tokens, ≤ batch 48`: of the longest answers, and what would fit at most."""
    size: Line = [(" KV ", "muted"), (fine_mib(answer.kv_cache), "value"), (" MiB", "muted")]
    kv = size if answer.kv_per_token else []
    most = [(", ≤ " if kv else " ≤ ", "muted"), (number(answer.most_tokens), "value")]
    tokens = [*most, (" tokens", "muted")] if answer.most_tokens is not None else []
    batch = [(", batch ≤ ", "muted"), (number(answer.largest_batch), "value")] if answer.largest_batch else []
    short = [*most, (" tok", "muted")] if tokens else []
    return first_that_fits([[*kv, *tokens, *batch], [*kv, *tokens], [*kv, *short], kv or short], width)


def _pace(made: Forecast, answer: AnswerForecast, width: int) -> Line:
    """The card's tokens/s and what bounds them; of a classifier its samples/s."""
    if answer.generation_tokens_per_s is None:
        return [(" card ", "muted"), (forecast_rate(made.samples_per_s), "speed"), (" samples/s", "muted")]
    speed: Line = [(" ", "muted"), (forecast_rate(answer.generation_tokens_per_s), "speed"), (" tokens/s", "muted")]
    ways = [[*speed, (f", by {answer.bound}", "muted")] if answer.bound else speed, speed]
    return first_that_fits(ways, width)


def _first(answer: AnswerForecast, width: int) -> Line:
    """`TTFT ~46 · TPOT ~6.4 ms`."""
    if answer.ttft_s is None:
        return []
    tpot = forecast_rate(None if answer.tpot_s is None else answer.tpot_s * 1000)
    ttft = forecast_rate(answer.ttft_s * 1000)
    line: Line = [(" TTFT ", "muted"), (ttft, "value"), ("  TPOT ", "muted"), (tpot, "value")]
    return first_that_fits([[*line, (" ms", "muted")], line], width)


def _gains(answer: AnswerForecast, width: int) -> Line:
    """Speculation's speed-up by acceptance: `×1.4 at 25 %, ×2.0 at 50 %`."""
    if not answer.speedups:
        return []
    told = [f"×{gain:.1f} at {100 * share:.0f} %" for share, gain in answer.speedups]
    ways: list[Line] = [[(f" {', '.join(told[:n])}", "muted")] for n in range(len(told), 0, -1)]
    return first_that_fits(ways, width)


def _refusal(text: str, width: int, height: int) -> list[str]:
    """Why there is none. Where that is too long, the way out at its end is kept and the reason is cut."""
    whole = wrap(text, width, height)
    reason, found, way_out = text.rpartition(": use ")
    if not found or len(wrap(text, width, height + 1)) <= height:
        return whole
    last = wrap(f"use {way_out}", width, height - 1)
    return [*wrap(reason, width, height - len(last)), *last]


def _verdict(made: Forecast, width: int) -> Line:
    word, role = ("near limit" if made.near_limit else "fits"), ("warn" if made.near_limit else "good")
    if not made.fits:
        word, role = "too much", "bad"
    share = percent(100 * made.peak_used / made.limit, 0)
    need: Line = [(f" {mib(made.peak_used)}", "value")]
    units = (f" MiB/GPU {share} ", " MiB/GPU ", " MiB ") if made.gpus > 1 else (f" MiB {share} ", " MiB ")
    return first_that_fits([[*need, (unit, "muted"), (word, role)] for unit in units], width)


def _several(made: Forecast, width: int) -> Line:
    """`8 × fsdp: 6.9 × faster, 12 % waiting`; where there is no room for `slower`, the waiting goes."""
    gain = made.gain or ""
    short = gain.removesuffix(" faster")
    late = percent(100 * made.wait_share) if made.wait_share is not None else ""
    named, close = f" {made.gpus} × {made.parallel}", f" {made.gpus}×{made.parallel}"
    ways: list[Line] = []
    for name, gained, waiting in ((named, gain, "waiting"), (named, short, "wait"), (close, short, "wait")):
        told = [gained] * bool(gained) + [f"{late} {waiting}"] * bool(late)
        ways.append([(name, "value"), (f": {', '.join(told)}" if told else "", "muted")])
    alone: list[Line] = [[(name, "value"), (f" {gain}" if gain else "", "muted")] for name in (named, close)]
    return first_that_fits([*ways, *alone], width)


def _bar(made: Forecast, width: int) -> Line:
    parts = [
        Part(made.breakdown[name], _STYLES.index(name), FILLS.get(name, "█"))
        for name in BREAKDOWN
        if made.breakdown.get(name)
    ]
    marker = Marker(made.limit, len(_STYLES), "│")
    row = stacked_bar(parts, max(made.limit, made.peak_used), width, (marker,))
    return [(text, _role_of(style)) for text, style in row]


_STYLES = ("", *ROLES)


def _role_of(style: int) -> str:
    if style == 0:
        return "text"
    return "limit" if style == len(_STYLES) else ROLES[_STYLES[style]]


def _more(made: Forecast, width: int) -> list[Line]:
    """What dies, the speed, which is the card's and not that of a CPU in its place, and how sure the memory is."""
    lines: list[Line] = []
    if not made.fits:
        lines.append([(f" out of memory: {made.failing_phase}", "bad")])
    if made.gpus > 1:
        lines.append(_several(made, width))
    speed: Line = [(" card ", "muted"), (forecast_rate(made.samples_per_s), "speed"), (" samples/s", "muted")]
    lines.append(first_that_fits([[*speed, (", rough", "muted")], speed], width))
    if between := _range(made, width):
        lines.append(between)
    fullest = fullest_of(made.peak_used_by_rank)
    return lines if fullest is None else [*lines, [(f" fullest: rank {fullest}", "muted")]]


def _range(made: Forecast, width: int) -> Line:
    """How sure the memory is, where the context was not measured."""
    if made.used_range is None:
        return []
    least, most = (mib(size) for size in made.used_range)
    between: Line = [(f" {least}–{most}", "value"), (" MiB", "muted")]
    return first_that_fits([[*between, (", by context", "muted")], between], width)
