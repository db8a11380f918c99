"""Every rank of a run: what each does, and which of them needs most."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from engine.contract.config import RunConfig
from engine.forecast.parallel.ranks import OneRank
from engine.forecast.played import Course, expect
from engine.forecast.replay import ALONE
from engine.forecast.sequence import Sequence, sequence
from engine.forecast.traces import Traces
from engine.tracing.stack import Stack
from engine.workloads.data_shape import BatchShape, DataShape

MOST_PLAYED = 16
"""Ranks that differ and are played; of more, the others are taken to need as much as the least of these, or less."""
_MOST_ORDERS = 8
"""Ranks whose own batches are followed where they differ; the others have the like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fullest:
    """What a run's ranks need. Sizes in bytes."""

    reserved: tuple[int, ...]
    """Of each rank at its peak, without a limit; empty with one GPU."""
    course: Course
    """Of the rank that needs most, and so on."""
    order: Sequence
    rank: OneRank
    slowest: OneRank
    """The one whose step takes longest: the others wait for it."""


def fullest(config: RunConfig, data: DataShape, traces: Traces, stack: Stack) -> Fullest:
    """Each rank's peak, and the rank that needs most. Raises `ForecastError`."""
    gpus = config.gpus or 1
    first = sequence(config, data)
    orders = [first]
    if gpus > 1 and not (data.train.is_uniform and (data.evaluation is None or data.evaluation.is_uniform)):
        orders += [sequence(config, data, rank) for rank in range(1, min(gpus, _MOST_ORDERS))]
    expect(traces, orders)
    ranks = _ranks(config, traces, largest(first))
    kinds = {_kind(config, rank, ranks, orders): rank for rank in reversed(range(gpus))}
    heaviest = sorted(kinds, key=lambda kind: -ranks[kinds[kind]].state_bytes)
    courses = {
        kind: Course(traces, orders[kinds[kind] % len(orders)], stack, ranks[kinds[kind]].beside)
        for kind in heaviest[:MOST_PLAYED]
    }
    if gpus == 1:
        return Fullest(reserved=(), course=courses[heaviest[0]], order=first, rank=ranks[0], slowest=ranks[0])
    peaks = {kind: course.free().peak_reserved for kind, course in courses.items()}
    least = peaks[heaviest[:MOST_PLAYED][-1]]
    most = max(peaks, key=lambda kind: peaks[kind])
    return Fullest(
        reserved=tuple(peaks.get(_kind(config, rank, ranks, orders), least) for rank in range(gpus)),
        course=courses[most],
        order=orders[kinds[most] % len(orders)],
        rank=ranks[kinds[most]],
        slowest=ranks[kinds[heaviest[0]]],
    )


def largest(order: Sequence) -> BatchShape:
    """The largest batch that is trained on."""
    return max(order.trained, key=lambda batch: batch.tokens)


def _ranks(config: RunConfig, traces: Traces, batch: BatchShape) -> list[OneRank]:
    gpus = config.gpus or 1
    if gpus == 1 or config.parallel == "fsdp":
        return [OneRank(beside=ALONE)] * gpus
    if config.parallel == "zero1":
        return traces.ranks.zero1(gpus, config.bucket_mib, batch)
    return [traces.ranks.ddp(config.bucket_mib, batch)] * gpus


def _kind(config: RunConfig, rank: int, ranks: SequenceOf[OneRank], orders: SequenceOf[Sequence]) -> tuple[int, int]:
    """Ranks of one kind do the same."""
    return id(ranks[rank].beside.steps), rank % len(orders)
