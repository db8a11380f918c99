"""Data preloading: worker processes, pinned memory and prefetching around a data set."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from engine.contract.config import RunConfig

Batch = dict[str, torch.Tensor]


class EpochOrder(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone: the order the Hugging Face Trainer uses.

    (Its sampler is `accelerate.data_loader.SeedableRandomSampler`: a generator seeded with seed + epoch.)
    """

    def __init__(self, n: int, seed: int) -> None:
        self._n = n
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self.epoch)
        return iter(torch.randperm(self._n, generator=generator).tolist())


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the workers too; the run ends them after the micro-step that still needs their batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start_forkserver() -> None:
    """Start what forks the workers, if it does not run yet.

    multiprocessing hands the descriptor of `sys.stderr` on, and what a full-screen program puts there has none.
    """
    with open(2, "w", closefd=False) as stderr, contextlib.redirect_stderr(stderr):
        forkserver.ensure_running()


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
        _start_forkserver()
        workers = {
            "multiprocessing_context": "forkserver",
            "prefetch_factor": config.dataloader_prefetch_factor,
            "persistent_workers": True,
            "worker_init_fn": _ignore_interrupts,
        }
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
