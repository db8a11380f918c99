"""A thread that trains allocates where the main thread does."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_CHILD = """
import ctypes, sys, threading
from engine.process.heap import share_main_heap
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


_WAY_BACK = """
import ctypes, threading
from engine.process.heap import share_main_heap
share_main_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]

def is_on_the_main_heap():
    places = []
    thread = threading.Thread(target=lambda: places.append(libc.malloc(50_000)))
    thread.start()
    thread.join()
    heap = next(line for line in open("/proc/self/maps") if "[heap]" in line)
    start, end = (int(part, 16) for part in heap.split()[0].split("-"))
    return start <= places[0] < end

print(is_on_the_main_heap())
libc.mallopt(-8, 0)
libc.mallopt(-8, 8)
print(is_on_the_main_heap())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
@pytest.mark.parametrize(("limit", "shared"), [({}, True), ({"MALLOC_ARENA_MAX": "8"}, False)])
def test_there_is_no_way_back_and_a_limit_of_ones_own_stays(limit: dict[str, str], shared: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WAY_BACK], capture_output=True, text=True, check=True, env={**os.environ, **limit}
    )
    assert done.stdout.split() == [str(shared)] * 2


_PAGES = """
import ctypes, resource, sys
from contextlib import nullcontext
from engine.process.heap import keeping_pages
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.malloc.argtypes = [ctypes.c_size_t]
SIZE = 40 * 2**20

def use():
    block = libc.malloc(SIZE)
    libc.memset(block, 1, SIZE)
    libc.free(block)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

before = resident()
with keeping_pages() if sys.argv[1] == "kept" else nullcontext():
    use()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        use()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults < 1000)
print(resident() - before < SIZE / 4)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
@pytest.mark.parametrize(("how", "few_faults"), [("kept", "True"), ("as-ever", "False")])
def test_pages_are_kept_inside_and_given_back_afterwards(how: str, few_faults: str) -> None:
    done = subprocess.run([sys.executable, "-c", _PAGES, how], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [few_faults, "True"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
def test_a_threshold_of_ones_own_stays() -> None:
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072"}
    done = subprocess.run(
        [sys.executable, "-c", _PAGES, "kept"], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split()[0] == "False"
