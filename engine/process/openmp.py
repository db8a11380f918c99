"""OpenMP's threads: PyTorch on Linux computes with GCC's libgomp, which has a pool for every thread that has computed.

Between two parallel parts a pool's threads spin for some milliseconds, which costs less than to sleep and be woken. But
libgomp counts the threads of all pools, and once they are more than the processor has cores, all sleep at once
(`gomp_throttled_spin_count_var` of libgomp/config/linux/wait.h). So a program whose main thread has computed with
PyTorch slows an engine beside it, though its pool does nothing: bert-tiny on two cores went from 0 to 470 sleeps an
update.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
from pathlib import Path

_OMP_PAUSE_SOFT = 1  # omp.h
_ASKED_FOR = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def threads_to_use(usual: int, allowed: int, free: float | None = None) -> int:
    """Threads for a run: the `usual` ones of PyTorch, but no more than are `allowed`, nor than there are `free` cores.

    PyTorch counts the machine's processors and knows of no cpuset or quota (2.14 is to know cpusets). The threads of an
    operator wait for the last of them, and where one shares its core with another program, all do: beside one or two
    busy programs on two cores, two threads were 2 to 20 times slower than one, from bert-tiny to bert-base. Who has
    asked for a number in the environment gets it.
    """
    if is_asked_for():
        return usual
    bounds = [usual, allowed] if free is None else [usual, allowed, math.floor(free + 0.5)]
    return max(1, min(bounds))


def is_asked_for() -> bool:
    """Whether the environment says how many threads compute."""
    return any(os.environ.get(name) for name in _ASKED_FOR)


def give_back_threads() -> None:
    """End the pool of the calling thread; it begins another one when it computes again."""
    if "torch" not in sys.modules or sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError, StopIteration):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        path = next(line.split(maxsplit=5)[5] for line in maps.splitlines() if "/libgomp" in line)
        ctypes.CDLL(path).omp_pause_resource_all(_OMP_PAUSE_SOFT)
