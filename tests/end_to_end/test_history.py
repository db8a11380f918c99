"""A history that is lost, or whose disk is full, while the real program trains."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.events import UpdateDone
from engine.contract.records import Outcome
from engine.history.history import History
from tests.end_to_end.programs import COMMAND, LONG, SMALL, environment
from tests.end_to_end.terminal import Terminal

RUN = (*COMMAND, "run", "--json", *SMALL, "--samples", "300")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def env(tmp_path: Path, home: Path) -> dict[str, str]:
    return {**os.environ, **environment(tmp_path, OMP_NUM_THREADS="1"), "TRAINTOP_HOME": str(home)}


def events_of(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    yield from map(json.loads, process.stdout)


def started(env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(RUN, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """What it wrote to stderr, once it is over."""
    assert process.stderr is not None
    text = process.stderr.read()
    process.wait()
    return text


@pytest.mark.slow  # a full disk is the quick one of these
def test_a_home_that_is_deleted_in_mid_run(env: dict[str, str], home: Path) -> None:
    with started(env) as process:
        for event in events_of(process):
            if event["event"] == "update_done" and event["update"] == 20:
                shutil.rmtree(home)
        told = ended(process)
    assert process.returncode == 0
    assert "was deleted or moved away while it was in use: it was written there again (1 run)" in told
    with History(home / "history.sqlite3") as history:
        (record,) = history.runs()
        assert (record.outcome, record.updates) == (Outcome.COMPLETED, 150)
        numbers = [event.update for _, event in history.series(1) if isinstance(event, UpdateDone)]
        assert numbers == list(range(1, 151))


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_a_disk_that_is_full_to_the_end(env: dict[str, str], home: Path) -> None:
    states = []
    with started(env) as process:
        for event in events_of(process):
            if event["event"] == "update_done" and event["update"] == 20:
                # no file of that process may grow any more
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, 1))
            if event["event"] == "history_state":
                states.append(event["problem"])
        told = ended(process).splitlines()
    assert event["event"] == "run_finished"
    assert event["outcome"] == "completed"
    assert process.returncode == 5
    assert states
    assert "cannot be read or written" in states[0]
    assert told[-1].startswith("Not all of run 1 is in the history, and the rest is lost.")
    assert "Traceback" not in "".join(told)
    errors = [line for line in told if line.startswith("error: ")]
    assert errors
    assert len(errors) == len(set(errors))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_the_app_shows_that_nothing_is_stored_and_says_so_when_it_is_left(env: dict[str, str]) -> None:
    with Terminal([*COMMAND, *LONG], env=env) as terminal:
        terminal.wait_for("Next run")
        terminal.press("r")
        terminal.wait_for(lambda text: re.search(r"update [1-9]", text), 120)
        resource.prlimit(terminal.process.pid, resource.RLIMIT_FSIZE, (1, 1))
        terminal.wait_for("traintop  history not written")
        terminal.press("q")
        terminal.wait_for("Quit?")
        terminal.press("s")
        assert terminal.wait_exit() == 5
        assert terminal.restored
        assert "Not all of run 1 is in the history" in terminal.text
