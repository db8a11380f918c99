"""A thread that trains allocates where the main thread does."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_CHILD = """
import ctypes, sys, threading
from engine.session.heap import share_main_heap
if sys.argv[1] == "shared":
    share_main_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
places = []
thread = threading.Thread(target=lambda: places.append(libc.malloc(50_000)))
thread.start()
thread.join()
heap = next(line for line in open("/proc/self/maps") if "[heap]" in line)
start, end = (int(part, 16) for part in heap.split()[0].split("-"))
print(start <= places[0] < end)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
@pytest.mark.parametrize(("how", "on_the_main_heap"), [("own", "False"), ("shared", "True")])
def test_a_thread_allocates_on_the_main_heap(how: str, on_the_main_heap: str) -> None:
    done = subprocess.run([sys.executable, "-c", _CHILD, how], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == on_the_main_heap
