"""CPU and RAM of the host and of this process, by psutil; RAM within the limit of the container."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil

from engine.contract.records import HostSample

_T = TypeVar("_T")

_SHORTEST_S = 0.1
"""psutil's advice: a CPU share over a shorter interval is noise, as the kernel counts in ticks of 10 ms."""


class _Limit(NamedTuple):
    limit: int  # in bytes
    used: int | None  # in bytes


class HostSampler:
    """Reads the host. `sample` never blocks and never raises on what the platform hides: such fields are None.

    CPU shares cover the time since the sample before, so the first has none. They count the host's cores, in a
    container too. The process's figures leave out data-loader workers, which are processes of their own.
    `proc` and `cgroup` are the kernel's file systems.
    """

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proc = proc
        self._cgroup = cgroup
        self._clock = clock
        self._process = psutil.Process()
        self._read_at = float("-inf")
        self._times: tuple[float, float] | None = None
        self._cpu: float | None = None
        self._process_cpu: float | None = None

    def sample(self) -> HostSample:
        """One reading; memory in bytes, CPU in percent (of all cores; of one core for the process)."""
        self._read_cpu()
        used, total = self._memory()
        return HostSample(
            cpu=self._cpu,
            process_cpu=self._process_cpu,
            memory_used=used,
            memory_total=total,
            process_memory=_known(lambda: self._process.memory_info().rss),
        )

    def _read_cpu(self) -> None:
        now = self._clock()
        if now - self._read_at < _SHORTEST_S:
            return
        first = self._read_at == float("-inf")
        self._read_at = now
        before, self._times = self._times, _known(_cpu_times)
        self._cpu = _share(before, self._times)
        process_cpu = _known(lambda: float(self._process.cpu_percent(None)))
        self._process_cpu = None if first else process_cpu

    def _memory(self) -> tuple[int | None, int | None]:
        memory = _known(psutil.virtual_memory)
        total = None if memory is None else int(memory.total)
        limits = [limit for limit in self._limits() if total is None or limit.limit < total]
        if limits:
            tightest = min(limits, key=lambda limit: limit.limit)
            return tightest.used, tightest.limit
        return (None, None) if memory is None else (int(memory.total - memory.available), total)

    def _limits(self) -> Iterator[_Limit]:
        """The memory limits of this process's control groups, innermost first: each ancestor's binds as well."""
        for line in (_text(self._proc / "self" / "cgroup") or "").splitlines():
            _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "")
            if "memory" in controllers.split(","):
                files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                yield from _walk(self._cgroup / "memory", path, *files)
            elif line.startswith("0::"):
                yield from _walk(self._cgroup, path, "memory.max", "memory.current", "inactive_file")


def _walk(root: Path, path: str, limit_file: str, usage_file: str, reclaimable: str) -> Iterator[_Limit]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    # a container sees its own group as the root, while the path may still be the host's: the root is always looked at
    for depth in range(len(parts), -1, -1):
        group = root.joinpath(*parts[:depth])
        limit = _number(_text(group / limit_file))
        if limit is None:
            continue
        used = _number(_text(group / usage_file))
        if used is not None:
            # as docker stats counts: file cache that the kernel drops under pressure is not in the way
            used = max(0, used - _statistic(_text(group / "memory.stat"), reclaimable))
        yield _Limit(limit, used)


def _statistic(text: str | None, name: str) -> int:
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value) or 0
    return 0


def _number(text: str | None) -> int | None:
    """None for a missing file and for the `max` of "no limit"."""
    stripped = (text or "").strip()
    return int(stripped) if stripped.isascii() and stripped.isdecimal() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _cpu_times() -> tuple[float, float]:
    """(busy, all) CPU seconds since boot. psutil.cpu_percent would keep its last reading apart for each thread."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # both are in user and nice
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _share(before: tuple[float, float] | None, now: tuple[float, float] | None) -> float | None:
    if before is None or now is None or now[1] <= before[1]:
        return None
    return min(100.0, max(0.0, 100.0 * (now[0] - before[0]) / (now[1] - before[1])))


def _known(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (psutil.Error, OSError):
        return None
