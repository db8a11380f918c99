"""Plays a recorded run through the caching allocator: what it reserves, where it peaks, where it dies."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.allocator.allocator import CachingAllocator
from engine.allocator.report import AllocatorOutOfMemory
from engine.contract.forecast_types import TimelinePoint
from engine.contract.records import Phase
from engine.forecast.recording import LOAD, Script, Segment

MAX_UPDATES = 8
"""The reserved memory of a loop of equal updates is flat after three or four; this many end the search."""
POINTS = 200
"""Points of a timeline."""


@dataclass(slots=True)
class Replay:
    """What came of it; sizes in bytes. `by_category` is what lived when the allocated memory was highest."""

    peak_reserved: int = 0
    peak_allocated: int = 0
    loaded_reserved: int = 0
    """Reserved once the model is on the GPU."""
    by_category: dict[str, int] = field(default_factory=dict)
    failed_phase: Phase | None = None
    failed_request: int | None = None
    """Bytes that could not be had."""


class Player:
    """Plays the parts of a `Script` on an allocator."""

    def __init__(self, script: Script, allocator: CachingAllocator) -> None:
        self._allocator = allocator
        self._script = script
        self._live: list[list[tuple[int, int]]] = [[] for _ in range(script.n_keys)]
        self._held = dict.fromkeys(script.categories, 0)
        self._phase = Phase.LOAD
        self._points: list[TimelinePoint] | None = None
        self._peak = 0
        self._result = Replay()

    def run(self, first: list[str], later: list[str], updates: int) -> Replay:
        """The first update, then later ones until the reserved memory stays as it is."""
        result, reserved = self._result, list[int]()
        try:
            while len(reserved) < min(updates, MAX_UPDATES):
                self._play(later if reserved else first)
                reserved.append(self._allocator.reserved)
                if len(reserved) > 2 and reserved[-1] == reserved[-2]:
                    break
        except AllocatorOutOfMemory as error:
            result.failed_phase = self._phase
            result.failed_request = error.requested
        result.peak_allocated = self._allocator.peak_allocated
        result.peak_reserved = self._allocator.peak_reserved
        return result

    def record_update(self, parts: list[str]) -> tuple[TimelinePoint, ...]:
        """What one more update holds over its course, thinned to at most `POINTS` moments with their peaks kept."""
        self._points = []
        self._play(parts)
        points, self._points = self._points, None
        width = -(-len(points) // POINTS)
        return tuple(
            max(points[start : start + width], key=lambda point: point.allocated)
            for start in range(0, len(points), max(width, 1))
        )

    def _play(self, parts: list[str]) -> None:
        for part in parts:
            for segment in self._script.parts.get(part, ()):
                self._phase = segment.phase
                self._play_segment(segment)
            if part == LOAD:
                self._result.loaded_reserved = self._allocator.reserved

    def _play_segment(self, segment: Segment) -> None:
        allocator, live, held = self._allocator, self._live, self._held
        keys, sizes, categories = self._script.keys, self._script.sizes, self._script.categories
        for event in self._script.events[segment.start : segment.end]:
            if event >= 0:
                before = allocator.allocated
                address = allocator.alloc(sizes[event])
                taken = allocator.allocated - before
                live[keys[event]].append((address, taken))
                held[categories[event]] += taken
                if allocator.allocated > self._peak:
                    self._peak = allocator.allocated
                    self._result.by_category = dict(held)
            else:
                instances = live[keys[~event]]
                if not instances:  # a third micro-step finds the loss of the first gone: the second added it up
                    continue
                address, taken = instances.pop(0)
                allocator.free(address)
                held[categories[~event]] -= taken
            if self._points is not None:
                point = TimelinePoint(
                    phase=segment.phase.value,
                    allocated=allocator.allocated,
                    reserved=allocator.reserved,
                    by_category=dict(held),
                )
                self._points.append(point)
