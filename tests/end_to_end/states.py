"""The app in each of its states, and the ways out of it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.programs import COMMAND, LONG, environment
from tests.end_to_end.terminal import Terminal

READY = "press r to run"
WORKERS = ("--dataloader-num-workers", "2")
TOO_LARGE = ("--device", "virtual:tesla-p4", "--model", "bert-large-uncased", "--batch-size", "64")


@dataclass(frozen=True, kw_only=True)
class State:
    """How the app is brought there: flags, then what is waited for and which keys are pressed, in turn."""

    flags: Sequence[str]
    steps: Sequence[tuple[str, Sequence[str]]]
    trains: bool = False
    """Whether a run is under way, so that quitting asks how."""
    covered: bool = False
    """Whether a dialog is open, which `q` closes first."""


STATES = {
    "loading": State(flags=LONG, steps=[("Next run", ())]),
    "ready": State(flags=LONG, steps=[(READY, ())]),
    "forecasting": State(flags=("--device", "virtual:tesla-p4"), steps=[(READY, ("m", "m", "m"))]),
    "searching": State(flags=TOO_LARGE, steps=[("out of memory", ("r",)), ("see what would fit", ("h",))]),
    "training": State(flags=LONG, steps=[(READY, ("r",)), (r"update [1-9]", ())], trains=True),
    "training with workers": State(
        flags=(*LONG, *WORKERS), steps=[(READY, ("r",)), (r"update [1-9]", ())], trains=True
    ),
    "plan": State(
        flags=LONG, steps=[(READY, ("p",)), ("Enter starts it", ("enter",)), (r"update [1-9]", ())], trains=True
    ),
    "plan waits": State(
        flags=LONG,
        steps=[
            (READY, ("r",)),
            (r"update [1-9]", ("p",)),
            ("Enter starts it when run 1 has ended", ("enter",)),
            ("After the plan", ()),
        ],
        trains=True,
    ),
    "dialog": State(flags=LONG, steps=[(READY, ("?",)), ("Esc closes", ())], covered=True),
}


def app_in(name: str, home: Path) -> Terminal:
    """The app, in that state."""
    # one thread: a barrier of two threads on a machine with other work takes a hundred times as long
    env = environment(home, OMP_NUM_THREADS="1")
    terminal = Terminal([*COMMAND, *STATES[name].flags], env=env, folder=home)
    for shown, keys in STATES[name].steps:
        terminal.wait_for(lambda text, shown=shown: re.search(shown, text), 180)  # type: ignore[misc]
        terminal.press(*keys)
    return terminal


def leave_by_key(terminal: Terminal, state: State, key: str) -> None:
    """Press `q`, `ctrl+c` or `ctrl+q`, and answer with `s` where quitting asks."""
    if state.covered and key == "q":
        terminal.press("q")
        terminal.wait_for(lambda text: "Esc closes" not in text)
    terminal.press(key)
    if state.trains:
        terminal.wait_for("Quit?")
        terminal.press("s")


def leave_by_ctrl_c_twice(terminal: Terminal, state: State) -> None:
    """Once asks where a run is under way, and twice is an answer."""
    terminal.press("ctrl+c")
    if state.trains:
        terminal.wait_for("Quit?")
        terminal.press("ctrl+c")


def leave_by_signal(terminal: Terminal, number: signal.Signals, *, to_group: bool = False) -> None:
    """A signal to the process alone, or to all that it started in this terminal."""
    (os.killpg if to_group else os.kill)(terminal.process.pid, number)
