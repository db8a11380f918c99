"""Generated text as tables: which kind of it a run takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import datasets

from engine.contract.config import RunConfig
from engine.workloads.generated import instructions, pairs, reviews


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUp:
    """One kind of generated text."""

    name: str
    """In the plural."""
    fingerprint: Callable[[int], str]
    """Changes when what a seed stands for does."""
    make: Callable[[int, str, int], datasets.Dataset]
    """Seed, part (`train`, `test`) and rows -> the first rows of that part."""


def made_up(config: RunConfig) -> MadeUp:
    """What is generated for a run."""
    if config.workload == "instructions":
        return _INSTRUCTIONS
    return _PAIRS if config.task == "seq2seq-lm" else _REVIEWS


def _reviews(seed: int, part: str, n: int) -> datasets.Dataset:
    texts, stars = reviews.make_reviews(seed, part, n)
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(reviews.STARS))}
    )
    return datasets.Dataset.from_dict({"text": texts, "label": stars}, features=features)


def _pairs(seed: int, part: str, n: int) -> datasets.Dataset:
    sources, targets = pairs.make_pairs(seed, part, n)
    return datasets.Dataset.from_dict({"source": sources, "target": targets})


def _instructions(seed: int, part: str, n: int) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"messages": instructions.make_talks(seed, part, n)})


_REVIEWS = MadeUp(name="reviews", fingerprint=reviews.fingerprint, make=_reviews)
_PAIRS = MadeUp(name="pairs of sentences", fingerprint=pairs.fingerprint, make=_pairs)
_INSTRUCTIONS = MadeUp(name="instructions", fingerprint=instructions.fingerprint, make=_instructions)
