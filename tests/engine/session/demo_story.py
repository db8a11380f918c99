"""The story that the recorded session tells: the lecture's. What records it and what tests it ask here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from engine.contract.figures import speed_of
from engine.contract.records import Outcome, RunRecord

GROWS, COSTS = 1.03, 1.1
"""Factors between two runs that a viewer sees as more: samples/s with a batch twice as large, time of checkpointing."""


def problems(runs: Sequence[RunRecord]) -> list[str]:
    """Where the runs contradict the lecture's tables 2, 3, 5 and 4; empty where the story holds."""
    return list(_problems(runs))


def _problems(runs: Sequence[RunRecord]) -> Iterator[str]:
    *batches, _too_large, accumulated, checkpointed, wider, often, seldom = runs
    speeds = [speed_of(run) or 0.0 for run in batches]
    if any(after < GROWS * before for before, after in pairwise(speeds)):
        yield f"samples/s do not grow with the batch: {speeds}"
    memory = [run.peak_used or 0 for run in batches]
    if memory != sorted(set(memory)):
        yield f"memory does not grow with the batch: {memory}"
    eight = batches[-1]
    if 4 * accumulated.updates != eight.updates:
        yield f"accumulation 4 makes {accumulated.updates} updates of {eight.updates}"
    if not (checkpointed.peak_used or 0) < (wider.peak_used or 0) < (eight.peak_used or 0):
        yield "checkpointing does not save memory"
    if (speed_of(eight) or 0.0) < COSTS * (speed_of(checkpointed) or 0.0):
        yield f"checkpointing costs no time: {speed_of(checkpointed)} and {speed_of(eight)} samples/s"
    if (checkpointed.train_loss or 0.0) != eight.train_loss:
        yield "checkpointing learns otherwise"
    if (
        often.config.epochs != seldom.config.epochs
        or (often.eval_accuracy or 0.0) < (seldom.eval_accuracy or 1.0) + 0.1
    ):
        yield f"accumulation does not lose accuracy: {often.eval_accuracy} and {seldom.eval_accuracy}"
    ends = [run.outcome for run in runs]
    if ends != [Outcome.OUT_OF_MEMORY if run is runs[4] else Outcome.COMPLETED for run in runs]:
        yield f"runs end otherwise: {[end.value for end in ends]}"
