"""CPU and RAM of the host and of this process, by psutil; RAM within the limit of the container."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from engine.contract.records import HostSample
from engine.process.machine import Machine, known
from engine.process.others import Cores, Others

_N = TypeVar("_N", int, float)

_SHORTEST_S = 0.1
"""psutil's advice: a CPU share over a shorter interval is noise, as the kernel counts in ticks of 10 ms."""


class HostSampler:
    """Reads the host. `sample` never blocks and never raises on what the platform hides: such fields are None.

    CPU shares cover the time since the sample before, so the first has none. They count the host's cores, in a
    container too. The process's figures leave out data-loader workers, which are processes of their own; they are those
    of `computing` together, where there are any: processes that compute in this one's place.
    `proc` and `cgroup` are the kernel's file systems; `launcher` as `Others` has it.
    """

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
        launcher: int | None = None,
        computing: Callable[[], tuple[int, ...]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._machine = Machine(proc=proc, cgroup=cgroup)
        self._others = Others(proc=proc, cgroup=cgroup, launcher=launcher)
        self._clock = clock
        self._computing = computing
        self._processes: dict[int, psutil.Process] = {}
        self._read_at = float("-inf")
        self._times: tuple[float, float] | None = None
        self._cpu: float | None = None
        self._process_cpu: float | None = None
        self._cores: Cores | None = None

    def sample(self) -> HostSample:
        """One reading; memory in bytes, CPU in percent (of all cores; of one core for the process)."""
        self._find_processes()
        self._read_cpu()
        memory, cores = self._machine.memory(), self._cores
        return HostSample(
            cpu=self._cpu,
            process_cpu=self._process_cpu,
            memory_used=memory.used,
            memory_total=memory.total,
            process_memory=_sum(known(partial(_resident, each)) for each in self._processes.values()),
            cores=None if cores is None else cores.cores,
            free_cores=None if cores is None else cores.free,
        )

    def _find_processes(self) -> None:
        pids = self._computing() or (os.getpid(),)
        before, self._processes = self._processes, {}
        for pid in pids:
            found = before.get(pid) or known(partial(psutil.Process, pid))
            if found is not None:
                self._processes[pid] = found
                if pid not in before:
                    known(partial(found.cpu_percent, None))  # from now on

    def _read_cpu(self) -> None:
        now = self._clock()
        if now - self._read_at < _SHORTEST_S:
            return
        first = self._read_at == float("-inf")
        self._read_at = now
        before, self._times = self._times, known(_cpu_times)
        self._cpu = _share(before, self._times)
        self._cores = self._others.read()
        process_cpu = _sum(known(partial(each.cpu_percent, None)) for each in self._processes.values())
        self._process_cpu = None if first else process_cpu


def _resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def _sum(values: Iterable[_N | None]) -> _N | None:
    """Of what is known; None where nothing is."""
    found = [value for value in values if value is not None]
    return sum(found[1:], found[0]) if found else None


def _cpu_times() -> tuple[float, float]:
    """(busy, all) CPU seconds since boot. psutil.cpu_percent would keep its last reading apart for each thread."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # both are in user and nice
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _share(before: tuple[float, float] | None, now: tuple[float, float] | None) -> float | None:
    if before is None or now is None or now[1] <= before[1]:
        return None
    return min(100.0, max(0.0, 100.0 * (now[0] - before[0]) / (now[1] - before[1])))
