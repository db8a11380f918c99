"""A thread that has computed gives its pool back, and can compute again."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CHILD = """
import os, torch
from engine.process.openmp import give_back_threads
torch.set_num_threads(3)
def compute():
    return float((torch.ones(2**20) * 2).sum())
def threads():
    return len(os.listdir("/proc/self/task"))
before = threads()
first = compute()
with_pool = threads()
give_back_threads()
without = threads()
print(with_pool - before, without - before, compute() == first, threads() == with_pool)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp's pools")
def test_a_pool_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "0", "True", "True"]
