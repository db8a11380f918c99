"""The C library's heap: one for all threads, for as long as the process lives, that keeps its memory during a run.

A training frees and asks again for megabytes in every update. glibc gives a new thread a heap of its own, and hands
the end of a heap back to the system whenever enough is free there; the pages are then faulted in anew each time. For
bert-mini at batch 8 × 128 that made 9,300 faults in an update, a tenth of its time, on a thread's heap, and on the
main one 1,000 to 14,000, by what else happened to lie at its end. On a heap that is kept there are none.

There is no way back: glibc reads the limit when the first thread asks for a heap, and keeps it (`arena_get2` of
malloc/arena.c); `mallopt(M_ARENA_MAX, 0)` is taken for "as before" and does nothing. The price is that threads which
allocate at once wait for each other. Who has set a limit of their own keeps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_KEPT = 2**30  # bytes
_LARGEST = 32 * 2**20
"""Bytes from which on a block has pages of its own: what glibc allows at most, and comes to by itself."""


def keep_main_heap() -> None:
    """Let threads that begin from now on allocate where the main thread does, and the heap keep up to a GiB.

    Does nothing where there is no glibc.
    """
    if not _is_set_by_the_user("arena_max"):
        _set(_M_ARENA_MAX, 1)
    if not _is_set_by_the_user("trim_threshold") and not _is_set_by_the_user("mmap_threshold"):
        _set(_M_MMAP_THRESHOLD, _LARGEST)  # setting the other alone would leave it at 128 KiB
        _set(_M_TRIM_THRESHOLD, _KEPT)


def give_back() -> None:
    """Give free pages back to the system, between runs."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _set(parameter: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(parameter, value)


def _is_set_by_the_user(name: str) -> bool:
    # malloc(3): the variables of the two thresholds end in an underscore
    variables = f"MALLOC_{name.upper()}", f"MALLOC_{name.upper()}_"
    return any(variable in os.environ for variable in variables) or (
        f"glibc.malloc.{name}" in os.environ.get("GLIBC_TUNABLES", "")
    )
