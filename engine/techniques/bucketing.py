"""Length-bucketed batches: samples of similar length together, in an order that is still random."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.contract.config import RunConfig
from engine.techniques.preloading import EpochOrder

MEGABATCH = 50
"""Batches that are sorted by length among themselves, as in transformers' LengthGroupedSampler."""


class BucketedOrder(EpochOrder):
    """Every sample once an epoch; a batch's samples have similar lengths, and the batches come in random order.

    A random permutation is cut into megabatches, each is sorted by length and cut into batches, and these are
    shuffled; an incomplete batch stays last. Depends on the lengths, the batch size, the seed and the epoch alone.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        super().__init__(len(lengths), seed)
        self._lengths = lengths
        self._batch_size = batch_size

    def whole(self) -> list[int]:
        generator = torch.Generator().manual_seed(self._seed + self.epoch)
        order = torch.randperm(self._n, generator=generator).tolist()
        size, mega = self._batch_size, MEGABATCH * self._batch_size
        batches: list[list[int]] = []
        for start in range(0, self._n, mega):
            # sorting keeps equal lengths in their random order
            group = sorted(order[start : start + mega], key=lambda i: self._lengths[i], reverse=True)
            batches += [group[i : i + size] for i in range(0, len(group), size)]
        incomplete = [batches.pop()] if batches and len(batches[-1]) < size else []
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return [i for batch in [*shuffled, *incomplete] for i in batch]


class SortedOrder(EpochOrder):
    """Longest first, for scoring: sums over samples do not depend on the order, and batches need least padding."""

    def __init__(self, lengths: Sequence[int]) -> None:
        super().__init__(len(lengths), 0)
        self._lengths = lengths

    def whole(self) -> list[int]:
        return sorted(range(self._n), key=lambda i: self._lengths[i], reverse=True)


def epoch_order(config: RunConfig, lengths: Sequence[int], world_size: int = 1) -> EpochOrder:
    """The order of the training samples, of these lengths, that `config.padding` asks for, for `world_size` ranks."""
    if config.padding == "bucketed":
        return BucketedOrder(lengths, config.batch_size * world_size, config.seed)
    return EpochOrder(len(lengths), config.seed)


def scoring_order(config: RunConfig, lengths: Sequence[int]) -> EpochOrder | None:
    """The order of the held-out samples; None is their own."""
    return SortedOrder(lengths) if config.padding == "bucketed" else None
