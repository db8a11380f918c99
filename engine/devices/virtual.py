"""A virtual GPU: a card of the catalogue on a machine that lacks it.

The run trains for real on the CPU, while every tensor is accounted for as that card's caching allocator would hold
it; going over its memory raises a real `torch.OutOfMemoryError` from inside the operation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from engine.allocator.options import AllocatorOptionError, AllocatorOptions
from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import DeviceInfo, Memory, Phase
from engine.devices.base import Device, T
from engine.devices.host import Host
from engine.devices.precision import Precision, TracedPrecision, refuse_types
from engine.gpus.catalogue import Gpu, find
from engine.gpus.units import MIB
from engine.tracing.live import LiveAllocator, LiveTracker, memory_of
from engine.tracing.stack import CURRENT


def described(name: str, config: RunConfig) -> DeviceInfo:
    """The card `name` of the catalogue as runs with `config` have it."""
    gpu = find(name)
    return DeviceInfo(name=gpu.name, kind="virtual", memory_total=_limit(gpu, config))


def _limit(gpu: Gpu, config: RunConfig) -> int:
    return gpu.memory_total if config.vram_limit is None else min(gpu.memory_total, config.vram_limit * MIB)


class VirtualDevice(Device):
    """One run's card, called `name` in the catalogue; `config.vram_limit` makes it smaller, as on a real one."""

    def __init__(self, name: str, config: RunConfig) -> None:
        self.gpu = find(name)
        self.torch_device = torch.device("cpu")
        self.capability = self.gpu.compute_capability
        self.info = described(name, config)
        self.limit = _limit(self.gpu, config)
        self._context, self._libraries = CURRENT.outside(self.gpu)
        self._precision = TracedPrecision(config.precision, "cpu")
        self._allocator = self._new_allocator()
        is_divided = config.is_parallel and config.parallel == "fsdp"
        self._tracker = LiveTracker(self._allocator, self.gpu, self._precision.policy, is_divided=is_divided)
        self._has_context = False

    def _new_allocator(self) -> LiveAllocator:
        try:
            options = AllocatorOptions.from_environment(os.environ)
        except AllocatorOptionError as error:
            raise ConfigError("device", f"PYTORCH_CUDA_ALLOC_CONF cannot be followed: {error}") from None
        capacity = max(0, self.limit - self._context - self._libraries)
        return LiveAllocator(capacity, self.limit, options)

    def refuse(self, config: RunConfig) -> None:
        needed = -(-(self._context + self._libraries) // MIB)
        if self.limit <= self._context + self._libraries:
            raise ConfigError(
                "vram_limit",
                f"--vram-limit {config.vram_limit} is less than the CUDA context and libraries take ({needed} MiB): "
                f"use --vram-limit {needed + 100} or more.",
            )
        refuse_types(config, self.gpu.compute_capability, self.gpu.name)

    @contextmanager
    def tracking(self) -> Iterator[None]:
        with self._tracker.tracking():
            yield

    def precision(self, config: RunConfig) -> Precision:
        """With CUDA's autocast policy, which is not the CPU's."""
        return self._precision

    def create_context(self) -> None:
        self._has_context = True

    def adopt(self, model: torch.nn.Module) -> None:
        self._tracker.adopt(model)

    @contextmanager
    def on_host(self) -> Iterator[None]:
        with self._tracker.on_host():
            yield

    @contextmanager
    def dividing(self, weights: Sequence[torch.Tensor], buffers: Sequence[torch.Tensor]) -> Iterator[None]:
        with self._tracker.dividing(weights, buffers):
            yield

    accounts = True

    @contextmanager
    def answering(self, kind: Hashable, is_whole: Callable[[], bool] = lambda: True) -> Iterator[None]:
        with self._tracker.answering(kind, is_whole):
            yield

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:
        self._tracker.keep(tensors)

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:
        self._tracker.hold(tensors)

    @contextmanager
    def sharing(self) -> Iterator[None]:
        with self._tracker.sharing():
            yield

    def adopt_states(self, states: Iterable[torch.Tensor]) -> None:
        self._tracker.adopt_states(states)

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """What the host does to make a batch is not on the card."""
        with self._tracker.on_host():
            loaded = iter(loader)
        while True:
            with self._tracker.on_host():
                batch = next(loaded, None)
            if batch is None:
                return
            yield batch

    def place(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self._tracker.place(batch)
        return batch

    def host(self, config: RunConfig) -> Host:
        """The machine's memory is the card's as well: what waits in it is not accounted for."""
        return self._tracker.host()

    def enter(self, phase: Phase) -> None:
        self._tracker.enter(phase)

    def mark(self) -> float:
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def synchronize(self) -> None:
        """The CPU has always done what it was given."""

    def memory(self) -> Memory:
        if not self._has_context:
            return Memory(used=0, reserved=0, allocated=0, peak_used=0, total=self.limit)
        return memory_of(self._allocator, self._context, self._libraries, self.limit)

    def reset_peaks(self) -> None:
        """Every run has a card of its own: nothing is carried over from the last one."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, torch.OutOfMemoryError)  # the host's memory is another

    @property
    def is_tracing(self) -> bool:
        """False once updates, or the batches of answers, repeat."""
        return self._tracker.is_tracing

    def clean_up(self) -> None:
        super().clean_up()
        self._allocator = self._new_allocator()
