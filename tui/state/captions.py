"""Captions for those who watch a presenter: what just changed, in one plain sentence. Pure: no Textual, no clock."""

from __future__ import annotations

from engine.contract.figures import CARD_SPEED, SPEED, heading_of, speed_of
from engine.contract.forecast_types import Forecast
from engine.contract.marks import why_no_verdict
from engine.contract.numbers import clock, n_of, number, rate, signed_mib, signed_percent
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_entries import UPDATE_SPEED
from engine.gpus.units import to_mib
from tui.drawing.text import clean
from tui.state.knobs import describe, turned
from tui.state.run_view import RunView
from tui.state.state import State

_TURNS = 3
"""Knobs that a caption names when several changed at once."""


class Captions:
    """Follows the state, and says the newest of its changes that matters."""

    def __init__(self, state: State, *, run_is_told: bool = True) -> None:
        """`run_is_told` False: the run under way has its caption still to come."""
        self._config = state.editor.config
        self._run = _seen(state.run) if run_is_told else None
        self._known = state.forecast
        """The last forecast of a next run: what a turn of a knob is compared with."""
        self._turned_from = self._known.config if self._known is not None else self._config

    def look(self, state: State) -> str | None:
        """The caption of what changed since the last look; None where nothing did. A run's end wins over a knob."""
        knob = self._knob(state)
        return self._run_changed(state) or knob

    def _knob(self, state: State) -> str | None:
        config, answer = state.editor.config, state.forecast
        current = answer if answer is not None and answer.config == config else None
        differs = config != self._config
        before = self._known
        if not differs and (current is None or current is before):
            return None
        if differs and before is None:
            self._turned_from = self._config
        self._config = config
        turns = turned(self._turned_from, config, _TURNS) or None
        if current is None:
            return turns
        self._known, self._turned_from = current, config
        now, old = current.forecast, before.forecast if before is not None else None
        if now is None:
            return turns
        told = _forecast(old, now)
        return f"{turns}: {told}" if turns and told else turns or (told if _flipped(old, now) else None)

    def _run_changed(self, state: State) -> str | None:
        before, self._run = self._run, _seen(state.run)
        run = state.run
        if run is None or before == self._run:
            return None
        if run.under_way:
            note = state.table.notes.get(run.run_id) if state.playback else None
            return note or f"run {run.run_id} starts: {describe(run.config, run.run_id)}"
        return _end(run.as_record(), state.record_of(state.baselines.get(run.config.job)))


def _seen(run: RunView | None) -> tuple[int, Outcome] | None:
    return None if run is None else (run.run_id, run.outcome)


def _forecast(before: Forecast | None, now: Forecast) -> str:
    """`forecast 7,099 → 12,900 MiB, out of memory`."""
    need = number(to_mib(now.peak_used))
    if before is not None and number(to_mib(before.peak_used)) != need:
        need = f"{number(to_mib(before.peak_used))} → {need}"
    verdict = "fits" if now.fits else f"out of memory in {now.failing_phase}"
    if _flipped(before, now):
        verdict = "now it fits" if now.fits else verdict
    return (
        f"forecast {need} MiB{'/GPU' if now.gpus > 1 else ''}, {verdict}{', near the limit' if now.near_limit else ''}"
    )


def _flipped(before: Forecast | None, now: Forecast) -> bool:
    return before is not None and before.fits != now.fits


def _end(run: RunRecord, baseline: RunRecord | None) -> str:
    """`run 8 completed in 01:06: 7.68 samples/s, peak 7,069 MiB; −3,450 MiB, −29 % samples/s against run 7`."""
    word = run.outcome.words
    if run.outcome is Outcome.OUT_OF_MEMORY:
        where = f" in {run.failed_phase.noun}" if run.failed_phase is not None else ""
        total = f" of {number(to_mib(run.memory_total))} MiB" if run.memory_total is not None else ""
        rank = f" on rank {run.failed_rank}" if run.failed_rank is not None else ""
        return f"run {run.run_id} is out of memory{rank}{where}{total}; the next run works (h: what fits)"
    if run.outcome is not Outcome.COMPLETED:
        return f"run {run.run_id} {word}{f': {clean(run.message, 120)}' if run.message else ''}"
    if run.config.answers:
        return _answered(run, baseline)
    card = f" (card {CARD_SPEED.of(run)})" if run.forecast_samples_per_s is not None else ""
    entry = UPDATE_SPEED if run.config.is_script and SPEED.read(run) is None else SPEED
    speed = f"{entry.of(run)} {heading_of(entry, [run])}{card}"
    text = f"run {run.run_id} completed in {clock(run.train_runtime_s)}: {speed}, "
    text += f"peak {number(to_mib(run.peak_used), 0, 'MiB')}"
    if baseline is None or baseline.run_id == run.run_id or baseline.outcome is not Outcome.COMPLETED:
        return text
    speed = f"{signed_percent(speed_of(run), speed_of(baseline))} {heading_of(SPEED, [run, baseline])}"
    if run.forecast_samples_per_s and baseline.forecast_samples_per_s:
        speed += f", card {signed_percent(run.forecast_samples_per_s, baseline.forecast_samples_per_s)}"
    disturbed = why_no_verdict([run, baseline])
    doubt = f" ({disturbed})" if disturbed else ""
    if run.peak_used is None or baseline.peak_used is None:
        return f"{text}; {speed} against run {baseline.run_id}{doubt}"
    saved = signed_mib(run.peak_used - baseline.peak_used)
    return f"{text}; {saved}, {speed} against run {baseline.run_id}{doubt}"


def _answered(run: RunRecord, baseline: RunRecord | None) -> str:
    """`run 8 answered 8 requests in 00:07: 158 tokens/s, first after 48 ms; +64 % against run 7`."""
    figures = run.answer
    if figures is None:
        return f"run {run.run_id} completed in {clock(run.train_runtime_s)}"
    text = f"run {run.run_id} answered {n_of(figures.n_requests, 'request')} in {clock(run.train_runtime_s)}: "
    speed = figures.generation_tokens_per_s
    parts = [f"{rate(speed)} tokens/s"] if speed is not None else [f"{rate(run.steady_samples_per_s)} samples/s"]
    parts += [f"first after {rate(figures.ttft.p50 * 1000)} ms"] if figures.ttft is not None else []
    parts += [f"{rate(figures.tokens_per_forward)} tokens a forward"] if figures.proposed else []
    text += ", ".join(parts)
    before = baseline.answer if baseline is not None and baseline.run_id != run.run_id else None
    if baseline is None or before is None or baseline.outcome is not Outcome.COMPLETED:
        return text
    return f"{text}; {signed_percent(speed, before.generation_tokens_per_s)} tokens/s against run {baseline.run_id}"
