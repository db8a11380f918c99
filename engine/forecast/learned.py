"""What finished runs on a real GPU teach the forecast for the same card: memory outside the allocator, and speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from engine.contract.config import ConfigError
from engine.contract.forecast_types import Forecast, ForecastError
from engine.contract.records import Outcome, RunRecord

NEWEST = 8
"""Runs that are learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """From finished runs of one card; None where they do not tell."""

    outside_bytes: int | None = None
    """Context, libraries and whatever else is on the card: used - reserved at the peak."""
    speed: float | None = None
    """Measured samples/s by forecast ones, the median."""
    n_runs: int = 0


def learn(records: Iterable[RunRecord], gpu_name: str, forecast: Callable[[RunRecord], Forecast]) -> Learned:
    """Learn from the newest completed runs on the real card `gpu_name`; a virtual one's speed is the CPU's."""
    runs = [
        record
        for record in records
        if record.outcome is Outcome.COMPLETED
        and record.device is not None
        and (record.device.kind, record.device.name) == ("cuda", gpu_name)
    ][-NEWEST:]
    outside = [r.peak_used - r.peak_reserved for r in runs if r.peak_used is not None and r.peak_reserved is not None]
    ratios = []
    for record in runs:
        measured = record.steady_samples_per_s or record.samples_per_s
        try:
            expected = forecast(record).samples_per_s if measured else None
        except (ConfigError, ForecastError):
            expected = None
        if measured and expected:
            ratios.append(measured / expected)
    return Learned(
        outside_bytes=int(median(outside)) if outside else None,
        speed=median(ratios) if ratios else None,
        n_runs=len(runs),
    )
