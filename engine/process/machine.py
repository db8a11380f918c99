"""The cores and the RAM that this process may use: the machine's, less what affinity and control groups withhold.

The one place that says so: the CPU device, telemetry, the doctor and the bounds of threads and workers all ask here.
Control groups are read as https://docs.kernel.org/admin-guide/cgroup-v2.html and, for version 1,
https://docs.kernel.org/admin-guide/cgroup-v1/ describe them. Where the platform has none, the machine's own are told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ram:
    """In bytes; None where the platform does not say."""

    total: int | None
    """What may be used at most: the machine's, or the tightest limit of a control group."""
    used: int | None
    """Of that, by all programs that share it; file cache that the kernel drops under pressure is not counted."""
    available: int | None


class Quota(NamedTuple):
    """Processor time that a control group may take."""

    cores: float
    group: Path
    is_v2: bool
    path: str
    """The group's name, from which the controllers of version 1 that are mounted elsewhere find it."""


class _Limit(NamedTuple):
    limit: int  # in bytes
    used: int | None  # in bytes


class Machine:
    """`proc` and `cgroup` are the kernel's file systems. Nothing here raises on what the platform hides."""

    def __init__(self, *, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._cgroup = cgroup

    def cpus(self) -> frozenset[int] | None:
        """The logical processors that affinity and cpusets allow, by number; None where the platform has no affinity.

        A program that was not started under a cpuset but moved into it has an affinity that the kernel brought up to
        date; a container whose view of `/proc` is the host's has not, so both are asked.
        """
        cpus = allowed_cpus(self._proc / "self")
        if not cpus and hasattr(os, "sched_getaffinity"):
            cpus = frozenset(os.sched_getaffinity(0))
        for group, is_v2, _ in self.groups("cpuset"):
            names = ("cpuset.cpus.effective",) if is_v2 else ("cpuset.effective_cpus", "cpuset.cpus")
            allowed = next((found for name in names if (found := _numbers(text_of(group / name)))), None)
            if allowed:
                return (cpus & allowed if cpus else allowed) or cpus
        return cpus or None

    def quota(self) -> Quota | None:
        """The tightest limit of processor time of this process's groups; each ancestor's binds as well."""
        found = []
        for group, is_v2, path in self.groups("cpu"):
            if is_v2:
                limit, _, period = (text_of(group / "cpu.max") or "").strip().partition(" ")
            else:
                limit, period = (text_of(group / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
            quota_us, period_us = number_of(limit), number_of(period)
            if quota_us and period_us:
                found.append(Quota(quota_us / period_us, group, is_v2, path))
        return min(found, key=lambda quota: quota.cores, default=None)

    def cores(self) -> float:
        """Logical processors that this process can keep busy, a fraction where a quota gives one."""
        cpus, quota = self.cpus(), self.quota()
        n = float(len(cpus) if cpus else os.cpu_count() or 1)
        return n if quota is None else min(n, quota.cores)

    def threads(self) -> int:
        """Threads that can compute at once."""
        return max(1, int(self.cores()))

    def memory(self) -> Ram:
        """RAM now. A limit of the group counts what the group uses."""
        memory = known(psutil.virtual_memory)
        total = None if memory is None else int(memory.total)
        limits = [limit for limit in self._limits() if total is None or limit.limit < total]
        free = None if memory is None else int(memory.available)
        if limits:
            tightest = min(limits, key=lambda limit: limit.limit)
            left = [limit.limit - limit.used for limit in limits if limit.used is not None]
            free = min((max(0, size) for size in (free, *left) if size is not None), default=None)
            return Ram(total=tightest.limit, used=tightest.used, available=free)
        return Ram(total=total, used=None if total is None or free is None else total - free, available=free)

    def groups(self, controller: str) -> Iterator[tuple[Path, bool, str]]:
        """This process's control groups that `controller` may limit, innermost first: folder, version 2?, name."""
        for line in (text_of(self._proc / "self" / "cgroup") or "").splitlines():
            _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "")
            is_v2 = line.startswith("0::")
            if not is_v2 and controller not in controllers.split(","):
                continue
            root = self._cgroup if is_v2 else self.mounted(controller, controllers)
            parts = [part for part in path.split("/") if part not in ("", "..")]
            # a container sees its own group as the root, while the path may still be the host's: the root is always
            # looked at
            for depth in range(len(parts), -1, -1):
                yield root.joinpath(*parts[:depth]), is_v2, "/".join(parts[:depth])

    def mounted(self, controller: str, together: str = "") -> Path:
        """Where a controller of version 1 is: under its name, or that of those it is mounted `together` with."""
        folder = self._cgroup / controller
        return folder if folder.is_dir() or not together else self._cgroup / together

    def _limits(self) -> Iterator[_Limit]:
        for group, is_v2, _ in self.groups("memory"):
            # over `high` the kernel takes memory away and slows the group down: nobody can work there
            names = ("memory.max", "memory.high") if is_v2 else ("memory.limit_in_bytes",)
            limits = [limit for name in names if (limit := number_of(text_of(group / name))) is not None]
            if not limits:
                continue
            used = number_of(text_of(group / ("memory.current" if is_v2 else "memory.usage_in_bytes")))
            if used is not None:
                # as docker stats counts: file cache that the kernel drops under pressure is not in the way
                reclaimable = "inactive_file" if is_v2 else "total_inactive_file"
                used = max(0, used - statistic(text_of(group / "memory.stat"), reclaimable))
            yield _Limit(min(limits), used)


def allowed_cpus(process: Path) -> frozenset[int]:
    """The affinity of a process by its folder in `/proc`; empty where that is not told."""
    status = text_of(process / "status") or ""
    line = next((line for line in status.splitlines() if line.startswith("Cpus_allowed_list:")), "")
    return _numbers(line.partition(":")[2])


def _numbers(text: str | None) -> frozenset[int]:
    """`0-2,5` as numbers; empty where it is not a list."""
    found: set[int] = set()
    for part in (text or "").strip().split(","):
        first, _, last = part.partition("-")
        low, high = number_of(first), number_of(last or first)
        if low is None or high is None:
            return frozenset()
        found.update(range(low, high + 1))
    return frozenset(found)


def statistic(text: str | None, name: str) -> int:
    """The number after `name` in a file of names and numbers; 0 where it is not there."""
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return number_of(value) or 0
    return 0


def number_of(text: str | None) -> int | None:
    """None for a missing file, and for the `max` or -1 of "no limit"."""
    stripped = (text or "").strip()
    return int(stripped) if stripped.isascii() and stripped.isdecimal() else None


def text_of(path: Path) -> str | None:
    """A file of the kernel's; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def known(read: Callable[[], _T]) -> _T | None:
    """What psutil says; None where the platform does not."""
    try:
        return read()
    except (psutil.Error, OSError):
        return None
