"""The processor time that other programs take from this one: of the cores that it may use, not of the machine.

What counts is every tick in which one of those cores was busy with a process that is not ours, or was stolen by the
hypervisor; niceness does not matter: a program of niceness 19 beside it on two cores made bert-tiny's two threads wait
for each other as long as one of niceness 0 did. Linux only; elsewhere nothing is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.process.machine import Machine, Quota, allowed_cpus, number_of, statistic, text_of

_SAME_FOR = 10
"""Readings. Affinity and quotas hardly ever change, and to read them took as long as all the rest."""
_MAX_PROCESSES = 500  # of ours; data-loader workers and ranks are tens


class Cores(NamedTuple):
    """Over an interval, on average."""

    cores: float
    """That this process may use."""
    free: float
    """Of them: not taken by others. At least 0."""


class _Reading(NamedTuple):
    n: int
    """Processors that were looked at."""
    total: float
    """Seconds of all of them, idle ones included."""
    taken: float
    """Of those: busy, whoever it was, or stolen."""
    own: float
    """Processor seconds of this process, those that train with it, and their children, ended ones included."""
    group: float | None
    """Processor seconds of the control group whose quota binds."""
    quota: Quota | None


class Others:
    """Tells what others took since it was asked last. `proc` and `cgroup` are the kernel's file systems.

    `launcher` is the process that started this one and those that train with it, such as torchrun's: they are ours.
    """

    def __init__(
        self, *, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup"), launcher: int | None = None
    ) -> None:
        self._proc = proc
        self._launcher = launcher
        self._machine = Machine(proc=proc, cgroup=cgroup)
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
        self._before: _Reading | None = None
        self._n_read = 0
        self._cpus: frozenset[int] | None = None
        self._quota: Quota | None = None

    def read(self) -> Cores | None:
        """The cores since the reading before; None for the first, and where the kernel does not tell."""
        before, self._before = self._before, self._read()
        now = self._before
        if before is None or now is None or now.n != before.n or now.total <= before.total:
            return None
        elapsed = (now.total - before.total) / now.n
        own = max(0.0, now.own - before.own)
        free = now.n - max(0.0, now.taken - before.taken - own) / elapsed
        cores = float(now.n)
        if now.quota is not None:
            in_group = 0.0
            if now.group is not None and before.group is not None and before.quota is not None:
                in_group = max(0.0, now.group - before.group - own) / elapsed
            cores = min(cores, now.quota.cores)
            free = min(free, now.quota.cores - in_group)
        return Cores(cores, min(cores, max(0.0, free)))

    def _read(self) -> _Reading | None:
        if self._n_read % _SAME_FOR == 0:
            self._cpus, self._quota = self._machine.cpus(), self._machine.quota()
        self._n_read += 1
        lines = dict(_cpu_lines(text_of(self._proc / "stat") or ""))
        cpus, quota = self._cpus, self._quota
        chosen = [lines[cpu] for cpu in cpus if cpu in lines] if cpus else []
        chosen = chosen or list(lines.values())  # a container may have its own numbers
        own = self._own()
        if not chosen or own is None:
            return None
        total, taken = (sum(values) * self._tick_s for values in zip(*map(_sums, chosen), strict=True))
        return _Reading(len(chosen), total, taken, own, None if quota is None else self._used(quota), quota)

    def _own(self) -> float | None:
        """Read after the cores: what it does in between counts as neither."""
        ticks, waiting, seen = 0, ["self", *self._beside()], 0
        while waiting and seen < _MAX_PROCESSES:
            process = self._proc / waiting.pop()
            seen += 1
            # after the name, which may hold anything: state is field 3, utime to cstime are 14 to 17 (proc(5))
            values = (text_of(process / "stat") or "").rpartition(")")[2].split()
            if len(values) < 15:
                if process.name == "self":
                    return None
                continue  # it has ended since
            ticks += sum(number_of(value) or 0 for value in values[11:15])
            waiting += _children(process)
        return ticks * self._tick_s

    def _beside(self) -> list[str]:
        """The others that the launcher started for the same processors: who is bound to others takes none of these."""
        if self._launcher is None:
            return []
        ours, allowed = str(os.getpid()), allowed_cpus(self._proc / "self")
        started = _children(self._proc / str(self._launcher))
        return [child for child in started if child != ours and allowed_cpus(self._proc / child) == allowed]

    def _used(self, quota: Quota) -> float | None:
        if quota.is_v2:
            return statistic(text_of(quota.group / "cpu.stat"), "usage_usec") / 1e6
        used = number_of(text_of(self._machine.mounted("cpuacct", "cpu,cpuacct") / quota.path / "cpuacct.usage"))
        return None if used is None else used / 1e9


def _children(process: Path) -> list[str]:
    return [child for path in process.glob("task/*/children") for child in (text_of(path) or "").split()]


def _cpu_lines(text: str) -> Iterator[tuple[int, list[int]]]:
    """The lines `cpu0 …` of `/proc/stat` by the processor's number, in ticks."""
    for line in text.splitlines():
        name, *values = line.split()
        number = number_of(name.removeprefix("cpu"))
        if name.startswith("cpu") and number is not None:
            yield number, [number_of(value) or 0 for value in values]


def _sums(values: list[int]) -> tuple[int, int]:
    """(all, busy or stolen) ticks. The fields: user nice system idle iowait irq softirq steal; guests are in user."""
    values = values[:8]
    idle = sum(values[3:5])
    return sum(values), sum(values) - idle
