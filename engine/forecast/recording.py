"""Recorded allocations of a training run's parts, at any batch size, and the order in which a run plays them.

A part is what one micro-step or one optimizer step does. Micro-steps after the first of a window differ (gradients
are there already), and so does everything after the first update (the optimizer's state is there already).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.contract.records import Phase
from engine.tracing.scratch import Rule, at_batch

LOAD, FIRST, NEXT, STEP, AGAIN, STEP_AGAIN, END = "load", "first", "next", "step", "again", "step again", "end"
"""Parts: loading; a window's first micro-step and its later ones; the first optimizer step; both in later updates."""

REPEATS = 3
"""Micro-steps after the first that are played of a window: from there on each repeats the one before."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Events `start` to `end` of a recording belong to `phase` of `part`."""

    part: str
    phase: Phase
    start: int
    end: int


@dataclass(slots=True)
class Recording:
    """A sink that writes down what happens.

    `events`: a slot number for a birth, its complement (`~slot`) for its death. `sizes` in bytes and `categories` are
    by slot.
    """

    events: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    marks: list[tuple[str, Phase, int]] = field(default_factory=list)
    rules: dict[int, Rule] = field(default_factory=dict)
    """By slot, where a size is not in proportion to the batch; such a size may be 0."""

    def allocate(self, size: int, category: str) -> int:
        slot = len(self.sizes)
        self.sizes.append(size)
        self.categories.append(category)
        self.events.append(slot)
        return slot

    def allocate_by(self, rule: Rule, category: str) -> int:
        slot = self.allocate(rule.n_bytes, category)
        self.rules[slot] = rule
        return slot

    def free(self, handle: int) -> None:
        self.events.append(~handle)

    def recategorize(self, handle: int, category: str) -> None:
        self.categories[handle] = category

    def mark(self, part: str, phase: Phase) -> None:
        """What follows belongs to `phase` of `part`."""
        self.marks.append((part, phase, len(self.events)))

    def segments(self) -> Iterator[Segment]:
        """The parts' phases, in order."""
        ends = [start for _, _, start in self.marks[1:]] + [len(self.events)]
        for (part, phase, start), end in zip(self.marks, ends, strict=True):
            yield Segment(part, phase, start, end)


class NotAffineError(Exception):
    """Two recordings at different batch sizes differ in more than sizes: each batch size needs its own."""


class Script:
    """A recording made ready to be played in any order of its parts.

    A death names the slot by where it was born: the phase of the kind of micro-step and the ordinal in it. So a part
    that is played again frees what its own previous turn left behind (the batch and the loss before this one). What
    never dies (weights, optimizer state, workspaces) is born once only and does not count among the ordinals.
    """

    def __init__(self, recording: Recording) -> None:
        self.events = recording.events
        self.sizes = recording.sizes
        self.categories = recording.categories
        self.parts: dict[str, list[Segment]] = {}
        for segment in recording.segments():
            self.parts.setdefault(segment.part, []).append(segment)
        self.keys, self.n_keys = self._keys(recording)

    @staticmethod
    def _keys(recording: Recording) -> tuple[list[int], int]:
        keys, known = [0] * len(recording.sizes), dict[tuple[str, int], int]()
        mortal = {~event for event in recording.events if event < 0}
        ordinals: dict[tuple[str, Phase], int] = {}
        for segment in recording.segments():
            home, turn = _home(segment), (segment.part, segment.phase)
            for event in recording.events[segment.start : segment.end]:
                if event in mortal:
                    ordinal = ordinals[turn] = ordinals.get(turn, -1) + 1
                    keys[event] = known.setdefault((home, ordinal), len(known))
        # key 0 is left to the immortals
        return [key + 1 if slot in mortal else 0 for slot, key in enumerate(keys)], len(known) + 1


def _home(segment: Segment) -> str:
    if segment.phase in (Phase.DATA, Phase.FORWARD):
        return str(segment.phase.value)  # the same tensors in every micro-step
    part = {AGAIN: FIRST, STEP_AGAIN: STEP}.get(segment.part, segment.part)
    return f"{part} {segment.phase.value}"


class AffineSizes:
    """The sizes of one sequence of events at any batch size, from recordings at two batch sizes (one apart).

    Raises `NotAffineError` when the two are not the same sequence.
    """

    def __init__(self, at: int, first: Recording, second: Recording) -> None:
        if first.events != second.events or first.marks != second.marks or first.rules.keys() != second.rules.keys():
            raise NotAffineError
        self._at, self._recording = at, first
        self._rules = [(slot, rule, second.rules[slot]) for slot, rule in first.rules.items()]
        self._slopes = [b - a for a, b in zip(first.sizes, second.sizes, strict=True)]
        self._fixed = [a - at * slope for a, slope in zip(first.sizes, self._slopes, strict=True)]
        for slot in first.rules:
            self._slopes[slot] = self._fixed[slot] = 0
        if any(slope < 0 for slope in self._slopes) or any(fixed < 0 for fixed in self._fixed):
            raise NotAffineError

    def at(self, batch_size: int) -> Recording:
        """The recording at another batch size (2 or more)."""
        sizes = [a + batch_size * b for a, b in zip(self._fixed, self._slopes, strict=True)]
        for slot, rule, other in self._rules:
            sizes[slot] = at_batch(batch_size, self._at, rule, other).n_bytes
        first = self._recording
        return Recording(first.events, sizes, first.categories, first.marks)


def schedule(micro_steps: int, accumulation: int, updates: int) -> tuple[list[str], list[str]]:
    """The parts of the first update, loading included, and those of a later one (empty when there is none).

    `micro_steps` are those of an epoch: a window is never longer.
    """
    following = min(accumulation, micro_steps, REPEATS + 1) - 1
    first = [LOAD, FIRST, *[NEXT] * following, STEP]
    return first, [AGAIN, *[NEXT] * following, STEP_AGAIN] if updates > 1 else []
