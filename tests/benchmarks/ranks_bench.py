"""Two ranks on this machine: how soon a run begins, and how soon all is over where one rank does not go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import psutil

from engine.contract.events import RanksStarted, UpdateDone
from engine.ranks.watch import Watch
from tests.benchmarks.figures import Figure
from tests.engine.ranks import faulty
from tests.engine.ranks.driver import SMALL, Driven, drive

LONG = SMALL.with_values(samples=100_000)
LIMIT_S = 2.0
"""In place of a minute: a rank that stands still for so long is at fault."""
OVER_GOAL_S, START_GOAL_S = 1.0, 1.0


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Seconds. `full` makes more rounds."""
    n = rounds or (9 if full else 3)
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, {"TRAINTOP_HOME": home}):
        drive(SMALL)  # the fork server imports PyTorch
        yield _figure("start to the first update, less that update: a later run", n, _start, START_GOAL_S)
        yield _figure("killed rank to no rank left", n, lambda: _since_act(_kill), OVER_GOAL_S)
        yield _figure("raising rank to no rank left", n, lambda: _since_note("raises"), OVER_GOAL_S)
        yield _figure("out of memory on one card to no rank left", n, _out_of_memory, OVER_GOAL_S)
        name = f"hanging rank to no rank left, less the {LIMIT_S:g} s that it may stand"
        yield _figure(name, n, lambda: _since_note("hangs") - LIMIT_S, None)
        name = f"rank under SIGSTOP to no rank left, less the {LIMIT_S:g} s that it may be silent"
        yield _figure(name, n, lambda: _since_act(_freeze, watch=Watch(stopped_s=LIMIT_S)) - LIMIT_S, OVER_GOAL_S)
        yield _figure("stop to no rank left", n, lambda: _since_act(lambda driven: driven.stop.set()), OVER_GOAL_S)
        yield _figure("killed parent to no rank and no data loader left", n, _orphans, OVER_GOAL_S)


def _figure(name: str, rounds: int, once: Callable[[], float], goal: float | None) -> Figure:
    seconds = sorted(once() for _ in range(rounds))
    value = seconds[len(seconds) // 2]
    return Figure(name=f"2 ranks: {name}", value=value, unit="s", goal=goal, at_most=True, rounds=seconds)


def _start() -> float:
    at: list[tuple[float, float]] = []
    began = time.monotonic()
    drive(SMALL, lambda driven: at.append((time.monotonic(), driven.of(UpdateDone)[0].update_s)))
    told_at, update_s = at[0]
    return told_at - began - update_s


def _since_act(act: Callable[[Driven], None], **options: object) -> float:
    driven = drive(LONG, act, **options)
    return driven.over_at - driven.acted_at


def _kill(driven: Driven) -> None:
    os.kill(driven.pids[-1], signal.SIGKILL)


def _freeze(driven: Driven) -> None:
    os.kill(driven.pids[-1], signal.SIGSTOP)


def _since_note(fault: str) -> float:
    with mock.patch("engine.ranks.processes.main", getattr(faulty, fault)):
        driven = drive(LONG, watch=Watch(standing_s=LIMIT_S))
    return driven.over_at - _noted(driven)


def _out_of_memory() -> float:
    with mock.patch("engine.ranks.processes.main", faulty.tells_its_end):
        driven = drive(SMALL, limits={1: 600})
    return driven.over_at - _noted(driven)


def _noted(driven: Driven) -> float:
    path = driven.of(RanksStarted)[0].ranks[-1].log_path
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return float(next(line for line in lines if line.startswith(faulty.NOTE)).split()[-1])


def _orphans() -> float:
    parent = subprocess.Popen([sys.executable, "-m", "tests.engine.ranks.parent", "1"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    parent.kill()
    began = time.monotonic()
    psutil.wait_procs(children, 60)
    seconds = time.monotonic() - began
    parent.wait()
    parent.stdout.close()
    return seconds
