"""What PyTorch's own allocator did in real trainings on a GPU: the model of it, and the forecast, do the same."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.allocator.allocator import CachingAllocator
from engine.contract.config import RunConfig
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.gpus.units import MIB

_FILE = Path(__file__).with_name("h200_allocations.json.xz")
CASES: dict[str, Any] = json.loads(lzma.decompress(_FILE.read_bytes()))["cases"]
"""By name: changed knobs, measured peaks, and the events that `torch.cuda.memory._record_memory_history` saw.

On an NVIDIA H200 with driver 580 and PyTorch 2.11 for CUDA 13; each case is a process of its own.
"""
BASE = RunConfig(model="bert-base-uncased", batch_size=8)


def _events(case: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Kind (segment, alloc, free, release), bytes, and address relative to the lowest segment's."""
    for kind, size, place in zip(case["kinds"], case["sizes"], case["places"], strict=True):
        yield kind, size, place * 512


@pytest.mark.parametrize("name", CASES)
def test_every_address_is_the_one_that_was_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of requests, each at the same place, given where the driver put the segments."""
    case = CASES[name]
    segments = [(size, place) for kind, size, place in _events(case) if kind == "s"]
    asked: list[int] = []

    def addresses(_: object, n_bytes: int, alignment: int = 0) -> int:
        asked.append(n_bytes)
        return segments[len(asked) - 1][1] + MIB  # nothing lies at address 0

    monkeypatch.setattr("engine.allocator.blocks.Device.addresses", addresses)
    allocator = CachingAllocator()
    for kind, size, place in _events(case):
        if kind == "a":
            assert allocator.alloc(size) == place + MIB
        elif kind == "f":
            allocator.free(place + MIB)
        elif kind == "r":
            break  # the run is over: the cache is emptied
    assert asked == [size for size, _ in segments]
    assert allocator.peak_reserved == case["peak_reserved"]


@pytest.mark.parametrize("name", CASES)
def test_the_forecast_is_what_was_measured(name: str) -> None:
    torch.set_num_threads(1)
    case = CASES[name]
    config = BASE.with_values(**case["changes"])
    made = Forecaster().forecast(config.with_values(samples=3 * config.batch_size), find("h200"))
    assert made.peak_reserved == case["peak_reserved"]
    assert made.peak_allocated == pytest.approx(case["peak_allocated"], rel=0.001)
