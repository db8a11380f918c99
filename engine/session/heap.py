"""The C library's heap: one for all threads, for as long as the process lives.

glibc gives a new thread a heap of its own, whose end it hands back to the system whenever a large block there is freed.
In a training, which frees and asks again for megabytes in every update, the pages are then faulted in anew each time:
9,300 faults in an update of bert-mini at batch 8 × 128, a tenth of its time; on the main heap 1,500.

There is no way back: glibc reads the limit when the first thread asks for a heap, and keeps it (`arena_get2` of
malloc/arena.c); `mallopt(M_ARENA_MAX, 0)` is taken for "as before" and does nothing. The price is that threads which
allocate at once wait for each other. Who has set a limit of their own keeps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_M_ARENA_MAX = -8  # malloc.h


def share_main_heap() -> None:
    """Let threads that begin from now on allocate where the main thread does. Does nothing where there is no glibc."""
    if sys.platform == "linux" and not _is_set_by_the_user():
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _is_set_by_the_user() -> bool:
    return "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", "")
