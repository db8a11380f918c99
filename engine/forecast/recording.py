"""Recorded allocations of a training run's parts.

A part is what one micro-step or one optimizer step does. Micro-steps after the first of a window differ (gradients
are there already), and so does everything after the first update (the optimizer's state is there already).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.allocator.options import SMALL_SIZE
from engine.contract.forecast_types import UNIFIED
from engine.contract.records import Phase
from engine.tracing.scratch import Rule

LOAD, FIRST, NEXT, STEP, AGAIN, STEP_AGAIN, LEAVE = "load", "first", "next", "step", "again", "step again", "leave"
"""Parts: loading; a window's first micro-step and its later ones; the first optimizer step; both in later updates;
the end of an epoch."""
LAST, LAST_AGAIN = "last", "last again"
"""Where it does something of its own, as when it adds up the gradients of all ranks: a window's last micro-step, in the
first update and in later ones. Recordings of windows with one micro-step have none: that is first and last."""
_LATER = {AGAIN: FIRST, LAST_AGAIN: LAST, STEP_AGAIN: STEP}
"""Parts of later updates by those of the first one that they are like."""
SCORING, SCORE, SCORE_NEXT, SCORED = "scoring", "score", "score next", "scored"
"""Parts of an evaluation: its begin, its first batch, its later ones, its end."""
WRAP, REBUILD = "wrap", "rebuild"
"""Parts of a run on several GPUs: the model is made ready for it once it is loaded; the second forward begins."""


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
    """By slot, where a size does not grow evenly with batch and length; such a size may be 0."""
    streams: dict[int, int] = field(default_factory=dict)
    """By slot, the stream that a storage is born in where that is not the computing one, 0."""
    depends_on_hiding: bool = False
    """Whether it would be another one if the batch hid nothing, or hid something."""
    unified: int = 0
    """Bytes in unified memory, which never dies: it is no event, as it is not in the allocator."""

    def allocate(self, size: int, category: str, stream: int = 0) -> int | None:
        if category == UNIFIED:
            self.unified += size
            return None
        slot = len(self.sizes)
        self.sizes.append(size)
        self.categories.append(category)
        self.events.append(slot)
        if stream:
            self.streams[slot] = stream
        return slot

    def allocate_by(self, rule: Rule, category: str) -> int | None:
        slot = self.allocate(rule.n_bytes, category)
        if slot is not None:
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


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of a recording's events: its parts, and by slot what a death is named by."""

    events: list[int]
    parts: dict[str, list[Segment]]
    keys: list[int]


class Names:
    """Numbers for what outlives the part that it is born in, by its place: the same in every recording of a model."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}
        self._layouts: dict[int, Layout] = {}

    def layout(self, recording: Recording) -> Layout:
        """What all recordings with the same list of events share."""
        known = self._layouts.get(id(recording.events))
        if known is None:
            parts: dict[str, list[Segment]] = {}
            for segment in recording.segments():
                parts.setdefault(segment.part, []).append(segment)
            known = Layout(recording.events, parts, _keys(recording, self))
            self._layouts[id(recording.events)] = known
        return known

    def of(self, home: str, ordinal: int) -> int:
        """1 or more; 0 is left to what never dies."""
        return self._numbers.setdefault((home, ordinal), len(self._numbers) + 1)


class Script:
    """A recording made ready to be played in any order of its parts, also among those of other recordings.

    A death names what dies by a key. What dies in the part that it was born in has the complement of its slot. What
    outlives it (the batch, the loss, the gradients) has a number above 0, named by the phase of the kind of micro-step
    and its ordinal among those that do: so a part that is played again, or that of another batch's size, frees what the
    turn before left behind. What never dies (weights, optimizer state, workspaces) is born once only, with the key 0.
    """

    def __init__(self, recording: Recording, names: Names) -> None:
        layout = names.layout(recording)
        self.events, self.parts, self.keys = layout.events, layout.parts, layout.keys
        self.sizes = recording.sizes
        self.categories = recording.categories
        self.streams = recording.streams
        self._small: dict[Segment, list[int]] = {}

    def small_events(self, segment: Segment) -> list[int]:
        """The events of `segment` that the allocator's small pool sees."""
        found = self._small.get(segment)
        if found is None:
            sizes = self.sizes
            found = [e for e in self.events[segment.start : segment.end] if sizes[e if e >= 0 else ~e] <= SMALL_SIZE]
            self._small[segment] = found
        return found


def _keys(recording: Recording, names: Names) -> list[int]:
    born: dict[int, Segment] = {}
    keys = [0] * len(recording.sizes)
    survivors: list[int] = []
    for segment in recording.segments():
        for event in recording.events[segment.start : segment.end]:
            if event >= 0:
                born[event] = segment
            elif born[~event].part == segment.part:
                keys[~event] = event
            else:
                survivors.append(~event)
    # what a later update leaves behind dies in the one after it, which is not recorded
    dead = {~event for event in recording.events if event < 0}
    survivors += [slot for slot, segment in born.items() if segment.part in _LATER and slot not in dead]
    ordinals: dict[tuple[str, Phase], int] = {}
    for slot in sorted(survivors):
        turn = born[slot].part, born[slot].phase
        ordinals[turn] = ordinals.get(turn, -1) + 1
        keys[slot] = names.of(_home(born[slot]), ordinals[turn])
    return keys


def _home(segment: Segment) -> str:
    if segment.part == SCORING:
        return segment.part
    if segment.phase in (Phase.DATA, Phase.FORWARD, Phase.EVALUATE):
        return str(segment.phase.value)  # the same tensors in every micro-step
    part = _LATER.get(segment.part, segment.part)
    return f"{part} {segment.phase.value}"
