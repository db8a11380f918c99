"""Every way out of the app from every state that it can be in: the exit code, the terminal, the history, the processes.

The whole table is slow; a few cells of it always run.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psutil
import pytest

from engine.contract.records import Outcome
from engine.history.history import History
from tests.end_to_end.programs import COMMAND, LONG, environment
from tests.end_to_end.states import (
    STATES,
    app_in,
    leave_by_ctrl_c_twice,
    leave_by_key,
    leave_by_signal,
)
from tests.end_to_end.terminal import Terminal

KEYS = ("q", "ctrl+c", "ctrl+q", "ctrl+c twice")
SIGNALS = ("SIGTERM", "SIGTERM to the group", "SIGTERM twice", "SIGINT", "SIGHUP", "SIGQUIT")
CLOSED = "terminal closed"
ALWAYS = {
    ("loading", "ctrl+c"),
    ("ready", CLOSED),
    ("dialog", "ctrl+q"),
    ("training with workers", "SIGTERM to the group"),
}
ESCAPES = re.compile(rb"\x1b(\[[0-9;?<>=$]*[a-zA-Z]|\][^\x07]*\x07)")


TABLE = [
    pytest.param(state, way, marks=() if (state, way) in ALWAYS else pytest.mark.slow)
    for state in STATES
    for way in (*KEYS, *SIGNALS, CLOSED)
]


@pytest.mark.parametrize(("name", "way"), TABLE)
def test_every_way_out(name: str, way: str, tmp_path: Path) -> None:
    state = STATES[name]
    with app_in(name, tmp_path) as terminal:
        family = psutil.Process(terminal.process.pid).children(recursive=True)
        assert len(family) == (4 if "workers" in name else 0)
        if way == CLOSED:
            terminal.hang_up()
            if state.trains:  # the run goes on without the screen, for hours
                leave_by_signal(terminal, signal.SIGTERM)
        elif way.startswith("SIG"):
            number = signal.Signals[way.split()[0]]
            leave_by_signal(terminal, number, to_group="group" in way)
            if way.endswith("twice"):
                terminal.wait_for(
                    lambda text: not state.trains or "stopping" in text or not terminal.in_alternate_screen
                )
                leave_by_signal_unless_gone(terminal, number)
            if number is signal.SIGHUP and state.trains:  # the run goes on without the screen, for hours
                terminal.wait_for(lambda text: not terminal.in_alternate_screen)
                leave_by_signal(terminal, signal.SIGTERM)
        elif way == "ctrl+c twice":
            leave_by_ctrl_c_twice(terminal, state)
        else:
            leave_by_key(terminal, state, way)
        if way == CLOSED:
            assert terminal.process.wait(60) == code_of(way, trains=state.trains)
            assert (tmp_path / "terminal-lost.txt").exists()  # told at the next start
        else:
            assert terminal.wait_exit() == code_of(way, trains=state.trains)
            assert terminal.restored
            assert ESCAPES.sub(b"", terminal.raw.rpartition(b"\x1b[?1049l")[2]).strip() == b""
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
    with History(tmp_path / "history.sqlite3") as history:
        ended = [record.outcome for record in history.runs()]
    if way == "SIGQUIT":
        assert ended == ([Outcome.RUNNING] if state.trains else [])  # the next start sees that it was interrupted
    elif way == "SIGTERM twice":
        assert set(ended) <= {Outcome.STOPPED, Outcome.INTERRUPTED}
        assert len(ended) == state.trains
    elif name == "plan":
        assert ended[-1] in (Outcome.STOPPED, Outcome.COMPLETED)
        assert set(ended[:-1]) <= {Outcome.COMPLETED}
    else:
        assert ended == ([Outcome.STOPPED] if state.trains else [])


def code_of(way: str, *, trains: bool) -> int:
    """The exit code that a way out has to have."""
    if way == "SIGQUIT":
        return -signal.SIGQUIT
    return 130 if way.startswith(("SIGTERM", "SIGINT")) or (way in ("SIGHUP", CLOSED) and trains) else 0


def leave_by_signal_unless_gone(terminal: Terminal, number: signal.Signals) -> None:
    """The second of two signals; the first may have been enough."""
    if terminal.process.poll() is None:
        leave_by_signal(terminal, number)


@pytest.mark.slow
def test_headless_ctrl_c_twice_does_not_wait_for_the_run(tmp_path: Path) -> None:
    env = environment(tmp_path, OMP_NUM_THREADS="1")
    with Terminal([*COMMAND, "run", *LONG, "--dataloader-num-workers", "1"], env=env) as terminal:
        terminal.wait_for("Training ", 180)
        family = psutil.Process(terminal.process.pid).children(recursive=True)
        terminal.press("ctrl+c", "ctrl+c")
        assert terminal.wait_exit() == 130
        assert terminal.restored
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
    with History(tmp_path / "history.sqlite3") as history:
        assert [record.outcome for record in history.runs()] in ([Outcome.STOPPED], [Outcome.INTERRUPTED])
