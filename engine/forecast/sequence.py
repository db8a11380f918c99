"""What a run does in which order, as its allocator sees it: windows of batches, ends of epochs, evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import cycle, groupby, islice
from typing import NamedTuple

from engine.contract.config import RunConfig
from engine.techniques.bucketing import epoch_order, scoring_order
from engine.workloads.data_shape import BatchShape, DataShape, Part

MOST_EPOCHS = 8
MOST_BATCHES = 20_000
"""Of a run whose batches differ: what its first epochs are followed for. The rest has no longer ones as a rule."""
MOST_EVALUATIONS = 50
"""Those between updates that are followed: each scores the same batches."""


class Kind(Enum):
    """What an act is."""

    WINDOW = "an update's micro-steps"
    LEAVE = "the end of an epoch"
    EVALUATION = "an evaluation"


Runs = tuple[tuple[BatchShape, int], ...]
"""Batches in order, each with how many of its like follow on each other."""


class Act(NamedTuple):
    """A part of a run, with its batches; an epoch's end has the batch that was last."""

    kind: Kind
    runs: Runs
    times: int = 1
    """How often it is done, one after the other."""

    @property
    def largest(self) -> int:
        """Tokens of its largest batch."""
        return max(batch.tokens for batch, _ in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """What a run does."""

    acts: list[Act]
    micro_steps: int
    """Of an epoch."""
    samples: int
    """In a whole batch."""
    width: float
    """Tokens of a sample with its padding, on average over an epoch."""
    target: float
    """Likewise of its target; 0 where there is none."""

    @property
    def trained(self) -> set[BatchShape]:
        """The batches that are trained on."""
        return {batch for act in self.acts if act.kind is Kind.WINDOW for batch, _ in act.runs}

    @property
    def scored(self) -> set[BatchShape]:
        """The batches that are scored."""
        return {batch for act in self.acts if act.kind is Kind.EVALUATION for batch, _ in act.runs}


def sequence(config: RunConfig, data: DataShape, rank: int = 0) -> Sequence:
    """The acts of a run on such data, in the order of its own samplers; of several ranks, those of `rank`.

    Of each epoch's order a rank has one sample in as many as there are ranks, beginning with its own number; samples
    from the begin fill up what is missing to as many for all (`torch.utils.data.DistributedSampler`). What is held
    out is divided likewise, each sample to one rank.
    """
    ranks = config.gpus or 1
    scored: Runs = ()
    if data.evaluation is not None:
        scoring = None if data.evaluation.is_uniform else scoring_order(config, data.evaluation.tokens.tolist())
        held_out = list(range(data.evaluation.n)) if scoring is None else list(scoring)
        scored = _passed(config, data, data.evaluation, held_out[rank::ranks] or held_out[:1], ranks)
    acts: list[Act] = []
    first: Runs = ()
    n = updates = 0
    every = config.eval_steps if scored else None
    for epoch in range(min(config.epochs, MOST_EPOCHS)):
        if n > MOST_BATCHES:
            break
        passed = _passed(config, data, data.train, _order(config, data.train, epoch, rank, ranks), ranks)
        first, n = first or passed, n + len(passed)
        windows = list(_windows(passed, config.gradient_accumulation_steps))
        acts += windows if every is None else _evaluated(windows, Act(Kind.EVALUATION, scored), updates, every)
        updates += sum(act.times for act in windows)
        acts.append(Act(Kind.LEAVE, passed[-1:]))
        if scored and (every is None or (epoch + 1 == config.epochs and updates % every)):
            acts.append(Act(Kind.EVALUATION, scored))
    tokens = sum(batch.samples * batch.width * times for batch, times in first)
    targets = sum(batch.samples * batch.target * times for batch, times in first)
    own = -(-data.train.n // ranks)
    return Sequence(
        acts=acts,
        micro_steps=-(-own // config.batch_size),
        samples=min(config.batch_size, own),
        width=tokens / own,
        target=targets / own,
    )


def _order(config: RunConfig, part: Part, epoch: int, rank: int, ranks: int) -> list[int] | None:
    if part.is_uniform:
        return None
    order = epoch_order(config, part.tokens.tolist())
    order.epoch = epoch
    return list(islice(cycle(order), rank, -(-part.n // ranks) * ranks, ranks))


def _passed(config: RunConfig, data: DataShape, part: Part, order: list[int] | None, ranks: int) -> Runs:
    """The batches of a pass over a rank's part of `part`."""
    if not part.is_uniform:
        return tuple(
            (batch, len(list(alike))) for batch, alike in groupby(data.batches(part, order, config.batch_size))
        )
    whole, rest = divmod(-(-part.n // ranks), config.batch_size)
    sizes = [(config.batch_size, whole)] * bool(whole) + [(rest, 1)] * bool(rest)
    return tuple((data.batches(part.first(size), None, size)[0], times) for size, times in sizes)


def _windows(passed: Runs, accumulation: int) -> Iterator[Act]:
    """The updates of an epoch; equal ones that follow on each other are one act."""
    window: list[tuple[BatchShape, int]] = []
    room = accumulation
    for batch, times in passed:
        if room == accumulation and times >= accumulation:  # whole windows of it
            yield Act(Kind.WINDOW, ((batch, accumulation),), times // accumulation)
            times %= accumulation
        while times:
            taken = min(times, room)
            window.append((batch, taken))
            times, room = times - taken, room - taken
            if not room:
                yield Act(Kind.WINDOW, tuple(window))
                window, room = [], accumulation
    if window:
        yield Act(Kind.WINDOW, tuple(window))


def _evaluated(windows: Iterable[Act], evaluation: Act, done: int, every: int) -> Iterator[Act]:
    """An epoch's updates with the evaluations between them, `done` updates of the run being before it."""
    for act in windows:
        left = act.times
        while left:
            taken = min(left, every - done % every) if done // every < MOST_EVALUATIONS else left
            yield act._replace(times=taken)
            left, done = left - taken, done + taken
            if done % every == 0 and done // every <= MOST_EVALUATIONS:
                yield evaluation
