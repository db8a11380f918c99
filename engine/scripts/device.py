"""Where a script computes, as far as is known: what it may see, and what is read of it there. No torch in here.

The script chooses its device by itself; before it trains, the first card that it may see is taken for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import DeviceName, read_device, visible_name
from engine.contract.records import DeviceInfo, Memory
from engine.process.machine import Machine
from engine.process.processor import cpu_name
from engine.scripts.messages import Allocator, Card
from engine.telemetry.nvml import GpuInfo, Nvml

_VARIABLE = "CUDA_VISIBLE_DEVICES"


class ScriptDevice:
    """Of one run. What the session reads of it may be asked from any thread."""

    def __init__(self, info: DeviceInfo, nvml: Nvml) -> None:
        self._info = info
        self._nvml = nvml
        self._pid: int | None = None
        self._told: dict[int, tuple[DeviceInfo, Allocator, dict[str, int]]] = {}
        """By process that trains, what it told last."""

    @property
    def info(self) -> DeviceInfo:
        """The device that it trains on; before that the one that it is thought to."""
        return self._info

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that train; before that the command's own."""
        return tuple(self._told) or (() if self._pid is None else (self._pid,))

    def began(self, pid: int) -> None:
        """The command is under way."""
        self._pid = pid

    def found(self, info: DeviceInfo) -> None:
        """It trains there."""
        self._info = info

    def take(self, pid: int | None, info: DeviceInfo, allocator: Allocator, held: Mapping[str, int]) -> Memory:
        """A process has told of its memory: the reading with what can be seen from outside."""
        if pid is not None:
            self._told = {**self._told, pid: (info, allocator, dict(held))}
        return self._reading(pid, info, allocator, held)

    def gone(self, pid: int | None) -> None:
        """A process is there no more."""
        self._told = {each: told for each, told in self._told.items() if each != pid}

    def ended(self) -> None:
        """The command is over."""
        self._pid, self._told = None, {}

    def memory_if_known(self) -> Memory:
        """Of the fullest process that trains; before that of the command's own."""
        readings = [self._reading(pid, *told) for pid, told in self._told.items()]
        if not readings:
            return self._reading(self._pid, self._info, Allocator(), {})
        return max(readings, key=lambda memory: memory.used or 0)

    def _reading(self, pid: int | None, info: DeviceInfo, allocator: Allocator, held: Mapping[str, int]) -> Memory:
        if info.kind != "cuda":
            used, peak = _resident(pid)
            return Memory(used=used, peak_used=peak, total=info.memory_total, by_category=_by_category(held, None))
        return Memory(
            used=self._nvml.memory_used(info.uuid) if info.uuid is not None else None,
            total=info.memory_total,
            allocated=allocator.allocated,
            reserved=allocator.reserved,
            peak_allocated=allocator.peak_allocated,
            peak_reserved=allocator.peak_reserved,
            alloc_retries=allocator.alloc_retries,
            by_category=_by_category(held, allocator.allocated),
        )


def _by_category(held: Mapping[str, int], allocated: int | None) -> dict[str, int] | None:
    if not held:
        return None
    known = {
        "weights": held.get("weights", 0) + held.get("frozen", 0),
        "gradients": held.get("gradients", 0),
        "optimizer": held.get("optimizer", 0),
    }
    if allocated is not None:
        known["activations"] = max(0, allocated - sum(known.values()))
    return known


def _resident(pid: int | None) -> tuple[int | None, int | None]:
    """Bytes of a process in memory, and the most so far (VmHWM of proc(5)); None each where it is not to be seen.

    One that has ended, and was not waited for yet, has none.
    """
    if pid is None:
        return None, None
    try:
        used = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        used = 0
    if not used:
        return None, None
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        found = None
    return used, int(found[1]) * 1024 if found else None


def cpu() -> DeviceInfo:
    """The processor and the machine's memory."""
    return DeviceInfo(name=cpu_name(), kind="cpu", memory_total=Machine().memory().total, memory_label="RAM")


def card_of(card: Card, torch_version: str | None, index: int | None, nvml: Nvml) -> DeviceInfo:
    """A card as the script's process told of it. `index`: which of those that it may see, where that is known."""
    gpus = nvml.gpus()
    at = next((gpu for gpu in gpus if gpu.uuid is not None and gpu.uuid == card.uuid), None)
    found = nvml.sample(card.uuid) if card.uuid is not None else None
    total = found.memory_total if found is not None and found.memory_total is not None else card.total
    driver = nvml.driver_version()
    software = [f"driver {driver}"] if driver else []
    if torch_version is not None:
        software.append(f"PyTorch {torch_version}")
    return DeviceInfo(
        name=card.name,
        kind="cuda",
        index=index if index is not None else at.index if at is not None else 0,
        memory_total=total,
        gpu_index=at.index if at is not None and len(gpus) > 1 else None,
        uuid=card.uuid,
        software=", ".join(software) or None,
    )


def choose(config: RunConfig, nvml: Nvml, environ: Mapping[str, str] = os.environ) -> tuple[DeviceInfo, dict[str, str]]:
    """The device that a script is thought to use, and what its environment has to say for it.

    Raises `ConfigError` where it is not there.
    """
    name = read_device(config.device)
    if name.kind == "cpu":
        return cpu(), {_VARIABLE: ""}
    shown = _shown(nvml, environ)
    if name.kind == "auto":
        return (_described(shown[0], 0, nvml) if shown else cpu()), {}
    if name.free:
        indices = _free(name, nvml)
    elif name.card:
        return _by_name(name.card, config.device, nvml)
    else:
        indices = name.indices or (name.index or 0,)
    for index in indices:
        if index >= len(shown):
            raise ConfigError("device", f"--device {config.device} is not there: {_there(shown, nvml)}.")
    visible = ",".join(visible_name(index, environ) for index in indices)
    return _described(shown[indices[0]], indices[0], nvml), {_VARIABLE: visible}


def _shown(nvml: Nvml, environ: Mapping[str, str]) -> list[GpuInfo]:
    """The cards that CUDA shows to a process, in its order as far as NVML tells: that of the PCI addresses."""
    gpus = nvml.gpus()
    visible = environ.get(_VARIABLE)
    if visible is None:
        return gpus
    found = []
    for entry in (entry.strip() for entry in visible.split(",")):
        at = [gpu for gpu in gpus if entry == str(gpu.index) or (entry[4:] and (gpu.uuid or "").startswith(entry))]
        if not at:
            break  # as CUDA reads it: what follows is not shown either
        found.append(at[0])
    return found


def _by_name(card: str, text: str, nvml: Nvml) -> tuple[DeviceInfo, dict[str, str]]:
    if card.startswith("MIG-"):
        sample = nvml.sample(card)
        total = sample.memory_total if sample is not None else None
        return DeviceInfo(name=card, kind="cuda", index=0, memory_total=total, uuid=card), {_VARIABLE: card}
    found = [
        gpu
        for gpu in nvml.gpus()
        if (gpu.uuid or "").lower().startswith(card.lower()) or (gpu.pci_bus_id or "").upper() == card
    ]
    if len(found) != 1 or found[0].uuid is None:
        why = f"it is the beginning of {len(found)} UUIDs" if found else _there(nvml.gpus(), nvml)
        raise ConfigError("device", f"--device {text} is not there: {why}.")
    return _described(found[0], found[0].index, nvml), {_VARIABLE: found[0].uuid}


def _free(name: DeviceName, nvml: Nvml) -> tuple[int, ...]:
    from engine.devices import free  # it asks CUDA, and so imports torch

    return free.choose_several(name, nvml, name.count or 1)


def _there(gpus: list[GpuInfo], nvml: Nvml) -> str:
    if not gpus:
        return (nvml.status or "no GPU is shown to this process, and --device cpu always works").rstrip(".")
    return "use " + ", ".join(f"cuda:{index} ({gpu.name or 'a GPU'})" for index, gpu in enumerate(gpus))


def _described(gpu: GpuInfo, index: int, nvml: Nvml) -> DeviceInfo:
    driver = nvml.driver_version()
    info = DeviceInfo(
        name=gpu.name or "GPU",
        kind="cuda",
        index=index,
        memory_total=gpu.memory_total,
        uuid=gpu.uuid,
        software=f"driver {driver}" if driver else None,
    )
    return replace(info, gpu_index=gpu.index) if nvml.device_count() > 1 else info
