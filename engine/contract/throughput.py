"""Samples/s that can be trusted: warm-up left out, median and spread of what remains. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.distribution import Distribution

ENOUGH_UPDATES = 3
"""Fewer updates than this after warm-up say nothing steady."""


def warmup_updates(planned_updates: int) -> int:
    """How many first updates pay for allocation, caches and clocks: a tenth of the run, 1 to 5."""
    return min(5, max(1, planned_updates // 10))


@dataclass(frozen=True, slots=True)
class Steady:
    """Median samples/s, and half the distance between the 16th and the 84th percentile (±1 σ were it normal)."""

    samples_per_s: float
    spread: float


def steady(rates: Distribution) -> Steady | None:
    """The steady rate of these samples/s, of updates after warm-up; None while there are too few."""
    return None if len(rates) < ENOUGH_UPDATES else Steady(rates.percentile(50), rates.spread())
