"""What answering a batch allocates, of any number of tokens, from a recording of the first few.

Each decode step does what the one before it did, with sizes that have grown: a tensor that outlives its step (the keys
and values so far) dies in the next one, once what takes its place is there. So a step names what it frees by whether it
was born in this step or in the one before, and as the how manyeth there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.contract.forecast_types import KV_CACHE, ForecastError
from engine.contract.records import Phase
from engine.forecast.recording import LOAD, Recording

Whole = npt.NDArray[np.int64]

ALIKE = 3
"""Steps at most that growth is told from: two tell an even one, three how it grows itself."""
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
    once: Whole
    """By birth: bytes that the step after `again` has more than that."""
    twice: Whole
    """By birth: how much more of that there is in each step after."""

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
        known = self.again if n >= 0 else self.firsts[step - 1]
        told: Whole = np.array(known.sizes, dtype=np.int64)
        return told if n <= 0 else told + n * self.once + n * (n - 1) // 2 * self.twice


def _kinds(part: Part) -> Iterator[tuple[int, str]]:
    return zip(part.sizes, part.categories, strict=True)


def template(recording: Recording, groups: Mapping[int, int], width: int) -> Template:
    """Of a batch whose prompts have `width` tokens; `groups`: by slot, tokens of a group where whole groups have room.

    Raises `ForecastError` where later steps cannot be told from those recorded.
    """
    parts, places = _parts(recording)
    if len(parts) == 2:  # scored in one forward
        none = np.zeros(0, dtype=np.int64)
        return Template(load=parts[0], prefill=parts[1], firsts=(), again=Part(), left=Part(), once=none, twice=none)
    load, prefill, *firsts, again, left = parts
    known = [np.array(step.sizes, dtype=np.int64) for step in (*firsts, again)][-ALIKE:]
    if any(len(sizes) != len(known[-1]) for sizes in known) or FIRST in again.homes:
        raise ForecastError("The steps of these answers are not alike, so their memory cannot be told: run it.")
    once = known[-1] - known[-2]
    twice = once - (known[-2] - known[-3]) if len(known) > 2 else np.zeros_like(once)
    once = once + twice
    for slot, tokens in groups.items():
        part, number = places[slot]
        if parts[part] is again:  # by a token's share, as most steps add no group and few add one
            n_groups = -(-(width + len(firsts) + 1) // tokens)
            once[number], twice[number] = again.sizes[number] // (n_groups * tokens), 0
    return Template(load=load, prefill=prefill, firsts=tuple(firsts), again=again, left=left, once=once, twice=twice)


def _parts(recording: Recording) -> tuple[list[Part], list[tuple[int, int]]]:
    """Loading, prefill, each decode step and the end; by slot, in which of them it was born and as which."""
    parts: list[Part] = []
    names: list[str] = []
    places: list[tuple[int, int]] = []
    for segment in recording.segments():
        if not names or names[-1] != segment.part:
            names.append(segment.part)
            parts.append(Part())
        part, at = parts[-1], len(parts) - 1
        part.phases.append((len(part.events), segment.phase))
        for event in recording.events[segment.start : segment.end]:
            if event >= 0:
                places.append((at, len(part.sizes)))
                part.events.append(len(part.sizes))
                part.homes.append(OWN)
                part.sizes.append(recording.sizes[event])
                part.categories.append(recording.categories[event])
            else:
                born, number = places[~event]
                part.events.append(~number)
                part.homes.append(_home(born, at))
    assert names[0] == LOAD
    return parts, places


def _home(born: int, at: int) -> int:
    if born == at:
        return OWN
    if born < 2:  # loading, then prefill
        return (LOADED, FIRST)[born]
    if at - born <= EARLIER:
        return at - born
    raise ForecastError("These answers keep something of every step, so their memory cannot be told: run it.")
