"""Samples/s that can be trusted: warm-up left out, median and spread of what remains. Standard library only."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from dataclasses import dataclass

ENOUGH_UPDATES = 3
"""Fewer updates than this after warm-up say nothing steady."""

_CHUNK = 2048  # rates: what one addition may have to shift is 16 KiB


def warmup_updates(planned_updates: int) -> int:
    """How many first updates pay for allocation, caches and clocks: a tenth of the run, 1 to 5."""
    return min(5, max(1, planned_updates // 10))


@dataclass(frozen=True, slots=True)
class Steady:
    """Median samples/s, and half the distance between the 16th and the 84th percentile (±1 σ were it normal)."""

    samples_per_s: float
    spread: float


class Rates:
    """The samples/s of a run's updates after warm-up: all of them, so that the percentiles are exact.

    They are kept sorted, 8 bytes each, in chunks: a new one shifts its own chunk only, however long the run is, and
    a percentile is found by counting chunks.
    """

    def __init__(self) -> None:
        self._chunks = [array("d")]
        self._borders: list[
            float
        ] = []  # between two chunks: none in the lower one is larger, none in the upper smaller
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, rate: float) -> None:
        """Take one update's samples/s."""
        index = bisect_left(self._borders, rate)
        chunk = self._chunks[index]
        insort(chunk, rate)
        self._n += 1
        if len(chunk) > _CHUNK:
            half = len(chunk) // 2
            self._chunks[index : index + 1] = [chunk[:half], chunk[half:]]
            self._borders.insert(index, chunk[half - 1])

    def copy(self) -> Rates:
        """The same rates, apart from this object's."""
        other = Rates()
        other._chunks, other._borders, other._n = [chunk[:] for chunk in self._chunks], self._borders[:], self._n
        return other

    def steady(self) -> Steady | None:
        """The steady rate; None while there are too few."""
        if self._n < ENOUGH_UPDATES:
            return None
        return Steady(self._percentile(50), (self._percentile(84) - self._percentile(16)) / 2)

    def _percentile(self, percent: int) -> float:
        """Between the two values around it, as `statistics.quantiles` has it with `method="inclusive"`."""
        index, rest = divmod(percent * (self._n - 1), 100)
        low, high = self._at(index), self._at(min(index + 1, self._n - 1))
        return low + (high - low) * rest / 100

    def _at(self, index: int) -> float:
        for chunk in self._chunks:
            if index < len(chunk):
                return chunk[index]
            index -= len(chunk)
        raise IndexError(index)
