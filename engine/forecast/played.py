"""A run's course played through the allocator, without a limit and within one."""

from __future__ import annotations

import os
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import partial

from engine.allocator.allocator import CachingAllocator
from engine.allocator.options import AllocatorOptionError, AllocatorOptions
from engine.contract.forecast_types import ForecastError, TimelinePoint
from engine.forecast.outside import Outside
from engine.forecast.replay import ALONE, Beside, Player, Replay
from engine.forecast.sequence import Act, Kind, Sequence
from engine.forecast.traces import Traces
from engine.tracing.stack import Stack


@dataclass(frozen=True, slots=True)
class Played:
    """A run without a limit, and one within it where that may fail."""

    free: Replay
    limited: Replay | None
    timeline: tuple[TimelinePoint, ...]
    is_unsure: bool
    """Whether the verdict would be the other one at an end of the range of what is outside the allocator."""
    retries: float = 0.0
    """How often in an update cached memory has to be given back, where it fits only so."""


class Course:
    """What a process does, its batches in their order; `beside` is what a rank of several does otherwise."""

    def __init__(self, traces: Traces, order: Sequence, stack: Stack, beside: Beside = ALONE) -> None:
        self._traces, self._acts, self._stack, self._beside = traces, order.acts, stack, beside
        self._options = allocator_options(stack)
        self._accumulates = accumulates(order)

    def free(self) -> Replay:
        """Without a limit."""
        return self._player(None).run(self._acts)

    def within(self, limit: int, outside: Outside) -> Played:
        """On a card with `limit` bytes, beside what is outside the allocator."""
        largest = max(_windows(self._acts), key=lambda act: act.largest)

        def fits(capacity: int) -> bool:
            return free.peak_reserved <= capacity or self._player(capacity).run(self._acts).failed_phase is None

        unlimited = self._player(None)
        free = unlimited.run(self._acts)
        capacity = limit - outside.total
        least, most = outside.range or (outside.total, outside.total)
        if free.peak_reserved <= capacity:
            return Played(free, None, unlimited.record(largest), is_unsure=not fits(limit - most))
        within = self._player(capacity)
        limited = within.run(self._acts)  # giving back what is cached may save it
        if limited.failed_phase is None:
            retries = within.retries(largest)
            return Played(free, limited, unlimited.record(largest), is_unsure=not fits(limit - most), retries=retries)
        again = self._player(capacity, limited.failed_play)
        again.run(self._acts)
        return Played(free, limited, again.course, is_unsure=least < outside.total and fits(limit - least))

    def _player(self, capacity: int | None, watched: int | None = None) -> Player:
        allocator = CachingAllocator(
            None if capacity is None else max(0, capacity), self._options, grows_down=self._stack.grows_down
        )
        step = partial(self._traces.step, accumulates=self._accumulates)
        return Player(allocator, step, self._traces.scoring, watched=watched, beside=self._beside)


def expect(traces: Traces, orders: SequenceOf[Sequence]) -> None:
    """Say which batches the ranks of a run will have, or its only process."""
    trained = {batch for order in orders for batch in order.trained}
    scored = {batch for order in orders for batch in order.scored}
    traces.expect(trained, scored, accumulates=accumulates(orders[0]))


def accumulates(order: Sequence) -> bool:
    """Whether a window has several micro-steps."""
    return max(sum(times for _, times in window.runs) for window in _windows(order.acts)) > 1


def _windows(acts: SequenceOf[Act]) -> list[Act]:
    return [act for act in acts if act.kind is Kind.WINDOW]


def allocator_options(stack: Stack) -> AllocatorOptions:
    """The allocator's settings of this environment; those of another day are the defaults."""
    if not stack.is_of_today:
        return AllocatorOptions()
    try:
        return AllocatorOptions.from_environment(os.environ)
    except AllocatorOptionError as error:
        raise ForecastError(f"The allocator's settings cannot be followed: {error}") from None
