"""Batches of answers played through the caching allocator: what that reserves, where it peaks, where it dies.

A cache that grows is made anew in every step, each time larger, so what is reserved depends on all of its sizes. Steps
are played one by one; what is small and does not grow is played in some of them only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.allocator.allocator import CachingAllocator
from engine.allocator.options import SMALL_SIZE
from engine.allocator.report import AllocatorOutOfMemory
from engine.contract.forecast_types import TRACED, TimelinePoint
from engine.contract.records import Phase
from engine.forecast.answering.template import BEFORE, EARLIER, Part, Template, Whole
from engine.forecast.replay import Replay
from engine.forecast.timeline import Moment, point, thinned

_Places = dict[int, tuple[int, int, int]]
"""What is alive, by its number in its part: address, bytes taken, category."""
_INDEX = {category: index for index, category in enumerate(TRACED)}

POINTS = 100
"""Moments of a timeline that are prefill's, and as many that are decode's."""
WHOLE_STEPS = 3
"""First steps that are played whole, and as many more on the way to the last one, which is too."""
MOST_EVENTS = 40_000
"""Births and deaths that decoding is followed for; of more steps only some are played, as far apart as need be."""


@dataclass(slots=True)
class Answered(Replay):
    """What came of it."""

    failed_token: int | None = None
    """Of the answer, counted from 1, that was to come when it died."""
    timeline: tuple[TimelinePoint, ...] = ()
    """Of the last batch."""


class Course:
    """A process that loads a model and answers batches, on an allocator of its own.

    `is_told`: whether more is asked than how much it reserves and whether it dies.
    """

    def __init__(
        self, allocator: CachingAllocator, plan: Template, *, most_events: int = MOST_EVENTS, is_told: bool = True
    ) -> None:
        self._allocator, self._plan, self._most_events, self._is_told = allocator, plan, most_events, is_told
        self._held = [0] * len(TRACED)
        self._phase = Phase.LOAD
        self._token = 1
        self._peak = 0
        self._highest: Moment = Phase.LOAD, 0, 0, ()
        """Of this step."""
        self._at_peak: tuple[int, ...] = ()
        self._points: list[Moment] = []
        self._lasting: dict[bytes, Part] = {}
        self._categories: dict[int, list[int]] = {}
        self._result = Answered()

    def answer(self, *tokens: int) -> Answered:
        """Load, then answer batches one after the other, each with so many new tokens, as far as memory goes."""
        result, allocator, plan = self._result, self._allocator, self._plan
        try:
            self._play(plan.load, plan.load.sizes, ({}, {}, {}, {}, {}))
            result.loaded_reserved = allocator.reserved
            for each in tokens:
                self._batch(each)
        except AllocatorOutOfMemory as error:
            result.die(self._phase, error)
            result.failed_token = self._token
            self._points.append(self._now())
        result.by_category = dict(zip(TRACED, self._at_peak, strict=True)) if self._at_peak else {}
        result.peak_allocated, result.peak_reserved = allocator.peak_allocated, allocator.peak_reserved
        if self._is_told:
            result.timeline = tuple(map(point, _shown(self._points)))
        return result

    def _batch(self, tokens: int) -> None:
        plan = self._plan
        self._points, self._token = [], 1
        first: _Places = {}
        self._play(plan.prefill, plan.prefill.sizes, (first, {}, {}, {}, {}), tells=True)
        own: _Places = {}
        before: _Places = {}
        for step, is_whole in _steps(plan, tokens - 1, self._most_events):
            self._token = step + 1
            sizes = plan.sizes(step)
            if step <= len(plan.firsts):
                part = plan.firsts[step - 1]
            else:
                part = plan.again if is_whole else self._lasting_of(sizes)
            own, before, earlier = dict(own), own, before
            self._highest = Phase.DECODE, 0, 0, ()
            self._play(part, sizes.tolist(), (own, before, earlier, first, {}))
            self._points.append(self._highest)
        self._play(plan.left, plan.left.sizes, ({}, own, before, first, {}))
        left = {place[0]: place for places in (own, before, first) for place in places.values()}
        for address, taken, category in left.values():  # what a later step would have given back
            self._allocator.free(address)
            self._held[category] -= taken

    def _play(self, part: Part, sizes: Sequence[int], homes: Sequence[_Places], *, tells: bool = False) -> None:
        """`homes`: what is alive, by where it was born; the first, the part's own, is filled. What a step that was
        played in part lacks is there as the one before left it.

        `tells`: every moment is kept.
        """
        if not self._is_told:
            self._pass(part, sizes, homes)
            return
        allocator, held, own = self._allocator, self._held, homes[0]
        alloc, free = allocator.alloc, allocator.free
        categories = self._categories_of(part)
        highest, rises = self._highest[1], False
        now = allocator.allocated
        begin = 0
        phases = part.phases or [(0, self._phase)]
        ends = [at for at, _ in phases[1:]] + [len(part.events)]
        try:
            for (_, self._phase), end in zip(phases, ends, strict=True):
                for event, home in zip(part.events[begin:end], part.homes[begin:end], strict=True):
                    if event >= 0:
                        address = alloc(sizes[event])
                        before, now = now, allocator.allocated
                        taken = now - before
                        category = categories[event]
                        own[event] = address, taken, category
                        held[category] += taken
                        if now > highest:
                            highest, rises = now, True
                    elif (place := homes[home].pop(~event, None)) is not None:
                        if rises:  # only where it stops does it matter what is there
                            rises = self._note_highest()
                        if home in (BEFORE, EARLIER):
                            _forget(~event, place, homes[:home])
                        address, taken, category = place
                        free(address)
                        now -= taken
                        held[category] -= taken
                    if tells:
                        self._points.append(self._now())
                begin = end
                rises = rises and self._note_highest()
        finally:
            if rises:
                self._note_highest()

    def _pass(self, part: Part, sizes: Sequence[int], homes: Sequence[_Places]) -> None:
        """As `_play`, where nobody asks what is there when."""
        own, alloc, free = homes[0], self._allocator.alloc, self._allocator.free
        for event, home in zip(part.events, part.homes, strict=True):
            if event >= 0:
                own[event] = alloc(sizes[event]), 0, 0
            elif (place := homes[home].pop(~event, None)) is not None:
                if home in (BEFORE, EARLIER):
                    _forget(~event, place, homes[:home])
                free(place[0])

    def _note_highest(self) -> bool:
        """Keep this moment, the highest one so far; False, as it rises no more."""
        self._highest = self._now()
        if self._highest[1] > self._peak:
            self._peak, self._at_peak = self._highest[1], self._highest[3]
        return False

    def _now(self) -> Moment:
        return self._phase, self._allocator.allocated, self._allocator.reserved, tuple(self._held)

    def _categories_of(self, part: Part) -> list[int]:
        """By birth; the same list for a later step and for what is played of it."""
        key = id(part.categories)
        if key not in self._categories:
            self._categories[key] = [_INDEX[category] for category in part.categories]
        return self._categories[key]

    def _lasting_of(self, sizes: Whole) -> Part:
        """Of a later step, what is large or grows."""
        kept = _lasts(self._plan, sizes)
        key = kept.tobytes()
        if key not in self._lasting:
            self._lasting[key] = _only(self._plan.again, kept)
        return self._lasting[key]


def _forget(number: int, place: tuple[int, int, int], homes: Sequence[_Places]) -> None:
    """What dies is also where later parts found it, which were played in part."""
    for newer in homes:
        if newer.get(number) == place:
            del newer[number]


def _steps(plan: Template, steps: int, most_events: int) -> Iterator[tuple[int, bool]]:
    """The decode steps that are played, and whether whole."""
    n_whole = WHOLE_STEPS if most_events >= MOST_EVENTS else 0
    if steps <= 2 * n_whole + 1:
        yield from ((step, True) for step in range(1, steps + 1))
        return
    whole = {*range(1, len(plan.firsts) + 1), steps}
    whole |= {*range(1, n_whole + 1), *np.linspace(n_whole, steps, n_whole + 1, dtype=int).tolist()} - {0}
    each = 2 * int(_lasts(plan, plan.sizes(steps)).sum()) if plan.once.any() or plan.twice.any() else 0
    played = set(whole)
    if each:
        n = max(1, (most_events - len(whole) * len(plan.again.events)) // each)
        played |= set(np.linspace(1, steps, min(n, steps), dtype=int).tolist())
    yield from ((step, step in whole) for step in sorted(played))


def _lasts(plan: Template, sizes: Whole) -> npt.NDArray[np.bool_]:
    """By birth of a later step, whether it is large or grows."""
    kept: npt.NDArray[np.bool_] = (sizes > SMALL_SIZE) | (plan.once != 0)
    return kept


def _only(part: Part, kept: npt.NDArray[np.bool_]) -> Part:
    """A part with these births alone, and their deaths."""
    pairs = zip(part.events, part.homes, strict=True)
    chosen = [(event, home) for event, home in pairs if kept[event if event >= 0 else ~event]]
    return Part(
        events=[event for event, _ in chosen],
        homes=[home for _, home in chosen],
        phases=[(0, Phase.DECODE)],
        categories=part.categories,
    )


def _shown(points: Sequence[Moment]) -> Sequence[Moment]:
    """At most `POINTS` moments of prefill, and as many of decode; their peaks are kept, and the last one."""
    if not points:
        return ()
    border = next((at for at, moment in enumerate(points) if moment[0] is Phase.DECODE), len(points))
    return [*thinned(points[:border], POINTS), *thinned(points[border:-1], POINTS), points[-1]]
