"""A CUDA GPU: torch's caching allocator for reserved and allocated; NVML's used comes from the sampler's door."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from engine.config import ConfigError, RunConfig
from engine.devices.base import FRESH_S, Device
from engine.events import DeviceInfo, Memory
from engine.units import MIB


class CudaDevice(Device):
    """`used` is read through `read_used` (NVML); without it, from the driver (`cudaMemGetInfo`)."""

    pins_memory = True

    def __init__(self, index: int, vram_limit: int | None = None) -> None:
        self.torch_device = torch.device("cuda", index)
        self.properties = torch.cuda.get_device_properties(index)
        self.capability = (self.properties.major, self.properties.minor)
        self.uuid = str(self.properties.uuid)
        """NVML knows the GPU by it; ordinals differ under CUDA_VISIBLE_DEVICES."""
        self._used: int | None = None
        self._peak_used = 0
        self._read_at = -FRESH_S
        self.read_used: Callable[[], int | None] = lambda: None
        self._card_total = int(self.properties.total_memory)
        self._limit = None if vram_limit is None else min(vram_limit * MIB, self._card_total)
        total = self._limit or self._card_total
        self.info = DeviceInfo(name=self.properties.name, kind="cuda", index=index, memory_total=total)

    def refuse(self, config: RunConfig) -> None:
        assert self.capability is not None
        if config.precision in ("tf32", "bf16") and self.capability < (8, 0):
            raise ConfigError(
                "precision",
                f"--precision {config.precision} needs compute capability 8.0 or newer; {self.info.name} has "
                f"{self.capability[0]}.{self.capability[1]}: use --precision fp16 or fp32.",
            )

    @contextmanager
    def settings(self, config: RunConfig) -> Iterator[None]:
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
        torch.cuda.set_device(self.torch_device)
        try:
            if self._limit is not None:
                self._cap_allocator(self._limit)
            yield
        finally:
            if self._limit is not None:
                torch.cuda.set_per_process_memory_fraction(1.0, self.torch_device)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before

    def _cap_allocator(self, limit: int) -> None:
        """Leave the allocator what a card of `limit` bytes would: the context and the libraries take their part too.

        (`set_per_process_memory_fraction` counts the caching allocator's segments alone.)
        """
        self.create_context()
        square = torch.ones((64, 64), device=self.torch_device)
        _ = square @ square  # loads the libraries
        free, total = torch.cuda.mem_get_info(self.torch_device)
        outside = max(0, total - free - torch.cuda.memory_reserved(self.torch_device))
        if limit <= outside:
            raise ConfigError(
                "vram_limit",
                f"--vram-limit {limit // MIB} is less than the CUDA context, the libraries and other programs take "
                f"({outside // MIB} MiB): use --vram-limit {outside // MIB + 100} or more.",
            )
        torch.cuda.set_per_process_memory_fraction((limit - outside) / total, self.torch_device)

    def mark(self) -> torch.cuda.Event:
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return float(start.elapsed_time(end)) / 1000

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.torch_device)

    def memory(self) -> Memory:
        now = time.monotonic()
        if now - self._read_at >= FRESH_S:
            self._read_at = now
            self._used = self._device_used()
            self._peak_used = max(self._peak_used, self._used)
        stats = torch.cuda.memory_stats(self.torch_device)  # empty before the first allocation
        return Memory(
            used=self._used,
            reserved=stats.get("reserved_bytes.all.current", 0),
            allocated=stats.get("allocated_bytes.all.current", 0),
            peak_used=self._peak_used,
            peak_reserved=stats.get("reserved_bytes.all.peak", 0),
            peak_allocated=stats.get("allocated_bytes.all.peak", 0),
            total=self.info.memory_total,
            alloc_retries=stats.get("num_alloc_retries", 0),
        )

    def _device_used(self) -> int:
        used = self.read_used()
        if used is None:  # no NVML: the driver's own answer
            free, total = torch.cuda.mem_get_info(self.torch_device)
            used = total - free
        return used

    def reset_peaks(self) -> None:
        self._peak_used, self._read_at = 0, -FRESH_S
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def is_out_of_memory(self, error: BaseException) -> bool:
        # cuBLAS and cuDNN say it in their own words when they cannot allocate a workspace or handle
        text = str(error)
        return isinstance(error, torch.OutOfMemoryError) or (
            isinstance(error, RuntimeError)
            and any(words in text for words in ("CUDA out of memory", "ALLOC_FAILED", "CUDA error: out of memory"))
        )

    def clean_up(self) -> None:
        super().clean_up()
        torch.cuda.empty_cache()
