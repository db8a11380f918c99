"""Data preloading: worker processes, pinned memory and prefetching around a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from engine.contract.config import RunConfig
from engine.techniques.stopping import Stopped
from engine.techniques.workers import Workers
from engine.workloads.collate import Samples

Batch = dict[str, torch.Tensor]


class WorkerDied(Exception):  # noqa: N818 (not a defect of ours)
    """A process of the data loader is gone. The message says how, and what to do."""


class EpochOrder(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone: the order the Hugging Face Trainer uses.

    (Its sampler is `accelerate.data_loader.SeedableRandomSampler`: a generator seeded with seed + epoch.)
    """

    def __init__(self, n: int, seed: int) -> None:
        self._n = n
        self._seed = seed
        self.epoch = 0
        self.skipped = 0
        """Samples at the beginning of the epoch that an earlier run has trained on."""

    @property
    def of_all(self) -> int:
        """Samples of the epoch, those of other ranks too."""
        return self._n

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[int]:
        return iter(self.whole()[self.skipped :])

    def whole(self) -> list[int]:
        """The whole epoch's order."""
        generator = torch.Generator().manual_seed(self._seed + self.epoch)
        order: list[int] = torch.randperm(self._n, generator=generator).tolist()
        return order


class Counted(Sampler[int]):
    """An order whose places count on through the epochs: sample i of epoch e is e × n + i."""

    def __init__(self, order: EpochOrder) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        begin = self.order.epoch * self.order.of_all
        return (begin + place for place in self.order)


def build_loader(
    config: RunConfig,
    data: Dataset[Any],
    collate: Callable[[list[Any]], Batch],
    *,
    order: Sampler[int] | None,
    pin: bool,
) -> DataLoader[Any]:
    """A loader over `data`; `order` None keeps the data's own. `pin` is for devices that copy from pinned memory.

    Workers start by forkserver: the process has threads, and a fork of those can deadlock.
    """
    workers: dict[str, Any] = {}
    if config.dataloader_num_workers:
        workers = {
            "multiprocessing_context": Workers(),
            "prefetch_factor": config.dataloader_prefetch_factor,
            "persistent_workers": True,
        }
    if isinstance(data, Samples) and data.masking is not None and isinstance(order, EpochOrder):
        order = Counted(order)
    return DataLoader(
        data,
        batch_size=config.batch_size,
        sampler=order,
        collate_fn=collate,
        num_workers=config.dataloader_num_workers,
        pin_memory=config.dataloader_pin_memory and pin,
        generator=torch.Generator().manual_seed(config.seed),  # leaves the global generator to dropout
        **workers,
    )


def batches(loader: Iterable[Batch], should_stop: Callable[[], bool]) -> Iterator[Batch]:
    """One pass over `loader`. Raises `WorkerDied`, and `Stopped` when asked to stop while its workers start."""
    context = loader.multiprocessing_context if isinstance(loader, DataLoader) else None
    if not isinstance(context, Workers):
        yield from loader
        return
    try:
        iterator = iter(loader)
        if not context.wait_until_ready(should_stop):
            raise Stopped
        yield from iterator
    except (OSError, EOFError, RuntimeError) as error:  # a broken connection, or the loader's own finding
        why = context.why_ended()
        if why is None:
            raise
        if should_stop():  # what is to end everything may have reached the workers first
            raise Stopped from None
        raise WorkerDied(why) from error


def end_workers(loader: DataLoader[Any]) -> None:
    """End a loader's processes now.

    Where the garbage collector finds it, their queues are gone before they can be told, and each is waited for in vain
    for 5 seconds.
    """
    loader._iterator = None
