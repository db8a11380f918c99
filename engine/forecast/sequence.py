"""What a run does in which order, as its allocator sees it: windows of batches, ends of epochs, evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby, islice
from typing import NamedTuple

from engine.contract.config import RunConfig
from engine.techniques.bucketing import epoch_order, scoring_order
from engine.workloads.data_shape import BatchShape, DataShape, Part

ALIKE = 4
"""Micro-steps or updates alike that are played of those that follow on each other: more repeat the one before."""
MOST_EPOCHS = 8
MOST_BATCHES = 20_000
"""Of a run whose batches differ: what its first epochs are followed for. The rest has no longer ones as a rule."""


class Kind(Enum):
    """What an act is."""

    WINDOW = "an update's micro-steps"
    LEAVE = "the end of an epoch"
    EVALUATION = "an evaluation"


class Act(NamedTuple):
    """A part of a run, with its batches; an epoch's end has the batch that was last."""

    kind: Kind
    batches: tuple[BatchShape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """What a run does, without what only repeats itself."""

    acts: list[Act]
    micro_steps: int
    """Of an epoch."""
    samples: int
    """In a whole batch."""
    width: float
    """Tokens of a sample with its padding, on average over an epoch."""

    @property
    def trained(self) -> set[BatchShape]:
        """The batches that are trained on."""
        return {batch for act in self.acts if act.kind is Kind.WINDOW for batch in act.batches}

    @property
    def scored(self) -> set[BatchShape]:
        """The batches that are scored."""
        return {batch for act in self.acts if act.kind is Kind.EVALUATION for batch in act.batches}


def sequence(config: RunConfig, data: DataShape) -> Sequence:
    """The acts of a run on such data, in the order of its own samplers."""
    scored: tuple[BatchShape, ...] = ()
    if data.evaluation is not None:
        order = None if data.evaluation.is_uniform else scoring_order(config, data.evaluation.tokens.tolist())
        scored = _shortened(_batches(config, data, data.evaluation, None if order is None else list(order)))
    acts: list[Act] = []
    first: list[BatchShape] = []
    n = 0
    for epoch in range(min(config.epochs, MOST_EPOCHS)):
        if n > MOST_BATCHES:
            break
        batches = _batches(config, data, data.train, _order(config, data.train, epoch))
        first, n = first or batches, n + len(batches)
        acts += [Act(Kind.WINDOW, window) for window in _windows(batches, config.gradient_accumulation_steps)]
        acts.append(Act(Kind.LEAVE, (batches[-1],)))
        if scored:
            acts.append(Act(Kind.EVALUATION, scored))
    n_first = sum(batch.samples for batch in first)
    return Sequence(
        acts=acts,
        micro_steps=-(-data.train.n // config.batch_size),
        samples=min(config.batch_size, data.train.n),
        width=sum(batch.samples * batch.width for batch in first) / n_first,
    )


def _order(config: RunConfig, part: Part, epoch: int) -> list[int] | None:
    if part.is_uniform:
        return None
    order = epoch_order(config, part.tokens.tolist())
    order.epoch = epoch
    return list(order)


def _batches(config: RunConfig, data: DataShape, part: Part, order: list[int] | None) -> list[BatchShape]:
    """The batches of a pass; of many that are alike, enough for the windows that are played."""
    if not part.is_uniform:
        return data.batches(part, order, config.batch_size)
    window = config.batch_size * config.gradient_accumulation_steps
    whole, rest = divmod(part.n, window)
    few = Part(tokens=part.tokens[: min(whole, ALIKE) * window + rest], divided=part.divided)
    return data.batches(few, None, config.batch_size)


def _windows(batches: list[BatchShape], accumulation: int) -> Iterator[tuple[BatchShape, ...]]:
    for start in range(0, len(batches), accumulation):
        yield _shortened(batches[start : start + accumulation])


def _shortened(batches: list[BatchShape]) -> tuple[BatchShape, ...]:
    """Without those that only repeat the ones before."""
    return tuple(batch for _, alike in groupby(batches) for batch in islice(alike, ALIKE))
