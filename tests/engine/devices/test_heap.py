"""A thread that trains allocates where the main thread does, on a heap that keeps what is freed for a run's length."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_CHILD = """
import ctypes, sys, threading
from engine.devices.heap import keep_main_heap
if sys.argv[1] == "shared":
    keep_main_heap()
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
from engine.devices.heap import keep_main_heap
keep_main_heap()
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


_UPDATES = """
import ctypes, resource, sys
from engine.devices.heap import give_back, keep_main_heap
if sys.argv[1] == "kept":
    keep_main_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_size_t]

def update():
    blocks = [libc.malloc(4_000_000) for _ in range(20)]
    for block in blocks:
        ctypes.memset(block, 1, 4_000_000)
    for block in blocks:
        libc.free(block)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

update()
update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
update()
faults, held = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, resident()
give_back()
print(faults, held - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
def test_updates_find_their_memory_again_and_give_it_back_after_the_run() -> None:
    results = {}
    for how in ("own", "kept"):
        done = subprocess.run([sys.executable, "-c", _UPDATES, how], capture_output=True, text=True, check=True)
        results[how] = [int(word) for word in done.stdout.split()]
    (faults_of_its_own, _), (faults, given_back) = results["own"], results["kept"]
    assert faults_of_its_own > 10_000  # 80 MB in pages of 4 KiB
    assert faults < 1_000
    assert given_back > 60_000_000
