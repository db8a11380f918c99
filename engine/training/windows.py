"""The micro-steps of an update, and what each one's loss counts in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from engine.contract.tasks import IGNORED, Task
from engine.techniques.preloading import Batch
from engine.techniques.stopping import Stopped


class Turn(NamedTuple):
    """One micro-step of a window."""

    batch: Batch
    """On the host."""
    number: int
    """In its window, from 1."""
    of: int
    """Micro-steps of the window."""
    divisor: float
    """What its loss, a mean, is divided by, so that the window's losses add up to the update's."""


def turns(
    batches: Iterable[Batch],
    *,
    steps: int,
    accumulation: int,
    task: Task,
    should_stop: Callable[[], bool],
    share: Callable[[float], float] = lambda number: number,
    mass: Callable[[Batch], float] | None = None,
) -> Iterator[Turn]:
    """The turns of an epoch of `steps` micro-steps, in windows of `accumulation`; the last one may be shorter.

    Where the loss is divided by the labels of the whole window, its batches wait on the host until all are there.
    `share` gives the mean over all ranks, whose losses and gradients are averaged: then a label counts alike in each.
    `mass`: what a batch's loss, where it is no mean over labels, is divided by; None where it is the same for all.
    Raises `Stopped` when asked to stop meanwhile.
    """
    loaded = iter(batches)
    for first in range(0, steps, accumulation):
        of = min(accumulation, steps - first)
        window = islice(loaded, of)
        if task.is_divided_by_labels:
            weighed = _by_labels(window, task, should_stop, share)
        elif mass is not None:
            weighed = _by_mass(window, of, share, mass)
        else:
            weighed = _alike(window, of)
        for number, (batch, divisor) in enumerate(weighed, start=1):
            yield Turn(batch, number, of, divisor)


def counted(batches: Iterable[Batch], task: Task) -> Iterator[tuple[Batch, int]]:
    """Each batch with how many labels its loss is the mean over."""
    return ((batch, n_labels(batch, task)) for batch in batches)


def n_labels(batch: Batch, task: Task) -> int:
    """How many labels the loss of a batch on the host is the mean over: its tokens that have one, or its samples."""
    if not task.is_divided_by_labels:
        return len(batch["input_ids"])
    labels = batch["labels"][:, 1:] if task.shifts else batch["labels"]
    return int((labels != IGNORED).sum())


def _alike(window: Iterable[Batch], of: int) -> Iterator[tuple[Batch, float]]:
    return ((batch, of) for batch in window)


def _by_mass(
    window: Iterable[Batch], of: int, share: Callable[[float], float], mass: Callable[[Batch], float]
) -> Iterator[tuple[Batch, float]]:
    """Each micro-step counts alike, and in it each unit of mass in all ranks."""
    for batch in window:
        own = mass(batch)
        yield batch, of * share(own) / own


def _by_labels(
    window: Iterable[Batch], task: Task, should_stop: Callable[[], bool], share: Callable[[float], float]
) -> Iterator[tuple[Batch, float]]:
    """What transformers' Trainer has done since 4.46 with `num_items_in_batch`, for heads of every kind.

    The sum over a batch's labels / N, of a window of N labels, is the mean over its n labels / (N / n).
    """
    ahead: list[tuple[Batch, int]] = []
    for batch, n in counted(window, task):
        ahead.append((batch, n))
        if should_stop():
            raise Stopped
    of_window = share(sum(n for _, n in ahead))
    ahead.reverse()
    while ahead:
        batch, n = ahead.pop()
        yield (batch, of_window / n) if n else (_with_a_label(batch), math.inf)


def _with_a_label(batch: Batch) -> Batch:
    """A batch without any label has no mean, and its loss would be nan; with one, divided by infinity, it adds 0."""
    labels = batch["labels"].clone()
    labels[0, -1] = 0
    return {**batch, "labels": labels}
