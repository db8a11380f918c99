"""Many numbers, and exact percentiles of them at any time. Standard library only."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort

_CHUNK = 2048  # values: what one addition may have to shift is 16 KiB


class Distribution:
    """All the values that were taken, so that the percentiles are exact.

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

    def add(self, value: float) -> None:
        """Take one value."""
        index = bisect_left(self._borders, value)
        chunk = self._chunks[index]
        insort(chunk, value)
        self._n += 1
        if len(chunk) > _CHUNK:
            half = len(chunk) // 2
            self._chunks[index : index + 1] = [chunk[:half], chunk[half:]]
            self._borders.insert(index, chunk[half - 1])

    def copy(self) -> Distribution:
        """The same values, apart from this object's."""
        other = Distribution()
        other._chunks, other._borders, other._n = [chunk[:] for chunk in self._chunks], self._borders[:], self._n
        return other

    def percentile(self, percent: int) -> float:
        """Between the two values around it, as numpy has it, and `statistics.quantiles` with `method="inclusive"`.

        `IndexError` where nothing was taken.
        """
        index, rest = divmod(percent * (self._n - 1), 100)
        low, high = self._at(index), self._at(min(index + 1, self._n - 1))
        return low + (high - low) * rest / 100

    def _at(self, index: int) -> float:
        for chunk in self._chunks:
            if index < len(chunk):
                return chunk[index]
            index -= len(chunk)
        raise IndexError(index)

    def spread(self) -> float:
        """Half the distance between the 16th and the 84th percentile: ±1 σ were it normal."""
        return (self.percentile(84) - self.percentile(16)) / 2
