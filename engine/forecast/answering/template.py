"""What answering a batch allocates, of any number of tokens, from a recording of the first few.

Each decode step does what the one before it did, with sizes that have grown: a tensor that outlives its step (the keys
and values so far) dies in the next one, once what takes its place is there. So a step names what it frees by whether it
was born in this step or in the one before, and as the how manyeth there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from engine.allocator.options import MIN_BLOCK
from engine.contract.forecast_types import KV_CACHE, ForecastError
from engine.contract.records import Phase
from engine.forecast.recording import LOAD, Recording

Whole = npt.NDArray[np.int64]

OWN, BEFORE, EARLIER, FIRST, LOADED = range(5)
"""Where what dies was born: in this part, in the one before it, in the one before that, in prefill, or in loading."""


@dataclass(slots=True)
class Part:
    """A part's events: of a birth its number among those of its part, of a death `~` that number in its home."""

    events: list[int] = field(default_factory=list)
    homes: list[int] = field(default_factory=list)
    """By event: of a death, where that was born."""
    phases: list[tuple[int, Phase]] = field(default_factory=list)
    """Which phase begins at which event."""
    sizes: list[int] = field(default_factory=list)
    """By birth, bytes."""
    categories: list[str] = field(default_factory=list)

    def frees(self, home: int) -> Iterator[int]:
        """The numbers of what dies in it that was born there."""
        return (~event for event, of in zip(self.events, self.homes, strict=True) if event < 0 and of == home)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Loading, a prefill, the first decode steps, any step after those, and what is given back in the end."""

    load: Part
    prefill: Part
    firsts: tuple[Part, ...]
    again: Part
    left: Part
    first: Whole
    """By birth: bytes of `again`."""
    once: Whole
    """By birth: bytes that the step after `again` has more than that."""
    twice: Whole
    """By birth: how much more of that there is in each step after."""

    @property
    def least(self) -> int:
        """Bytes that prefill needs at the least: what lives at once, in blocks that fit."""
        sizes = (np.array([*self.prefill.sizes, *self.load.sizes]) + MIN_BLOCK - 1) // MIN_BLOCK * MIN_BLOCK
        n = len(self.prefill.sizes)
        loaded = int(sizes[n:].sum()) - sum(int(sizes[n + number]) for number in self.load.frees(OWN))
        events, homes = np.array(self.prefill.events), np.array(self.prefill.homes)
        numbers = np.where(events < 0, ~events, events) + np.where(homes == LOADED, n, 0)
        lives = np.cumsum(np.where(events < 0, -sizes[numbers], sizes[numbers]))
        return loaded + int(lives.max(initial=0))

    def kept(self, steps: int) -> int:
        """Bytes of keys and values once so many decode steps are done."""
        if not steps:
            return sum(size for size, of in _kinds(self.prefill) if of == KV_CACHE)
        freed = {n for part in self.firsts for n in part.frees(FIRST)}
        begun = sum(size for n, (size, of) in enumerate(_kinds(self.prefill)) if of == KV_CACHE and n not in freed)
        grown, own = self.sizes(steps), set(self.again.frees(OWN))
        names = enumerate(self.again.categories)
        return begun + sum(int(grown[n]) for n, of in names if of == KV_CACHE and n not in own)

    def sizes(self, step: int) -> Whole:
        """Bytes by birth of a decode step, counted from 1."""
        n = step - 1 - len(self.firsts)
        if n < 0:
            return np.array(self.firsts[step - 1].sizes, dtype=np.int64)
        return self.first + n * self.once + n * (n - 1) // 2 * self.twice


def _kinds(part: Part) -> Iterator[tuple[int, str]]:
    return zip(part.sizes, part.categories, strict=True)


def template(recording: Recording, order: Layout, groups: Mapping[int, int], *, width: int, alike: int) -> Template:
    """Of a batch whose prompts have `width` tokens; `order` is the recording's.

    `groups`: by slot, tokens of a group, where there is room for whole groups. The last `alike` steps tell how sizes
    grow: two that they do evenly, three how the growth itself does.
    Raises `ForecastError` where later steps cannot be told from those recorded.
    """
    parts = order.filled(recording)
    if len(parts) == 2:  # scored in one forward
        none = np.zeros(0, dtype=np.int64)
        return Template(
            load=parts[0], prefill=parts[1], firsts=(), again=Part(), left=Part(), first=none, once=none, twice=none
        )
    load, prefill, *firsts, again, left = parts
    known = [np.array(step.sizes, dtype=np.int64) for step in (*firsts, again)][-alike:]
    if any(len(sizes) != len(known[-1]) for sizes in known) or FIRST in again.homes:
        raise ForecastError("The steps of these answers are not alike, so their memory cannot be told: run it.")
    once = known[-1] - known[-2]
    twice = once - (known[-2] - known[-3]) if len(known) > 2 else np.zeros_like(once)
    once = once + twice
    for slot, tokens in groups.items():
        part, number = order.place(slot)
        if parts[part] is again:  # by a token's share, as most steps add no group and few add one
            n_groups = -(-(width + len(firsts) + 1) // tokens)
            once[number], twice[number] = again.sizes[number] // (n_groups * tokens), 0
    return Template(
        load=load,
        prefill=prefill,
        firsts=tuple(firsts),
        again=again,
        left=left,
        first=known[-1],
        once=once,
        twice=twice,
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of a recording's events: the same in all that are alike."""

    events: list[int]
    """Of the recording; its identity tells which are alike."""
    parts: list[Part]
    """Loading, prefill, each decode step and the end, without sizes."""
    ends: list[int]
    """By part, the slot after its last one."""

    def filled(self, recording: Recording) -> list[Part]:
        """The parts with the sizes of a recording."""
        starts = [0, *self.ends]
        return [
            replace(part, sizes=recording.sizes[start:end])
            for part, start, end in zip(self.parts, starts, self.ends, strict=False)
        ]

    def place(self, slot: int) -> tuple[int, int]:
        """In which part a slot is born, and as which of its births."""
        part = bisect_right(self.ends, slot)
        return part, slot - ([0, *self.ends][part])


def layout(recording: Recording) -> Layout:
    """Raises `ForecastError` where steps keep what they made for more than two others."""
    parts: list[Part] = []
    names: list[str] = []
    places: list[tuple[int, int]] = []
    ends: list[int] = []
    for segment in recording.segments():
        if not names or names[-1] != segment.part:
            names.append(segment.part)
            parts.append(Part())
            ends.append(len(places))
        part, at = parts[-1], len(parts) - 1
        part.phases.append((len(part.events), segment.phase))
        for event in recording.events[segment.start : segment.end]:
            if event >= 0:  # slots are numbered in the order of their births
                places.append((at, len(part.categories)))
                part.events.append(len(part.categories))
                part.homes.append(OWN)
                part.categories.append(recording.categories[event])
            else:
                born, number = places[~event]
                part.events.append(~number)
                part.homes.append(_home(born, at))
        ends[-1] = len(places)
    assert names[0] == LOAD
    return Layout(recording.events, parts, ends)


def _home(born: int, at: int) -> int:
    if born == at:
        return OWN
    if born < 2:  # loading, then prefill
        return (LOADED, FIRST)[born]
    if at - born <= EARLIER:
        return at - born
    raise ForecastError("These answers keep something of every step, so their memory cannot be told: run it.")
