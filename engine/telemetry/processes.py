"""Who a process is: user, command, age, Slurm job and container, by psutil and the kernel's files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

_T = TypeVar("_T")

_FIRST_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of the kernel's proc_ns.h: who has this one sees the host's process numbers."""
_JOB = re.compile(r"/job_(\d+)(?:/|$)")
_CONTAINER = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")  # as docker, podman, containerd and CRI-O name a group
_TOLD = re.compile(r"SLURM_(?:JOB|JOBID|STEP|LOCALID|PROCID|NODELIST|ARRAY)\w*|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER")
"""What is told of an environment: where a process belongs, and none of its secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A process; each field None where the kernel does not tell this user."""

    user: str | None
    command: str | None
    started_at: float | None  # Unix time
    mine: bool
    own: bool
    job: str | None
    container: str | None


class Processes:
    """Describes processes by number. What was found is kept while the process is asked for.

    In a container, where process numbers are its own, a number of the driver's names some process at best by chance: it
    is believed only of one that has the driver open. `proc` is the kernel's file system.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: dict[int, Described] = {}
        self.namespaced = _link(proc / "self" / "ns" / "pid") not in (None, _FIRST_NAMESPACE)
        """Whether this program sees process numbers of its own."""

    def describe(self, pid: int) -> Described | None:
        """The process; None where it is gone, or not to be seen from here."""
        if pid not in self._known:
            found = self._look(pid)
            if found is None:
                return None
            self._known[pid] = found
        return self._known[pid]

    def keep(self, pids: set[int]) -> None:
        """Forget all but these: a number may come to mean another process."""
        for pid in self._known.keys() - pids:
            del self._known[pid]

    def _look(self, pid: int) -> Described | None:
        if self.namespaced and not self._has_driver_open(pid):
            return None
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                started_at = _told(process.create_time)
                user, uid = _told(process.username), _told(lambda: process.uids().real)
                words, name = _told(process.cmdline), _told(process.name)
        except (psutil.Error, OSError):
            return None
        mine = uid == os.getuid() if sys.platform != "win32" else pid == os.getpid()
        groups = _text(self._proc / str(pid) / "cgroup")
        job, container = _JOB.search(groups), _CONTAINER.search(groups)
        return Described(
            user=user,
            command=" ".join(words) if words else name,
            started_at=started_at,
            mine=mine,
            own=pid == os.getpid(),
            job=job.group(1) if job else None,
            container=container.group(1) if container else None,
        )

    def _has_driver_open(self, pid: int) -> bool:
        """Whether the process holds NVIDIA's devices or has CUDA's library mapped, as far as this user may see."""
        folder = self._proc / str(pid)
        try:
            opened = any((_link(entry) or "").startswith("/dev/nvidia") for entry in (folder / "fd").iterdir())
        except OSError:
            opened = False
        return opened or "/libcuda.so" in _text(folder / "maps")


def environment_of(pid: int, started_at: float | None) -> dict[str, str]:
    """The Slurm and CUDA variables of a process that began then; empty where they cannot be read."""
    try:
        process = _process(pid, started_at)
        return {name: value for name, value in sorted(process.environ().items()) if _TOLD.fullmatch(name)}
    except (psutil.Error, OSError):
        return {}


def end(pid: int, started_at: float | None, *, force: bool = False) -> str | None:
    """Ask one of this user's own processes to end (SIGTERM), or with `force` end it (SIGKILL).

    Returns a sentence where it cannot be, else None: also when it has ended before.
    """
    try:
        process = _process(pid, started_at)
        if pid == os.getpid():
            return "That is this traintop itself: q leaves it."
        if pid == 1:
            return "Process 1 is the machine's, or the container's, first: traintop does not end it."
        if sys.platform != "win32" and process.uids().real != os.getuid():
            return f"Process {pid} belongs to {process.username()}: traintop ends only your own."
        (process.kill if force else process.terminate)()
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError) as error:
        return f"Process {pid} cannot be ended: {error}."
    return None


def is_there(pid: int, started_at: float | None) -> bool:
    """Whether the process that began then is still there, and not only waits to be reaped."""
    try:
        return bool(_process(pid, started_at).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _process(pid: int, started_at: float | None) -> psutil.Process:
    """The process of that number that began then. Raises `psutil.NoSuchProcess` where the number is another's now."""
    process = psutil.Process(pid)
    if started_at is not None and abs(process.create_time() - started_at) > 1.0:
        raise psutil.NoSuchProcess(pid)
    return process


def _told(read: Callable[[], _T]) -> _T | None:
    """What the kernel tells this user, None what it does not. Raises `psutil.NoSuchProcess`."""
    try:
        return read()
    except (psutil.AccessDenied, OSError):
        return None


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
