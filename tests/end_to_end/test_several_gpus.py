"""Two ranks behind the real command and the real app, in a real pseudo-terminal: how they are stopped, and left."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest

from engine.contract.records import Outcome
from engine.history.history import History
from tests.end_to_end.programs import environment
from tests.end_to_end.terminal import Terminal
from tests.engine.ranks.parent import still_alive

pytestmark = pytest.mark.slow  # each imports PyTorch twice

KNOBS = ("--device", "virtual:tesla-p4×2", "--batch-size", "2", "--seq-len", "16", "--samples", "100000")
PROGRAM = (sys.executable, "-m", "tui.cli")


def test_ctrl_c_stops_all_ranks_and_leaves_nothing_on_the_terminal(tmp_path: Path) -> None:
    with Terminal((*PROGRAM, "run", *KNOBS), env=environment(tmp_path)) as terminal:
        terminal.wait_for("% update", 120)
        children = psutil.Process(terminal.process.pid).children(recursive=True)
        terminal.press("\x03")
        assert terminal.wait_exit() == 130
        said = terminal.text
    assert "Stopped by the user." in said
    assert "Traceback" not in said
    assert "torch." not in said
    assert not still_alive(children, 30)
    assert [run.outcome for run in History(tmp_path / "history.sqlite3").runs()] == [Outcome.STOPPED]


def test_the_app_is_left_in_the_midst_of_a_run(tmp_path: Path) -> None:
    with Terminal((*PROGRAM, *KNOBS), env=environment(tmp_path)) as terminal:
        terminal.wait_for("ready", 120)
        terminal.press("r")
        terminal.wait_for("update 1", 120)
        children = psutil.Process(terminal.process.pid).children(recursive=True)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait_exit() == 130
        assert terminal.restored
    assert not still_alive(children, 30)
    assert [run.outcome for run in History(tmp_path / "history.sqlite3").runs()] == [Outcome.STOPPED]
