"""The C library's heap: one for all threads, whose pages a training on the CPU keeps from update to update.

glibc gives a new thread a heap of its own, whose end it hands back to the system whenever a large block there is freed.
In a training, which frees and asks again for megabytes in every update, the pages are then faulted in anew each time:
9,300 faults in an update of bert-mini at batch 8 × 128, a tenth of its time. On the main heap it is less; where it may
also keep its end and does not map large blocks one by one, it is next to nothing (bert-tiny at batch 8 × 32 to 96, on
one core: 8,000 faults and 62 ms of processor time an update before, 100 and 46 ms then).

There is no way back to a heap for each thread: glibc reads the limit when the first thread asks for a heap, and keeps
it (`arena_get2` of malloc/arena.c); `mallopt(M_ARENA_MAX, 0)` is taken for "as before" and does nothing. The price is
that threads which allocate at once wait for each other. Who has set a limit of their own keeps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

# malloc.h, and the defaults of malloc/malloc.c
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1
_DEFAULT_TRIM_THRESHOLD, _DEFAULT_MMAP_MAX = 128 * 1024, 65_536


def share_main_heap() -> None:
    """Let threads that begin from now on allocate where the main thread does. Does nothing where there is no glibc."""
    if sys.platform == "linux" and not _is_set_by_the_user("MALLOC_ARENA_MAX", "arena_max"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


@contextlib.contextmanager
def keeping_pages() -> Iterator[None]:
    """Inside, freed memory stays the process's; afterwards what is free goes back to the system.

    Put back are glibc's defaults, but that it no longer moves them by itself as it sees large blocks freed.
    """
    libc = _libc()
    if libc is None:
        yield
        return
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    libc.mallopt(_M_MMAP_MAX, 0)
    try:
        yield
    finally:
        libc.mallopt(_M_TRIM_THRESHOLD, _DEFAULT_TRIM_THRESHOLD)
        libc.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
        give_back()


def give_back() -> None:
    """Let the system have the pages that hold nothing."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    mine = (("MALLOC_TRIM_THRESHOLD_", "trim_threshold"), ("MALLOC_MMAP_MAX_", "mmap_max"))
    if sys.platform != "linux" or any(_is_set_by_the_user(*names) for names in mine):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None  # musl has none


def _is_set_by_the_user(variable: str, tunable: str) -> bool:
    return variable in os.environ or f"glibc.malloc.{tunable}" in os.environ.get("GLIBC_TUNABLES", "")
