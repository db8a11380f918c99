"""What became of every class of the held-out samples: counts, and the figures that are made of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Confusion = tuple[tuple[int, ...], ...]
"""Held-out samples by class and answer, (classes, classes): row i has those of class i, by what they were taken for."""

MOST_CLASSES = 100
"""Beyond it no table is made of an evaluation; its figures are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class: precision, recall and F1 from 0 to 1, or None where nothing is there to divide by."""

    index: int
    precision: float | None
    """Of the samples that were taken for it, those that were of it."""
    recall: float | None
    """Of its samples, those that were found."""
    f1: float | None
    """The harmonic mean of both; 0 where no sample of it was found."""
    support: int
    """Its held-out samples."""
    taken_for: tuple[tuple[int, int], ...]
    """Other classes that its samples were taken for, each with how many, the most frequent first."""


def class_scores(counts: Confusion) -> Iterator[ClassScore]:
    """The classes in their order."""
    answered = [sum(row[index] for row in counts) for index in range(len(counts))]
    for index, row in enumerate(counts):
        right, support = row[index], sum(row)
        others = [(other, n) for other, n in enumerate(row) if n and other != index]
        yield ClassScore(
            index=index,
            precision=right / answered[index] if answered[index] else None,
            recall=right / support if support else None,
            f1=f1(right, support, answered[index]),
            support=support,
            taken_for=tuple(sorted(others, key=lambda pair: -pair[1])),
        )


def f1(right: int, support: int, answered: int) -> float | None:
    """2 × right / (support + answered); None for a class that neither occurs nor is answered."""
    return 2 * right / (support + answered) if support + answered else None


def macro_f1(right: Sequence[int], support: Sequence[int], answered: Sequence[int]) -> float | None:
    """The mean of F1 over the classes that occur or are answered, as scikit-learn's `f1_score(average="macro")`."""
    known = [value for counts in zip(right, support, answered, strict=True) if (value := f1(*counts)) is not None]
    return sum(known) / len(known) if known else None


def from_plain(value: Any) -> Confusion | None:
    """Counts as JSON holds them, in lists; None for what are none."""
    if not isinstance(value, list) or not value:
        return None
    rows = [tuple(row) if isinstance(row, list) else () for row in value]
    is_square = all(len(row) == len(rows) for row in rows)
    return tuple(rows) if is_square and all(type(n) is int for row in rows for n in row) else None
