"""Moments of what is played through an allocator, thinned to what a plot can show."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.forecast_types import TRACED, TimelinePoint
from engine.contract.records import Phase

Moment = tuple[Phase, int, int, tuple[int, ...]]
"""Allocated and reserved, and the allocated bytes by category in the order of `TRACED`."""


def thinned(moments: Sequence[Moment], most: int) -> list[Moment]:
    """At most so many of them, with their peaks kept."""
    width = max(1, -(-len(moments) // most))
    starts = range(0, len(moments), width)
    return [max(moments[start : start + width], key=lambda moment: moment[1]) for start in starts]


def point(moment: Moment) -> TimelinePoint:
    """As a forecast tells it."""
    phase, allocated, reserved, held = moment
    by_category = dict(zip(TRACED, held, strict=True))
    return TimelinePoint(phase=phase.value, allocated=allocated, reserved=reserved, by_category=by_category)
