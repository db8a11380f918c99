"""The CPU: its memory is the process's resident memory, labelled RAM."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psutil
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import DeviceInfo, Memory
from engine.devices import host_memory
from engine.devices.base import FRESH_S, Device
from engine.process.machine import Machine
from engine.process.processor import cpu_name

_RESIDENT = re.compile(rb"VmHWM:\s+(\d+) kB\nVmRSS:\s+(\d+) kB")
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class CpuDevice(Device):
    """Real CPU training. Peaks are exact where Linux keeps them (VmHWM), else the highest reading."""

    def __init__(self) -> None:
        self.torch_device = torch.device("cpu")
        self._process = psutil.Process()
        self._used = self._peak = 0
        self._read_at = -FRESH_S
        self._exact_peak = False
        self.info = DeviceInfo(name=cpu_name(), kind="cpu", memory_total=Machine().memory().total, memory_label="RAM")

    def refuse(self, config: RunConfig) -> None:
        if config.precision == "fp16":
            raise ConfigError("precision", "--precision fp16 needs a CUDA GPU: on a CPU use --precision bf16 or fp32.")
        if config.precision == "tf32":
            raise ConfigError(
                "precision",
                "--precision tf32 needs a CUDA GPU of compute capability 8.0 or newer: use --precision fp32.",
            )

    def mark(self) -> float:
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def synchronize(self) -> None:
        """The CPU has always done what it was given."""

    def memory(self) -> Memory:
        now = time.monotonic()
        if now - self._read_at >= FRESH_S:
            self._read_at = now
            known = _resident()
            self._used, highest = known or (self._process.memory_info().rss, 0)
            self._peak = max(self._peak, self._used, highest if self._exact_peak else 0)
        return Memory(used=self._used, peak_used=self._peak, total=self.info.memory_total)

    def reset_peaks(self) -> None:
        self._peak, self._read_at = 0, -FRESH_S
        try:
            _CLEAR_REFS.write_text("5")  # proc(5): resets the peak resident set size
            self._exact_peak = True
        except OSError:
            self._exact_peak = False

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, torch.OutOfMemoryError) or host_memory.ran_out(error)

    def describe_out_of_memory(self, error: BaseException) -> str:
        if host_memory.ran_out(error):
            return f"{host_memory.described(error)}."
        return super().describe_out_of_memory(error)


def _resident() -> tuple[int, int] | None:
    """The process's resident bytes and the most since the peak was reset, in one reading; None where it is not Linux's.

    Asked while a model writes: to ask psutil, and the file once more for the peak, took four times as long.
    """
    try:
        found = _RESIDENT.search(_STATUS.read_bytes())
    except OSError:
        return None
    return (int(found[2]) * 1024, int(found[1]) * 1024) if found else None
