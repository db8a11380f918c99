"""A thread that has computed gives its pool back, and can compute again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.process.openmp import threads_to_use

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


@pytest.mark.parametrize(
    ("usual", "allowed", "free", "threads"),
    [
        (2, 2, None, 2),  # nothing is known: as PyTorch has it
        (2, 2, 2.0, 2),
        (2, 2, 1.6, 2),  # a quiet desktop
        (2, 2, 1.0, 1),
        (2, 2, 0.0, 1),
        (8, 16, 12.0, 8),  # PyTorch counts cores, not hyperthreads
        (8, 16, 5.4, 5),
        (64, 4, None, 4),  # a cpuset or a quota
    ],
)
def test_as_many_threads_as_are_free(
    monkeypatch: pytest.MonkeyPatch, usual: int, allowed: int, free: float | None, threads: int
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert threads_to_use(usual, allowed, free) == threads


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_who_asked_for_a_number_gets_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "4")
    assert threads_to_use(4, 2, 0.0) == 4
