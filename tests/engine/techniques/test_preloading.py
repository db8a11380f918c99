"""Data-loader workers: they work, they are told of when they die, and no signal and no death leaves them behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.contract.config import RunConfig
from engine.techniques.preloading import WorkerDied, batches, end_workers
from engine.techniques.stopping import Stopped
from engine.techniques.workers import Worker, Workers
from tests.engine.jobs import Recorded, make_job

CONFIG = RunConfig(device="cpu", samples=64, batch_size=2, seq_len=8, dataloader_num_workers=2)

PARENT = """
from tests.engine.jobs import make_job
from tests.engine.techniques.test_preloading import CONFIG
from engine.techniques.preloading import batches
passed = batches(make_job(CONFIG).job.loader, lambda: False)
next(passed)
print("started", flush=True)
input()
print(1 + len(list(passed)), "batches")
"""


def workers_of(recorded: Recorded) -> list[Worker]:
    context = recorded.job.loader.multiprocessing_context
    assert isinstance(context, Workers)
    return context.started


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose two workers have begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n", process.stderr and process.stderr.read()
        yield process
        process.kill()


def test_what_is_killed_leaves_nothing_behind(parent: subprocess.Popen[str], tmp_path: Path) -> None:
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) == 4  # two workers, what forks them, and the keeper of their semaphores
    parent.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert not list(tmp_path.glob("pymp-*"))
    assert parent.stderr is not None
    assert "resource_tracker" not in parent.stderr.read()


@pytest.mark.slow  # end_to_end/test_quitting sends them to a whole program
def test_signals_to_the_group_are_left_to_the_parent(parent: subprocess.Popen[str]) -> None:
    for child in psutil.Process(parent.pid).children(recursive=True):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            child.send_signal(number)
    done, _ = parent.communicate("go on\n", timeout=120)
    assert done == "32 batches\n"


def test_a_killed_worker_is_told_of() -> None:
    recorded = make_job(CONFIG)
    passed = batches(recorded.job.loader, lambda: False)
    next(passed)
    workers_of(recorded)[1].kill()
    with pytest.raises(WorkerDied, match="data-loader worker 1 was killed by signal 9, perhaps for want of host mem"):
        list(passed)


def test_a_worker_that_dies_while_a_stop_is_asked_for_is_no_failure() -> None:
    recorded = make_job(CONFIG)
    passed = batches(recorded.job.loader, lambda: bool(workers_of(recorded)[0].exitcode))
    next(passed)
    workers_of(recorded)[0].kill()
    with pytest.raises(Stopped):
        list(passed)


def test_a_stop_while_the_workers_start() -> None:
    recorded = make_job(CONFIG)
    with pytest.raises(Stopped):
        next(batches(recorded.job.loader, lambda: True))
    started = workers_of(recorded)
    for worker in started:
        worker.join(60)
    assert [worker.exitcode for worker in started] == [-signal.SIGKILL] * 2


def test_passes_share_their_workers() -> None:
    recorded = make_job(CONFIG)
    n_batches = [len(list(batches(recorded.job.loader, lambda: False))) for _ in range(2)]
    assert n_batches == [32, 32]
    assert len(workers_of(recorded)) == 2


def test_workers_end_by_themselves_also_where_only_the_garbage_collector_would_find_them() -> None:
    recorded = make_job(CONFIG)
    loader, workers = recorded.job.loader, workers_of(recorded)
    cycle = [loader]
    cycle.append(cycle)  # type: ignore[arg-type]
    for _ in batches(loader, lambda: False):
        pass
    end_workers(loader)
    assert [worker.exitcode for worker in workers] == [0] * CONFIG.dataloader_num_workers
