"""How fast the ranks' cards add up numbers between them: measured once, before their first run together."""

from __future__ import annotations

import logging
import time

import torch
import torch.distributed as dist

from engine.devices import link_speeds
from engine.gpus.units import MIB
from engine.techniques.parallel.exchange import gathered

log = logging.getLogger("traintop")

BUCKET = 25 * MIB
"""Bytes of a sum: what DDP sends at once unless told otherwise."""
TIMES = 20
_WARM_UP = 3


def know(device: torch.device, uuid: str | None) -> None:
    """Measure it where it is not known yet, and keep it. All ranks of the open group take part."""
    cards = [int(row[0]) for row in gathered([float(link_speeds.number_of(uuid or ""))])]
    first_knows = gathered([float(link_speeds.known(cards) is not None)])[0][0]
    if first_knows:
        return
    rate = measure(device)
    if dist.get_rank() == 0:
        log.info("the cards add up numbers at a bus bandwidth of %.1f GB/s", rate / 1e9)
        link_speeds.keep(cards, rate)


def measure(device: torch.device, times: int = TIMES) -> float:
    """Bus bandwidth of an all-reduce in bytes/s, that of the slowest rank (nccl-tests, doc/PERFORMANCE.md).

    What it allocates is given back.
    """
    ranks = dist.get_world_size()
    numbers = torch.zeros(BUCKET // 4, device=device)
    for _ in range(_WARM_UP):
        dist.all_reduce(numbers)
    _wait(device)
    gathered([0.0])  # all begin together
    began = time.perf_counter()
    for _ in range(times):
        dist.all_reduce(numbers)
    _wait(device)
    took = time.perf_counter() - began
    del numbers
    if device.type == "cuda":
        torch.cuda.empty_cache()
    slowest: float = max(row[0] for row in gathered([took]))
    return 2 * (ranks - 1) / ranks * BUCKET * times / slowest


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
