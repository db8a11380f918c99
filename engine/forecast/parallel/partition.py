"""Whose optimizer keeps the states of which parameters under ZeRO-1: whole ones, by size."""

from __future__ import annotations

from collections.abc import Sequence

from engine.techniques.decay import Group


def partition(groups: Sequence[Group], ranks: int) -> list[list[Group]]:
    """The groups of every rank, of which some may have no parameter.

    The largest first, each goes to the rank that has least so far: a large embedding makes one rank heavy.
    (`ZeroRedundancyOptimizer._partition_parameters` of torch/distributed/optim.)
    """
    parts: list[list[Group]] = [[] for _ in range(ranks)]
    sizes = [0] * ranks
    for group in groups:
        own = [Group(group, params=[]) for _ in range(ranks)]
        for parameter in sorted(group["params"], key=lambda p: p.numel(), reverse=True):
            rank = sizes.index(min(sizes))
            own[rank]["params"].append(parameter)
            sizes[rank] += parameter.numel()
        for part, groups_of_rank in zip(parts, own, strict=True):
            part.append(groups_of_rank)
    return parts
