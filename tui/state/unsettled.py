"""What is shown before it is stored, and put right where it could not be. Pure: no Textual, no engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Unsettled(Generic[K, V]):
    """By key, what the store is known to have while changes are on their way to it; what is shown runs ahead."""

    def __init__(self) -> None:
        self._stored: dict[K, V] = {}
        self._on_their_way: Counter[K] = Counter()

    def begin(self, key: K, shown: V) -> None:
        """A change leaves; `shown` is what was shown before it."""
        self._stored.setdefault(key, shown)
        self._on_their_way[key] += 1

    def end(self, key: K, value: V, shown: V, *, written: bool) -> V:
        """A change to `value` is over. What is to be shown: what is stored, once no other change is on its way."""
        if key not in self._stored:
            return shown
        if written:
            self._stored[key] = value
        self._on_their_way[key] -= 1
        if self._on_their_way[key] > 0:
            return shown
        del self._on_their_way[key]
        return self._stored.pop(key)
