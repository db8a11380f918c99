"""The one door to NVML, and the only importer of `pynvml` (distribution nvidia-ml-py).

Nothing here raises because of a driver, a card or a missing library: what is not known is None, and
`Nvml.status` says in a sentence why there is nothing to know.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, TypeVar

from engine.contract.records import GpuSample

_T = TypeVar("_T")

GpuKey = int | str
"""An NVML index, a UUID (with or without `GPU-` or `MIG-`) or a PCI bus id (`00000000:3B:00.0`).

CUDA ordinals are not NVML indexes: `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` reorder the former only.
For the GPU that torch computes on, use the UUID of `torch.cuda.get_device_properties(i).uuid`.
"""

# nvmlReturn_t of nvml.h, by number because an older binding lacks the newer names
_UNINITIALIZED, _NOT_SUPPORTED, _NO_PERMISSION, _NOT_FOUND, _DRIVER_NOT_LOADED = 1, 3, 4, 6, 9
_LIBRARY_NOT_FOUND, _FUNCTION_NOT_FOUND, _GPU_IS_LOST, _RESET_REQUIRED = 12, 13, 15, 16
_VERSION_MISMATCH, _ARGUMENT_VERSION_MISMATCH, _DEPRECATED, _GPU_NOT_FOUND, _UNKNOWN = 18, 25, 26, 28, 999
_UNANSWERED = {_NO_PERMISSION, _NOT_FOUND}  # no figure, but the handle lives
_NEVER = {_NOT_SUPPORTED, _FUNCTION_NOT_FOUND, _ARGUMENT_VERSION_MISMATCH, _DEPRECATED}
_LOST = {_UNINITIALIZED, _DRIVER_NOT_LOADED, _GPU_IS_LOST, _RESET_REQUIRED, _GPU_NOT_FOUND}

_REASONS = {
    _DRIVER_NOT_LOADED: "The NVIDIA driver is not loaded: run nvidia-smi, or load it with: sudo modprobe nvidia.",
    _NO_PERMISSION: "No permission to ask the NVIDIA driver: give this user access to the /dev/nvidia* files.",
    _VERSION_MISMATCH: "The NVIDIA driver was updated while it ran (library and kernel module differ): reboot.",
    _GPU_IS_LOST: "A GPU has fallen off the bus: look for Xid lines in dmesg; a reboot usually brings it back.",
}
TEMPERATURE_GPU, CLOCK_SM, CLOCK_MEMORY = 0, 1, 2  # nvmlTemperatureSensors_t, nvmlClockType_t
_NEEDED = ("NVMLError", "nvmlInit", "nvmlDeviceGetComputeRunningProcesses_v3")
# the current name first, then that of older drivers
TEMPERATURE = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
POWER_LIMIT = ("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit")
COMPUTE_PROCESSES = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
_WRONG_MODULE = (
    "The installed module pynvml is not NVIDIA's current one: run pip uninstall pynvml nvidia-ml-py3, "
    "then pip install --force-reinstall nvidia-ml-py."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """What stays the same about one GPU; each field None where the driver does not say."""

    index: int
    """NVML index, as nvidia-smi counts."""
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    memory_total: int | None = None  # in bytes


class GpuLostError(Exception):
    """The GPU or the driver went away; only a new start of NVML can find it again."""


class Gpu:
    """A GPU, or a MIG instance of one, as long as its handle lives: questions to it."""

    def __init__(self, lib: Any, handle: Any) -> None:
        self._lib, self.handle = lib, handle
        self._never: set[tuple[Any, ...]] = set()
        """Calls, with their arguments, that this GPU or driver does not have."""
        self.failed = False
        """A call failed, in this reading, for a reason that may pass."""
        self.kept: dict[str, Any] = {}
        """What a reader keeps of it from reading to reading: it goes with the handle."""

    def ask(self, function: str, *arguments: Any) -> Any:
        """One call about this GPU; None where it has no answer. Raises `GpuLostError`."""
        call = getattr(self._lib, function, None)
        if call is None or (function, *arguments) in self._never:
            return None
        try:
            return call(self.handle, *arguments)
        except self._lib.NVMLError as error:
            if error.value in _LOST:
                raise GpuLostError from None
            if error.value in _NEVER:
                self._never.add((function, *arguments))
            elif error.value not in _UNANSWERED:
                self.failed = True
        except UnicodeDecodeError:  # a name that is not text
            self._never.add((function, *arguments))
        return None

    def first(self, functions: tuple[str, ...], *arguments: Any) -> Any:
        """The answer of the first of several calls, the current name first, that has one."""
        answers = (self.ask(function, *arguments) for function in functions)
        return next((answer for answer in answers if answer is not None), None)

    def part(self, handle: Any) -> Gpu:
        """A MIG instance of this card."""
        return Gpu(self._lib, handle)


class Nvml:
    """Readings of NVIDIA GPUs. Thread-safe; NVML starts with the first question, not with the object.

    A start that fails is remembered and tried again after `retry_s` seconds (of `clock`), so that a driver
    which appears later is found without asking for it at every reading.
    """

    def __init__(self, *, retry_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry_s = retry_s
        self._clock = clock
        self._lock = threading.RLock()
        self._lib: Any = None
        self._status = ""
        self._retry_at = float("-inf")
        self._gpus: dict[GpuKey, Gpu] = {}
        self._lost: dict[GpuKey, float] = {}  # when to look again

    @property
    def status(self) -> str | None:
        """Why NVML is not there and what to do, in one sentence; None when it works."""
        with self._lock:
            return None if self._started() else self._status

    def driver_version(self) -> str | None:
        """The driver's version, such as `535.129.03`."""
        version: str | None = self._ask_system("nvmlSystemGetDriverVersion")
        return version

    def cuda_version(self) -> str | None:
        """The newest CUDA version that the driver can run, such as `12.4`."""
        version = self._ask_system("nvmlSystemGetCudaDriverVersion")
        return None if version is None else f"{version // 1000}.{version % 1000 // 10}"

    def device_count(self) -> int:
        """How many GPUs the driver shows to this process; 0 without NVML."""
        return int(self._ask_system("nvmlDeviceGetCount") or 0)

    def gpus(self) -> list[GpuInfo]:
        """Every GPU that the driver shows, in NVML's order; empty without NVML."""
        with self._lock:
            blank = [GpuInfo(index=index) for index in range(self.device_count())]
            return [self.reading(gpu.index, partial(self._read_info, gpu.index), gpu) or gpu for gpu in blank]

    def sample(self, key: GpuKey) -> GpuSample | None:
        """One reading of one GPU. None without NVML or without such a GPU; nothing but `lost` while it is away.

        `memory_used` is the `used` of the plain, version 1 `nvmlDeviceGetMemoryInfo`: all processes plus what
        the driver keeps for itself, so that used + free = total. It is the figure the lecture printed and the one
        that an out-of-memory error depends on. Since driver 510 nvidia-smi shows version 2's `used`, without the
        driver's share (a few hundred MiB).

        A MIG instance (by its `MIG-` UUID) has memory figures of its own; the rest is usually unknown.
        """
        return self.reading(key, self._read, GpuSample(lost=True))

    def memory_used(self, key: GpuKey) -> int | None:
        """Bytes in use on the GPU, as `sample` reads them, without the cost of the other readings."""
        memory = self.reading(key, lambda gpu: gpu.ask("nvmlDeviceGetMemoryInfo"), None)
        return None if memory is None else int(memory.used)

    def processes(self, key: GpuKey) -> list[tuple[int, int | None]] | None:
        """Who else computes on the GPU: (pid, used bytes or None) of every process but this one; None: unknown.

        Pids are the host's: in a container with its own process numbers this process is listed too.
        """
        return self.reading(key, self._read_processes, None)

    def shutdown(self) -> None:
        """Let go of NVML. A later question starts it again."""
        with self._lock:
            self._stop()
            self._lost.clear()
            self._retry_at = float("-inf")

    def _started(self) -> bool:
        if self._lib is None and self._clock() >= self._retry_at:
            self._start()
        return self._lib is not None

    def _start(self) -> None:
        self._retry_at = self._clock() + self._retry_s
        try:
            import pynvml
        except Exception as error:  # a module of that name from elsewhere may fail in any way
            self._status = f"nvidia-ml-py cannot be imported ({type(error).__name__}): run pip install nvidia-ml-py."
            return
        if not all(hasattr(pynvml, name) for name in _NEEDED):
            self._status = _WRONG_MODULE
            return
        try:
            pynvml.nvmlInit()
            self._lib, self._retry_at = pynvml, float("-inf")
        except pynvml.NVMLError as error:
            self._status = _reason(error)

    def _stop(self) -> None:
        lib, self._lib = self._lib, None
        self._gpus.clear()
        if lib is not None:
            with suppress(lib.NVMLError):  # already stopped, or the driver is gone: nothing is left to let go of
                lib.nvmlShutdown()

    def _ask_system(self, function: str) -> Any:
        with self._lock:
            try:
                return getattr(self._lib, function)() if self._started() else None
            except self._lib.NVMLError as error:
                if error.value == _UNINITIALIZED:  # stopped behind our back; the next question starts it
                    self._stop()
                return None

    def reading(self, key: GpuKey, read: Callable[[Gpu], _T], lost: _T) -> _T | None:
        """What `read` says of the GPU, `lost` while the GPU is away, None when there is no such GPU.

        `read` runs with NVML held for it, and may raise `GpuLostError`.
        """
        with self._lock:
            return self._reading(key, read, lost)

    def _reading(self, key: GpuKey, read: Callable[[Gpu], _T], lost: _T) -> _T | None:
        if key in self._lost:
            if self._clock() < self._lost[key]:
                return lost
            self._stop()  # handles survive neither a reset of the GPU nor a reload of the driver
        if not self._started():
            return None
        try:
            gpu = self._find(key)
            answer = None if gpu is None else read(gpu)
        except GpuLostError:
            # at once the first time (a stop behind our back heals at once), then rarely: starting takes long
            self._lost[key] = self._clock() + (self._retry_s if key in self._lost else 0.0)
            return lost
        self._lost.pop(key, None)
        return answer

    def _find(self, key: GpuKey) -> Gpu | None:
        if key in self._gpus:
            return self._gpus[key]
        for function, argument in _lookups(key):
            try:
                return self._gpus.setdefault(key, Gpu(self._lib, getattr(self._lib, function)(argument)))
            except self._lib.NVMLError as error:
                if error.value in _LOST - {_GPU_NOT_FOUND} or error.value == _UNKNOWN:
                    raise GpuLostError from None
        if key in self._lost:
            raise GpuLostError
        return None

    def _read(self, gpu: Gpu) -> GpuSample:
        gpu.failed = False
        if gpu.kept.get("name") is None:
            gpu.kept["name"] = gpu.ask("nvmlDeviceGetName")
        busy = gpu.ask("nvmlDeviceGetUtilizationRates")
        memory = gpu.ask("nvmlDeviceGetMemoryInfo")
        power = gpu.ask("nvmlDeviceGetPowerUsage")
        limit = gpu.first(POWER_LIMIT)
        sample = GpuSample(
            name=gpu.kept["name"],
            utilization=None if busy is None else float(busy.gpu),
            memory_utilization=None if busy is None else float(busy.memory),
            memory_used=None if memory is None else memory.used,
            memory_total=None if memory is None else memory.total,
            power=None if power is None else power / 1000,
            power_limit=None if limit is None else limit / 1000,
            temperature=gpu.first(TEMPERATURE, TEMPERATURE_GPU),
            sm_clock=gpu.ask("nvmlDeviceGetClockInfo", CLOCK_SM),
            memory_clock=gpu.ask("nvmlDeviceGetClockInfo", CLOCK_MEMORY),
        )
        # one field may fail on its own for long; when none answers, the handle is dead
        if gpu.failed and replace(sample, name=None) == GpuSample():
            raise GpuLostError
        return sample

    def _read_processes(self, gpu: Gpu) -> list[tuple[int, int | None]] | None:
        found = gpu.first(COMPUTE_PROCESSES)
        others = (process for process in found or () if process.pid != os.getpid())
        return None if found is None else [(process.pid, process.usedGpuMemory) for process in others]

    def _read_info(self, index: int, gpu: Gpu) -> GpuInfo:
        pci = gpu.ask("nvmlDeviceGetPciInfo_v3")
        memory = gpu.ask("nvmlDeviceGetMemoryInfo")
        return GpuInfo(
            index=index,
            name=gpu.ask("nvmlDeviceGetName"),
            uuid=gpu.ask("nvmlDeviceGetUUID"),
            pci_bus_id=None if pci is None else str(pci.busId),
            memory_total=None if memory is None else memory.total,
        )


@cache
def door() -> Nvml:
    """This process's one `Nvml`: to find a lost GPU again NVML has to be stopped, by all who started it."""
    return Nvml()


def _lookups(key: GpuKey) -> Iterator[tuple[str, GpuKey]]:
    if isinstance(key, int):
        yield "nvmlDeviceGetHandleByIndex", key
    elif ":" in key:
        yield "nvmlDeviceGetHandleByPciBusId", key
    elif key.startswith(("GPU-", "MIG-")):
        yield "nvmlDeviceGetHandleByUUID", key
    else:  # torch writes UUIDs bare
        yield "nvmlDeviceGetHandleByUUID", f"GPU-{key}"
        yield "nvmlDeviceGetHandleByUUID", f"MIG-{key}"


def _reason(error: Any) -> str:
    if error.value != _LIBRARY_NOT_FOUND:
        return _REASONS.get(error.value) or f"NVML did not start ({error}): run nvidia-smi to see what the driver says."
    library = {"win32": "nvml.dll", "darwin": "NVML for macOS"}.get(sys.platform, "libnvidia-ml.so.1")
    return (
        f"No NVIDIA driver: {library} was not found. Install the driver; "
        "a container needs to be started with its GPUs (docker run --gpus all)."
    )
