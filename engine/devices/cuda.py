"""A CUDA GPU: torch's caching allocator for reserved and allocated; NVML's used comes from the sampler's door."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)

from engine.contract.cards import CardProcess
from engine.contract.config import ConfigError, RunConfig
from engine.contract.neighbours import used_by, who
from engine.contract.records import DeviceInfo, Memory
from engine.devices import visible
from engine.devices.base import FRESH_S, Device
from engine.devices.precision import refuse_types
from engine.gpus.units import MIB
from engine.process import gate
from engine.telemetry.cards import CardReader
from engine.telemetry.nvml import Nvml


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Bytes on the card outside the caching allocator, measured."""

    context: int
    """This process's CUDA context."""
    libraries: int
    """Kernels and handles of cuBLAS and the like that a first training step loads."""
    others: int
    """Everything else: other programs, what the driver keeps, kernels that were loaded later."""


_OTHER_CARD = "take another card (--device free takes an empty one), or wait"
# c10/cuda/CUDACachingAllocator.cpp: what it asked the card for, and who had it
_ASKED, _FREE = re.compile(r"Tried to allocate ([\d.]+) (\w+)"), re.compile(r"of which ([\d.]+) (\w+) is free")
_IN_USE = re.compile(r"Process (\d+) has ([\d.]+) (\w+) memory in use")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes_in(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else None


def _named_in(text: str) -> tuple[CardProcess, ...]:
    """Other processes that PyTorch names in an out-of-memory text."""
    return tuple(
        CardProcess(pid=int(pid), kind="compute", memory_used=int(float(size) * _UNITS[unit]), visible=False)
        for pid, size, unit in _IN_USE.findall(text)
        if unit in _UNITS
    )


def own_bytes(index: int, measured: Outside) -> int:
    """What this process has on the card `cuda:index`."""
    if not visible.has_context(index):
        return 0
    return measured.context + measured.libraries + torch.cuda.memory_reserved(index)


def described(index: int, nvml: Nvml, vram_limit: int | None) -> DeviceInfo:
    """The card `cuda:index`, with no more memory than `vram_limit` MiB. Makes no context."""
    card = visible.describe(index, nvml)
    if vram_limit is None or card.memory_total is None:
        return card
    return replace(card, memory_total=min(vram_limit * MIB, card.memory_total))


class CudaDevice(Device):
    """`used` is NVML's; without NVML, the driver's (`cudaMemGetInfo`)."""

    pins_memory = True
    runs_ahead = True

    def __init__(self, index: int, nvml: Nvml, vram_limit: int | None = None) -> None:
        self.index = index
        self.torch_device = torch.device("cuda", index)
        properties = torch.cuda.get_device_properties(index)
        self.capability = (properties.major, properties.minor)
        self.uuid = visible.uuid_of(index)
        self._nvml = nvml
        self._used: int | None = None
        self._peak_used = 0
        self._read_at = -FRESH_S
        self._card_total = int(properties.total_memory)  # less than NVML's by what the driver keeps
        self._limit = None if vram_limit is None else vram_limit * MIB
        self.info = described(index, nvml, vram_limit)

    def read_used(self) -> int | None:
        """Bytes in use on the whole card, as NVML says; None where it does not."""
        return self._nvml.memory_used(self.uuid)

    def refuse(self, config: RunConfig) -> None:
        assert self.capability is not None
        refuse_types(config, self.capability, self.info.name)

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

        None where this process is on the card already: then there is no telling them apart. Raises `RuntimeError` where
        the card takes no context.
        """
        if self.has_context():
            return None
        others = self.read_used()
        if others is None:
            return None
        try:
            self.create_context()
            with_context = self._device_used() - torch.cuda.memory_reserved(self.torch_device)
            self._load_libraries()
            loaded = self._device_used() - torch.cuda.memory_reserved(self.torch_device)
        finally:
            self.clean_up()
        return Outside(context=with_context - others, libraries=loaded - with_context, others=others)

    def has_context(self) -> bool:
        """Whether this process has a CUDA context on the card: a few hundred MiB."""
        return visible.has_context(self.index)

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

    def describe_out_of_memory(self, error: BaseException) -> str:
        """With whoever else is on the card, and what to do where it is they who leave no room."""
        text, said = super().describe_out_of_memory(error), str(error)
        others = self._others() or _named_in(said)
        if not others:
            return text
        asked, free = (_bytes_in(pattern, said) for pattern in (_ASKED, _FREE))
        lacked = None if asked is None or free is None else asked - free
        end = "" if text.endswith(".") else "."
        shared = f"{text}{end} The card is shared with {who(others)}."
        if lacked is not None and used_by(others) < lacked:
            return f"{shared} Without them it would not have fitted either."
        return f"{shared} They leave no room: {_OTHER_CARD}."

    def explain(self, error: BaseException) -> str | None:
        if "busy or unavailable" not in str(error):
            return None
        others = self._others()
        by = f", and {who(others)} has it" if others else ""
        return (
            f"{self.info.name} ({self.info.numbers}) takes no further process{by}: its compute mode is exclusive or "
            f"prohibited. Instead, {_OTHER_CARD}."
        )

    def _others(self) -> Sequence[CardProcess]:
        card = CardReader(self._nvml).card(self.uuid)
        return card.foreign if card is not None else ()

    def clean_up(self) -> None:
        super().clean_up()
        clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)  # they live in the allocator: 16 to 65 MiB
        if clear is not None:
            clear()
        torch.cuda.empty_cache()
