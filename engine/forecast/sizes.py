"""The sizes of one sequence of events at any batch size and length, from recordings of it at a few.

A tensor's size is a whole polynomial: of the first degree in the batch size, of the second in the lengths (attention's
scores). Two batch sizes tell what grows with the batch, three lengths the rest; where rows and their targets have
lengths of their own, six pairs of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from engine.forecast.polynomial import Polynomial, Vector
from engine.forecast.recording import Recording
from engine.tracing.scratch import Rule

Point = tuple[int, int, int]
"""Batch size, length of the rows, and that of their targets; 0 where there are none."""


class NotAlikeError(Exception):
    """Recordings that differ in more than sizes: each batch size and length needs its own."""


class Sizes:
    """What `recordings` tell of other batch sizes and lengths.

    Those are at one batch size and three lengths, or six pairs of lengths (then other lengths are told), or at one
    length and two batch sizes one apart, or at both together: (b, l), (b + 1, l), (b, m), (b, n). Raises
    `NotAlikeError`.
    """

    def __init__(self, recordings: Mapping[Point, Recording]) -> None:
        (batch, width, target), first = next(iter(recordings.items()))
        if not all(_alike(first, other) for other in recordings.values()):
            raise NotAlikeError
        self._first = first
        self._groups = _Groups(list(recordings.values()))
        vectors = {point: self._groups.vector(recording) for point, recording in recordings.items()}
        at, more = vectors[batch, width, target], vectors.get((batch + 1, width, target))
        grows = np.zeros_like(at) if more is None else more - at
        fixed = at - batch * grows
        others = {(point[1], point[2]): vector for point, vector in vectors.items() if point[0] == batch}
        self._polynomial = Polynomial(list(others), np.stack(list(others.values())))
        powers = self._polynomial.coefficients
        varies = powers[1:].any(axis=0)
        if (grows < 0).any() or (fixed < 0).any() or (varies & (grows != 0) & (fixed != 0)).any():
            raise NotAlikeError
        # what varies with the length either grows with the batch, from nothing, or does not
        proportional = varies & (grows != 0)
        self._fixed = np.where(proportional, 0, np.where(varies, powers, 0))
        self._grows = np.where(proportional, powers / batch, 0)
        self._fixed[0, ~varies], self._grows[0, ~varies] = fixed[~varies], grows[~varies]

    def at(self, batch: int, width: int, target: int) -> Recording:
        """The recording at another batch size and lengths. Raises `NotAlikeError` where a size would be below 0."""
        told = self._polynomial.at((width, target), self._fixed + batch * self._grows)
        values = np.rint(told).astype(np.int64)
        if (values < 0).any():
            raise NotAlikeError
        first = self._first
        sizes = self._groups.sizes(values)
        return Recording(first.events, sizes, first.categories, first.marks, streams=first.streams)


def _alike(one: Recording, other: Recording) -> bool:
    same = one.events == other.events and one.marks == other.marks and one.rules.keys() == other.rules.keys()
    same = same and one.streams == other.streams
    return same and all(_choices(rule) == _choices(other.rules[slot]) for slot, rule in one.rules.items())


def _choices(rule: Rule) -> list[object]:
    chosen: list[object] = [getattr(rule, f.name) for f in fields(rule) if f.metadata.get("choice")]  # type: ignore[arg-type]
    return [type(rule), *chosen]


class _Groups:
    """The numbers of a recording in one row: sizes by slot, then those of its rules, equal ones once only."""

    def __init__(self, recordings: list[Recording]) -> None:
        self._n_slots = len(recordings[0].sizes)
        slots: dict[tuple[Rule, ...], list[int]] = {}
        for slot in recordings[0].rules:
            slots.setdefault(tuple(recording.rules[slot] for recording in recordings), []).append(slot)
        self._slots = list(slots.values())
        self._rules = [rules[0] for rules in slots]

    def vector(self, recording: Recording) -> Vector:
        row = np.array(recording.sizes, dtype=np.float64)
        row[list(recording.rules)] = 0
        rules = [recording.rules[slots[0]] for slots in self._slots]
        return np.concatenate([row, [getattr(rule, f.name) for rule in rules for f in fields(rule)]])  # type: ignore[arg-type]

    def sizes(self, row: npt.NDArray[np.int64]) -> list[int]:
        """The sizes by slot that such a row stands for."""
        sizes: list[int] = row[: self._n_slots].tolist()
        at = self._n_slots
        for slots, rule in zip(self._slots, self._rules, strict=True):
            names = [f.name for f in fields(rule)]  # type: ignore[arg-type]
            n_bytes = type(rule)(**dict(zip(names, row[at : at + len(names)].tolist(), strict=True))).n_bytes
            at += len(names)
            for slot in slots:
                sizes[slot] = n_bytes
        return sizes
