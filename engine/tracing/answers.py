"""Batches of answers on a virtual GPU: those that are like one that was traced need no tracing.

Equal shapes make equal tensors, so what a batch took is known once one like it was traced from its first token to its
last; tracing takes a third of a small model's speed, and more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from engine.contract.records import Phase

FORWARDS = (Phase.PREFILL, Phase.DECODE, Phase.DRAFT, Phase.SCORE)
"""Phases of answering in which a model computes."""
MOST_KINDS = 256
"""Kinds of batches that are remembered, the ones met last."""
MOST_SETTLING = 3
"""Times that a batch is gone through again at the most, until its blocks lie where they lay before."""

Event = tuple[int, int, str]
"""An address, the bytes that were born there (0: it died, -1: it is of another category), and the category."""
Moment = tuple[int, dict[str, int]]
"""Allocated bytes when most were in a step, and by category."""


@dataclass(slots=True)
class Traced:
    """A batch that is being traced, or was: what it took in every step."""

    events: list[Event] = field(default_factory=list)
    """In the order in which they happened; dropped once it is known."""
    moments: list[Moment] = field(default_factory=list)
    """By step: a forward, and the choosing of a token before it."""

    def moment(self, step: int) -> Moment | None:
        """That of a step; of one beyond the last, the last's: a later guess was better than the one that was traced."""
        return self.moments[min(step, len(self.moments) - 1)] if self.moments else None


class KnownBatches:
    """Traced batches by kind."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Traced] = OrderedDict()

    def get(self, kind: Hashable) -> Traced | None:
        """A batch of this kind that was traced whole."""
        traced = self._known.get(kind)
        if traced is not None:
            self._known.move_to_end(kind)
        return traced

    def add(self, kind: Hashable, traced: Traced) -> None:
        """From now on it is known."""
        traced.events = []
        self._known[kind] = traced
        while len(self._known) > MOST_KINDS:
            self._known.popitem(last=False)
