"""Plays a recorded run through the caching allocator: what it reserves, where it peaks, where it dies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from engine.allocator.allocator import CachingAllocator
from engine.allocator.options import SMALL_SIZE
from engine.allocator.report import AllocatorOutOfMemory
from engine.contract.forecast_types import TRACED, TimelinePoint
from engine.contract.records import Phase
from engine.forecast.recording import (
    AGAIN,
    FIRST,
    LAST,
    LAST_AGAIN,
    LEAVE,
    LOAD,
    NEXT,
    REBUILD,
    SCORE,
    SCORE_NEXT,
    SCORED,
    SCORING,
    STEP,
    STEP_AGAIN,
    WRAP,
    Script,
    Segment,
)
from engine.forecast.sequence import Act, Kind, Runs
from engine.forecast.timeline import Moment, point, thinned
from engine.workloads.data_shape import BatchShape

POINTS = 200
"""Points of a timeline."""
_MOST_UPDATES, _MOST_BATCHES = 12, 6
"""Equal updates, and equal batches of one, that are played one after the other in search of a state that comes again.
No segment is taken any more long before that."""
_STEADY = 3
"""Updates whose average is told."""
MOST_EVENTS = 300_000
"""Births and deaths that a run is followed for, about a second's: 150 updates of bert-base. From there on only batches
larger than all before are played."""


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
    failed_segment: int | None = None
    """What the device was asked for, to have them."""
    failed_free: int | None = None
    """Bytes that were left on the device."""
    failed_play: int | None = None
    """The number of the act that it died in, as they were played, from 1."""
    passed_over: int = 0
    """Updates and evaluations that were not played because there were too many."""

    def die(self, phase: Phase, error: AllocatorOutOfMemory) -> None:
        """There it ended, by this error."""
        self.failed_phase = phase
        self.failed_request, self.failed_segment, self.failed_free = error.requested, error.segment, error.free


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a rank of several allocates otherwise than one GPU alone would."""

    buckets: Script | None = None
    """Has `WRAP` and `REBUILD`."""
    steps: Script | None = None
    """Clipping and the optimizer's step, where the rank has a part of its states only."""


ALONE = Beside()


class Player:
    """Plays a run's acts on an allocator; `step` and `scoring` give what training on and scoring a batch allocates.

    `step` is told whether the batch is all that its window has.
    `watched` is the number of an act as they are played, from 1: what it holds over its course is kept.
    """

    def __init__(
        self,
        allocator: CachingAllocator,
        step: Callable[[BatchShape, bool], Script],
        scoring: Callable[[BatchShape], Script],
        *,
        watched: int | None = None,
        beside: Beside = ALONE,
    ) -> None:
        self._allocator = allocator
        self._step = step
        self._scoring = scoring
        self._beside = beside
        self._is_rebuilt = beside.buckets is None
        self._live: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
        """By key: address, bytes taken, and the turn in which they were."""
        self._turn = 0
        self._held = dict.fromkeys(TRACED, 0)
        self._phase = Phase.LOAD
        self._points: list[Moment] | None = None
        self._watched = watched
        self._n_plays = 0
        self._peak = 0
        self._has_updated = False
        self._small_only = False
        self._n_events = self._largest = 0
        self._result = Replay()

    def run(self, acts: Iterable[Act]) -> Replay:
        """Play the acts to their end or to where memory is short."""
        result, allocator = self._result, self._allocator
        try:
            for act in acts:
                if self._n_events > MOST_EVENTS and act.largest <= self._largest and act.kind is not Kind.LEAVE:
                    result.passed_over += act.times
                    continue
                self._largest = max(self._largest, act.largest)
                alike = allocator.has_separate_pools and len({batch for batch, _ in act.runs}) == 1
                self._repeat(act.times, partial(self._play, act), _MOST_UPDATES, by_pool=alike)
        except AllocatorOutOfMemory as error:
            result.die(self._phase, error)
            result.failed_play = self._n_plays
            self._note(self._phase)  # what was cached has been given back by now
        result.peak_allocated = allocator.peak_allocated
        result.peak_reserved = allocator.peak_reserved
        return result

    def _repeat(self, times: int, play: Callable[[], None], most: int, *, by_pool: bool = False) -> None:
        """Do what `play` does so many times. Where the state after one is that after an earlier one, what is between
        them would repeat itself: whole rounds of it are left out.

        `by_pool`: what is large leads to the same as a rule from the second time on, while what is small goes on
        changing places. Then only that is played: what is large would do the same again each time.
        """
        seen: dict[object, int] | None = {} if times > 2 else None
        large: object = None
        done = 0
        try:
            while done < times:
                play()
                done += 1
                if seen is None or done == times:
                    continue
                before = seen.setdefault(self._state(), done)
                if before < done:
                    done += (times - done) // (done - before) * (done - before)
                    seen = None
                elif len(seen) == most:
                    return
                if by_pool and not self._small_only:
                    last, large = large, self._large_state()
                    self._small_only = last == large
        finally:
            if by_pool:
                self._small_only = False

    def _state(self) -> object:
        """All that decides where the next allocations go: what is where. (What is free follows from that.)"""
        lives = ((key, *(instance[:2] for instance in instances)) for key, instances in self._live.items() if instances)
        return self._allocator.reserved, frozenset(lives)

    def _large_state(self) -> object:
        """The same of the large pool alone, and of the small one only how much is there."""
        lives = (
            (key, *((taken, address if taken > SMALL_SIZE else 0) for address, taken, _ in instances))
            for key, instances in self._live.items()
            if instances
        )
        return self._allocator.free_large_blocks, frozenset(lives)

    def record(self, act: Act) -> tuple[TimelinePoint, ...]:
        """What an act holds over its course when it follows on another like it.

        Thinned to at most `POINTS` moments with their peaks kept.
        """
        self._play(act)
        self._watched = self._n_plays + 1
        self._play(act)
        return self.course

    def retries(self, act: Act) -> float:
        """How often an act that follows on others like it finds the device full, and gives cached memory back."""
        before = self._allocator.alloc_retries
        with suppress(AllocatorOutOfMemory):  # it fitted so far
            for _ in range(_STEADY):
                self._play(act)
        return (self._allocator.alloc_retries - before) / _STEADY

    @property
    def course(self) -> tuple[TimelinePoint, ...]:
        """What the watched act held, in at most `POINTS` moments and the last one; its peaks are kept."""
        if not self._points:
            return ()
        *moments, last = self._points
        return tuple(map(point, (*thinned(moments, POINTS), last)))

    def _play(self, act: Act) -> None:
        self._n_plays += 1
        if self._watched is not None:
            self._points = [] if self._n_plays == self._watched else None
        first, last = act.runs[0][0], act.runs[-1][0]
        if act.kind is Kind.EVALUATION:
            self._play_part(self._scoring(first), SCORING)
            self._play_runs(self._scoring, act.runs, SCORE, SCORE_NEXT)
            self._play_part(self._scoring(last), SCORED)
        elif act.kind is Kind.LEAVE:
            self._play_part(self._step(last, False), LEAVE)
        elif self._has_updated:
            self._play_window(act.runs, AGAIN, LAST_AGAIN, STEP_AGAIN)
        else:
            self._play_part(self._step(first, False), LOAD)
            self._result.loaded_reserved = self._allocator.reserved
            if self._beside.buckets is not None:
                self._play_part(self._beside.buckets, WRAP)
            self._play_window(act.runs, FIRST, LAST, STEP)
            self._has_updated = True

    def _play_window(self, runs: Runs, first: str, last: str, step: str) -> None:
        is_alone = sum(times for _, times in runs) == 1
        batch, times = runs[-1]
        ends = self._step(batch, is_alone)
        if last in ends.parts:
            runs = (*runs[:-1], (batch, times - 1)) if times > 1 else runs[:-1]
        self._play_runs(lambda batch: self._step(batch, is_alone), runs, first, NEXT)
        self._play_part(ends, last)
        self._play_part(ends, step)

    def _play_runs(self, script: Callable[[BatchShape], Script], runs: Runs, first: str, later: str) -> None:
        for number, (batch, times) in enumerate(runs):
            of_batch = script(batch)
            if number == 0:
                self._play_part(of_batch, first)
            self._repeat(times - (number == 0), partial(self._play_part, of_batch, later), _MOST_BATCHES)

    def _play_part(self, script: Script, part: str) -> None:
        self._turn += 1
        own = self._beside.steps if part in (STEP, STEP_AGAIN) else None
        for segment in script.parts.get(part, ()):
            if not self._is_rebuilt and part == AGAIN and segment.phase is Phase.FORWARD:
                self._is_rebuilt = True
                self._play_part(self._beside.buckets, REBUILD)  # type: ignore[arg-type]
            self._phase = segment.phase
            if own is None or segment.phase not in (Phase.CLIP, Phase.OPTIMIZER):
                self._play_segment(script, segment)
            else:
                for instead in own.parts[part]:
                    if instead.phase is segment.phase:
                        self._play_segment(own, instead)
                self._play_segment(script, segment, only_outliving=True)

    def _play_segment(self, script: Script, segment: Segment, *, only_outliving: bool = False) -> None:
        """`only_outliving`: only the deaths of what was born in another part, such as the gradients."""
        allocator, live, held = self._allocator, self._live, self._held
        self._n_events += segment.end - segment.start
        keys, sizes, categories, turn = script.keys, script.sizes, script.categories, self._turn
        streams = script.streams
        events = script.small_events(segment) if self._small_only else script.events[segment.start : segment.end]
        if only_outliving:
            events = [event for event in events if event < 0 and keys[~event] > 0]
        for event in events:
            if event >= 0:
                before = allocator.allocated
                address = allocator.alloc(sizes[event], streams.get(event, 0) if streams else 0)
                taken = allocator.allocated - before
                live[keys[event]].append((address, taken, turn))
                held[categories[event]] += taken
                if allocator.allocated > self._peak:
                    self._peak = allocator.allocated
                    self._result.by_category = dict(held)
            else:
                key = keys[~event]
                instances = live[key]
                # what an earlier part left may be gone by now, such as the batch before at the begin of an epoch
                if not instances or (key > 0 and instances[0][2] == turn):
                    continue
                address, taken, _ = instances.pop(0)
                allocator.free(address)
                held[categories[~event]] -= taken
            if self._points is not None:
                self._note(segment.phase)

    def _note(self, phase: Phase) -> None:
        """Keep this moment, where the act is watched."""
        if self._points is not None:
            held = tuple(self._held.values())
            self._points.append((phase, self._allocator.allocated, self._allocator.reserved, held))
