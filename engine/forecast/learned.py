"""What finished runs on a real GPU teach the forecast for the same card: memory outside the allocator, and speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import Forecast, ForecastError
from engine.contract.marks import marks_of
from engine.contract.records import DeviceInfo, Outcome, RunRecord

NEWEST = 8
"""Runs that are learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """From finished runs; None where they do not tell."""

    outside_bytes: int | None = None
    """Context, libraries and whatever else is always on the card: used - reserved at the peak."""
    speed: float | None = None
    """Measured samples/s by forecast ones, the median."""
    n_runs: int = 0
    """Runs that told of the memory."""
    n_speeds: int = 0
    """Runs that told of the speed."""
    on_this_card: bool = False
    """Whether those ran on the very card, not only on one of its name."""


def learn(records: Iterable[RunRecord], card: DeviceInfo, forecast: Callable[[RunRecord], Forecast]) -> Learned:
    """Learn from the newest completed runs on real cards called as `card`, under the same driver, CUDA and PyTorch.

    A run that was disturbed teaches nothing: a neighbour's memory is none of a context, and its speed not the card's.
    Where no run is known to have been alone (in containers, processes are not seen), all count of which it is unknown.
    What a context takes is the same on all cards of a name. Speed is not (cooling, power
    limits): it is the card's own as soon as one run on it tells. A virtual card's speed is the CPU's.
    """
    runs = [
        record
        for record in records
        if record.outcome is Outcome.COMPLETED
        and record.device is not None
        and (record.device.kind, record.device.name) == ("cuda", card.name)
        and record.device.software == card.software
        and not marks_of(record)
    ]
    runs = [record for record in runs if record.conditions and record.conditions.neighbours is not None] or runs
    outside = _outside(runs[-NEWEST:])
    here = [record for record in runs if record.device is not None and record.device.uuid == card.uuid]
    ratios = _ratios(here[-NEWEST:], forecast)
    on_this_card = bool(ratios)
    ratios = ratios or _ratios(runs[-NEWEST:], forecast)
    return Learned(
        outside_bytes=int(median(outside)) if outside else None,
        speed=median(ratios) if ratios else None,
        n_runs=len(outside),
        n_speeds=len(ratios),
        on_this_card=on_this_card,
    )


def _outside(runs: Iterable[RunRecord]) -> list[int]:
    return [r.peak_used - r.peak_reserved for r in runs if r.peak_used is not None and r.peak_reserved is not None]


def _ratios(runs: Sequence[RunRecord], forecast: Callable[[RunRecord], Forecast]) -> list[float]:
    ratios = []
    for record in runs:
        measured = _measured(record)
        try:
            expected = _expected(forecast(record)) if measured else None
        except (ConfigError, ForecastError):
            expected = None
        if measured and expected:
            ratios.append(measured / expected)
    return ratios


def _measured(record: RunRecord) -> float | None:
    """Samples/s, or tokens/s of a run that writes."""
    if record.answer is not None and record.config.task != "classification":
        return None if record.config.speculate != "off" else record.answer.generation_tokens_per_s
    return record.steady_samples_per_s or record.samples_per_s


def _expected(made: Forecast) -> float | None:
    if made.answer is not None and made.answer.tpot_s is not None:
        return made.answer.generation_tokens_per_s
    return made.samples_per_s


def times(made: Forecast, speed: float) -> Forecast:
    """The forecast of a card that is so many times as fast."""

    def more(value: float | None) -> float | None:
        return None if value is None else value * speed

    def less(value: float | None) -> float | None:
        return None if value is None else value / speed

    answer = made.answer
    if answer is not None:
        answer = replace(
            answer,
            ttft_s=less(answer.ttft_s),
            tpot_s=less(answer.tpot_s),
            prompt_tokens_per_s=more(answer.prompt_tokens_per_s),
            generation_tokens_per_s=more(answer.generation_tokens_per_s),
        )
    return replace(made, samples_per_s=more(made.samples_per_s), answer=answer)


_GUESSED_ALIKE = ("model", "draft_model", "speculate", "speculate_tokens", "prompts", "temperature", "top_k", "top_p")
"""Knobs that decide how many guesses are right."""


def guesses_of(config: RunConfig) -> tuple[object, ...]:
    """All that decides how many of a run's guesses are right."""
    return tuple(getattr(config, name) for name in _GUESSED_ALIKE)


def acceptance(records: Iterable[RunRecord], guesses: tuple[object, ...]) -> float | None:
    """The share of such guesses that was accepted in the newest run that made them, on whatever device."""
    found = None
    for record in records:
        if record.answer is not None and record.answer.acceptance is not None and guesses_of(record.config) == guesses:
            found = record.answer.acceptance
    return found
