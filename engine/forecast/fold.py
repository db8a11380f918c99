"""The recording of a deep model from those of shallow ones, where every layer does what the others do.

Recordings of models that are one step apart in depth differ in runs of events that are there once more: a layer's in
forward, in backward, its parameters' in the optimizer. Such a loop is gone through as often as the depth asks for. The
number of an event, which names a slot, grows evenly from turn to turn and from depth to depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.contract.records import Phase
from engine.forecast.recording import Recording

Whole = npt.NDArray[np.int64]
_Mark = tuple[str, Phase, int]


class NotFoldedError(Exception):
    """Recordings that tell nothing of deeper models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A run of events, shape (events,), gone through once, or in a loop once for each step from the shallow recording.

    At `depth` steps and in turn `turn` an event's number is `first` + (depth - 1) × `by_depth` + turn × `by_turn`.
    """

    is_loop: bool
    marks: list[_Mark]
    """Their places are those among the piece's events."""
    first: Whole
    """As in the middle recording."""
    by_depth: Whole
    by_turn: Whole

    def turns(self, depth: int) -> int:
        return depth if self.is_loop else 1

    def at(self, depth: int) -> Whole:
        turns = np.arange(self.turns(depth), dtype=np.int64)[:, None]
        numbers: Whole = self.first + (depth - 1) * self.by_depth + turns * self.by_turn
        return numbers.reshape(-1)


@dataclass(frozen=True, slots=True)
class _Token:
    """An event, or a mark. Two of the same kind and size do the same."""

    kind: tuple[object, ...]
    """What it is, what it is done to, and in which part and phase that was born."""
    size: int
    event: int | None = None


class Fold:
    """What three recordings, each of a model one step deeper than the one before, tell of one `depth` steps deeper.

    Raises `NotFoldedError` where they differ in more than loops.
    """

    def __init__(self, shallow: Recording, middle: Recording, deep: Recording, depth: int) -> None:
        self._shallow, self._middle, self._steps = shallow, middle, depth - 1
        pieces = list(_pieces(*([*_tokens(recording)] for recording in (shallow, middle, deep))))
        events = np.concatenate([piece.at(depth) for piece in pieces])
        origins = np.concatenate([np.tile(piece.first, piece.turns(depth)) for piece in pieces])
        self._origins: Whole = origins[origins >= 0]
        """By slot, that of the middle recording that does the same."""
        self._twins = _twins(pieces, len(middle.sizes))
        self._check(events, origins)
        self._events: list[int] = events.tolist()
        self._marks = list(_marks(pieces, depth))

    def unfold(self, shallow: Recording, middle: Recording) -> Recording:
        """The deep model's recording, of the batch of these two. Raises `NotFoldedError` where they do other things."""
        if not (_alike(shallow, self._shallow) and _alike(middle, self._middle)):
            raise NotFoldedError
        known, sizes = self._twins >= 0, np.array(middle.sizes, dtype=np.int64)
        more = np.zeros_like(sizes)  # what is as long as there are layers, such as the norms of all gradients
        more[known] = sizes[known] - np.array(shallow.sizes, dtype=np.int64)[self._twins[known]]
        if more[list(middle.rules)].any():
            raise NotFoldedError
        origins: list[int] = self._origins.tolist()
        return Recording(
            events=self._events,
            sizes=(sizes + self._steps * more)[self._origins].tolist(),
            categories=[middle.categories[origin] for origin in origins],
            marks=self._marks,
            rules={slot: middle.rules[origin] for slot, origin in enumerate(origins) if origin in middle.rules},
            streams={slot: middle.streams[origin] for slot, origin in enumerate(origins) if origin in middle.streams},
            depends_on_hiding=middle.depends_on_hiding,
            unified=middle.unified + self._steps * (middle.unified - shallow.unified),
        )

    def _check(self, events: Whole, origins: Whole) -> None:
        """That slots are born in order, and that what dies is there and does what it stands for."""
        births, deaths = np.flatnonzero(events >= 0), np.flatnonzero(events < 0)
        born, dead = events[births], ~events[deaths]
        if not np.array_equal(born, np.arange(len(born))) or (dead >= len(born)).any():
            raise NotFoldedError
        if len(np.unique(dead)) < len(dead) or (births[dead] > deaths).any():
            raise NotFoldedError
        sizes, categories = np.array(self._middle.sizes), np.array(self._middle.categories)
        stands_for, is_one_of = self._origins[dead], ~origins[deaths]
        for told in (sizes, categories):
            if not np.array_equal(told[stands_for], told[is_one_of]):
                raise NotFoldedError


def _alike(one: Recording, other: Recording) -> bool:
    return (one.events, one.marks, one.categories, one.streams, one.rules.keys()) == (
        other.events,
        other.marks,
        other.categories,
        other.streams,
        other.rules.keys(),
    )


def _tokens(recording: Recording) -> Iterator[_Token]:
    homes: dict[int, tuple[str, Phase]] = {}
    sizes, categories, rules, streams = recording.sizes, recording.categories, recording.rules, recording.streams
    for segment in recording.segments():
        home = segment.part, segment.phase
        yield _Token(home, 0)
        for event in recording.events[segment.start : segment.end]:
            slot = event if event >= 0 else ~event
            born = homes.setdefault(slot, home)
            kind = event >= 0, born, categories[slot], rules.get(slot), streams.get(slot, 0)
            yield _Token(kind, sizes[slot], event)


def _pieces(shallow: list[_Token], middle: list[_Token], deep: list[_Token]) -> Iterator[_Piece]:
    """The middle recording's tokens: what all have in common, and between that what the deeper ones have once more.

    The middle recording parts from the shallow one where it has more; the deep one goes on with it for a turn more. A
    turn may be taken to begin at any of its tokens, and does so where the numbers say that it has.
    """
    a = b = c = 0
    while True:
        runs = shallow[a:], middle[b:], deep[c:]
        alike = _common(*runs, may_grow=True)
        turn = _common(*(run[alike:] for run in runs[1:]))
        even = _even(*(run[:alike] for run in runs))
        yield _piece([run[:even] for run in runs])
        a, b, c = a + even, b + even, c + even
        if a == len(shallow) and b == len(middle) and c == len(deep):
            return
        turns = middle[b : b + turn], deep[c : c + turn], deep[c + turn : c + 2 * turn]
        if not turn or _common(*turns) < turn:
            raise NotFoldedError
        yield _piece(turns, is_loop=True)
        b, c = b + turn, c + 2 * turn


def _common(*runs: Sequence[_Token], may_grow: bool = False) -> int:
    """How many tokens they begin with together; sizes that `may_grow` do so evenly from run to run."""
    count = 0
    for first, *others in zip(*runs, strict=False):
        if any(other.kind != first.kind for other in others):
            break
        steps = {after.size - before.size for before, after in zip([first, *others], others, strict=False)}
        if steps != {0} and not (may_grow and len(steps) == 1):
            break
        count += 1
    return count


def _even(shallow: Sequence[_Token], middle: Sequence[_Token], deep: Sequence[_Token]) -> int:
    """How many tokens have numbers that grow evenly with the depth."""
    for count, (one, two, three) in enumerate(zip(shallow, middle, deep, strict=True)):
        if (two.event or 0) - (one.event or 0) != (three.event or 0) - (two.event or 0):
            return count
    return len(middle)


def _piece(tokens: Sequence[Sequence[_Token]], *, is_loop: bool = False) -> _Piece:
    """Of the same tokens in three places: at three depths, or in the turns of a loop at the two deeper ones."""
    one, two, three = (
        np.array([token.event for token in run if token.event is not None], dtype=np.int64) for run in tokens
    )
    return _Piece(
        is_loop=is_loop,
        marks=list(_marks_among(tokens[1])),
        first=one if is_loop else two,
        by_depth=two - one,
        by_turn=three - two if is_loop else np.zeros_like(one),
    )


def _marks_among(tokens: Sequence[_Token]) -> Iterator[_Mark]:
    place = 0
    for token in tokens:
        if token.event is None:
            part, phase = token.kind
            yield part, phase, place  # type: ignore[misc]
        else:
            place += 1


def _marks(pieces: Sequence[_Piece], depth: int) -> Iterator[_Mark]:
    start = 0
    for piece in pieces:
        for _ in range(piece.turns(depth)):
            for part, phase, place in piece.marks:
                yield part, phase, start + place
            start += len(piece.first)


def _twins(pieces: Sequence[_Piece], slots: int) -> Whole:
    """By slot of the middle recording, that of the shallow one which is born in its place; -1 for a loop's."""
    twins = np.full(slots, -1, dtype=np.int64)
    for piece in pieces:
        if not piece.is_loop:
            born = piece.first >= 0
            twins[piece.first[born]] = (piece.first - piece.by_depth)[born]
    return twins
