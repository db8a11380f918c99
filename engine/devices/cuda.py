"""A CUDA GPU: torch's caching allocator for reserved and allocated; NVML's used comes from the sampler's door."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import DeviceInfo, Memory
from engine.devices.base import FRESH_S, Device
from engine.gpus.units import MIB
from engine.process import gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Bytes on the card outside the caching allocator, measured."""

    context: int
    """This process's CUDA context."""
    libraries: int
    """Kernels and handles of cuBLAS and the like that a first training step loads."""
    others: int
    """Everything else: other programs, what the driver keeps, kernels that were loaded later."""


class CudaDevice(Device):
    """`used` is read through `read_used` (NVML); without it, from the driver (`cudaMemGetInfo`)."""

    pins_memory = True
    runs_ahead = True

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
        self._limit = None if vram_limit is None else vram_limit * MIB
        self._describe(self._card_total)

    def _describe(self, total: int) -> None:
        limit = total if self._limit is None else min(self._limit, total)
        index = self.torch_device.index
        self.info = DeviceInfo(name=self.properties.name, kind="cuda", index=index, memory_total=limit)

    def read_from(self, read_used: Callable[[], int | None], total: int | None) -> None:
        """Take used memory from NVML, and with it the card's total: CUDA's is less by what the driver keeps."""
        self.read_used = read_used
        if total is not None:
            self._describe(total)

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
        with gate.tf32(config.precision == "tf32"):
            torch.cuda.set_device(self.torch_device)
            try:
                if self._limit is not None:
                    self._cap_allocator(self._limit)
                yield
            finally:
                if self._limit is not None:
                    torch.cuda.set_per_process_memory_fraction(1.0, self.torch_device)

    def _cap_allocator(self, limit: int) -> None:
        """Leave the allocator what a card of `limit` bytes would: all else that is in use takes its part too.

        (`set_per_process_memory_fraction` counts the caching allocator's segments alone.)
        """
        self.create_context()
        self._load_libraries()
        outside = max(0, self._device_used() - torch.cuda.memory_reserved(self.torch_device))
        if limit <= outside:
            raise ConfigError(
                "vram_limit",
                f"--vram-limit {limit // MIB} is less than the CUDA context, the libraries and other programs take "
                f"({outside // MIB} MiB): use --vram-limit {outside // MIB + 100} or more.",
            )
        fraction = min(1.0, (limit - outside) / self._card_total)
        torch.cuda.set_per_process_memory_fraction(fraction, self.torch_device)

    def measure_outside(self) -> Outside | None:
        """Put a context and the libraries on the card, and see what they take.

        None where this process is on the card already: then there is no telling them apart.
        """
        if self.has_context():
            return None
        others = self.read_used()
        if others is None:
            return None
        self.create_context()
        with_context = self._device_used() - torch.cuda.memory_reserved(self.torch_device)
        self._load_libraries()
        loaded = self._device_used() - torch.cuda.memory_reserved(self.torch_device)
        self.clean_up()
        return Outside(context=with_context - others, libraries=loaded - with_context, others=others)

    def has_context(self) -> bool:
        """Whether this process has a CUDA context on the card: a few hundred MiB."""
        return bool(torch._C._cuda_hasPrimaryContext(self.torch_device.index))  # type: ignore[attr-defined]

    def others_now(self, measured: Outside) -> int:
        """`Outside.others` as it is now, in bytes."""
        own = measured.context + measured.libraries + torch.cuda.memory_reserved(self.torch_device)
        return max(0, self._device_used() - own)

    def _load_libraries(self) -> None:
        """A small training step: CUDA loads kernels when they are first used."""
        layer = torch.nn.Linear(64, 64, device=self.torch_device)
        optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
        source = torch.ones((1, 1, 64, 64), device=self.torch_device)
        mixed = F.scaled_dot_product_attention(layer(source), source, source)
        F.cross_entropy(F.layer_norm(F.gelu(mixed), (64,))[0, 0, :1], source[0, 0, :1]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        self.synchronize()

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
        clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)  # they live in the allocator: 16 to 65 MiB
        if clear is not None:
            clear()
        torch.cuda.empty_cache()
