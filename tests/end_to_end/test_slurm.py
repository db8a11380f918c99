"""Runs in a Slurm job, as far as a program can tell: its variables are set, and its signals come to the whole group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.programs import COMMAND, LONG, SMALL, environment, traintop
from tests.end_to_end.terminal import Terminal
from tests.end_to_end.test_signals import APP, asked


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    job = {"SLURM_JOB_ID": "4242", "SLURMD_NODENAME": "node17", "SLURM_JOB_PARTITION": "gpu"}
    end = str(int(time.time()) + 3600)
    return environment(tmp_path, OMP_NUM_THREADS="1", SLURM_JOB_END_TIME=end, **job)


@pytest.mark.slow
def test_a_run_that_will_not_end_in_time_is_said_before_it_starts(env: dict[str, str]) -> None:
    first = traintop("run", *SMALL, env=env)
    assert first.returncode == 0, first.stderr
    assert "Slurm job 4242 on node17 (gpu): 59 min left (SLURM_JOB_END_TIME)" in first.stderr
    assert "will not end" not in first.stderr
    command = [*COMMAND, "run", "--json", *LONG, "--epochs", "1000"]
    with subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        names = []
        for event in map(json.loads, run.stdout):
            names.append(event["event"])
            if event["event"] == "wont_end":
                assert event["message"].startswith("This run will not end in time: by earlier runs the training takes")
            if event["event"] == "run_started":
                run.terminate()
        assert run.wait() == 130
    assert names.index("job_known") < names.index("wont_end") < names.index("run_started")


def group(env: dict[str, str], number: int, *words: str) -> tuple[int, dict[str, Any]]:
    """A run of which all processes get a signal once it trains: its exit code and its last event."""
    command = [*COMMAND, "run", "--json", *LONG, *words]
    with subprocess.Popen(
        command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stdout is not None
        last: dict[str, Any] = {}
        for line in run.stdout:
            last = json.loads(line)
            if last["event"] == "update_done" and last["update"] == 1:
                os.killpg(run.pid, number)
        return run.wait(), last


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (signal.SIGUSR1, "Stopped by SIGUSR1, which Slurm sends before the time limit."),
        pytest.param(signal.SIGTERM, "Stopped by SIGTERM.", marks=pytest.mark.slow),  # as in test_quitting
    ],
)
def test_a_warning_or_the_end_of_the_time_keeps_the_row_also_with_workers(
    env: dict[str, str], number: int, why: str
) -> None:
    code, last = group(env, number, "--dataloader-num-workers", "1")
    assert (code, last["event"], last["outcome"]) == (130, "run_finished", "stopped")
    (row,) = map(json.loads, traintop("runs", "--json", env=env).stdout.splitlines())
    assert row == last
    assert row["message"] == why
    assert row["updates"] >= 1


def test_the_app_stops_keeps_and_leaves_at_a_warning(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal(APP, env={**env, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}) as terminal:
        terminal.wait_for("update 1/64")
        terminal.process.send_signal(signal.SIGUSR1)
        assert terminal.wait_exit() == 130
        assert terminal.restored
    assert asked(tmp_path) == ["stopped by SIGUSR1, which Slurm sends before the time limit", "closed"]
