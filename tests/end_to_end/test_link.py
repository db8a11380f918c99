"""A terminal that stops reading, one that changes its size all the time, and several that watch; while training."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.contract.events import UpdateDone
from engine.contract.records import Outcome
from engine.history.history import History
from tests.end_to_end.programs import COMMAND, LONG, environment
from tests.end_to_end.terminal import Terminal

APP = (sys.executable, "-m", "tests.end_to_end.app_without_engine")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, OMP_NUM_THREADS="1", LANG="C.UTF-8", LC_ALL="C.UTF-8")


def updates_on(text: str) -> int:
    """Which update a screen shows; 0 where it shows none."""
    found = re.search(r"update ([\d,]+)/", text)
    return int(found.group(1).replace(",", "")) if found else 0


class Progress:
    """How far run 1 is, as its history says while it is written."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._seq = self.updates = 0

    def wait_for(self, n_updates: int, timeout_s: float = 120.0) -> int:
        """Wait until so many updates are in the file."""
        deadline = time.monotonic() + timeout_s
        with History(self._home / "history.sqlite3") as history:
            while self.updates < n_updates:
                assert time.monotonic() < deadline, f"{self.updates} updates, not {n_updates}"
                for seq, event in history.series(1, after=self._seq):
                    self._seq = seq
                    if isinstance(event, UpdateDone):
                        self.updates = event.update
        return self.updates


@pytest.mark.slow
def test_a_terminal_that_does_not_read_neither_stops_the_run_nor_gets_a_film_afterwards(
    env: dict[str, str], tmp_path: Path
) -> None:
    with Terminal([*COMMAND, *LONG], env=env) as terminal:
        terminal.wait_for("Next run")
        terminal.press("r")
        terminal.wait_for(lambda text: updates_on(text) > 0, 120)
        progress = Progress(tmp_path)
        terminal.stop_reading()
        for _ in range(12):  # each is a whole screen, and together more than any pseudo-terminal keeps
            terminal.press("z")
            progress.wait_for(progress.updates + 5)
        newest = progress.wait_for(progress.updates + 100)  # it trains on
        n_read = len(terminal.raw)
        terminal.read_on()
        terminal.wait_for(lambda text: updates_on(text) >= newest)
        assert len(terminal.raw) - n_read < 150_000  # what was on its way, and the newest screen
        terminal.press("q")
        terminal.wait_for("Quit?")
        terminal.press("s")
        assert terminal.wait_exit() == 0
        assert terminal.restored
    with History(tmp_path / "history.sqlite3") as history:
        [record] = history.runs()
        seen = [event.update for _, event in history.series(1) if isinstance(event, UpdateDone)]
    assert record.outcome is Outcome.STOPPED
    assert seen == list(range(1, record.updates + 1))  # nothing was lost


def test_a_terminal_that_never_reads_again_does_not_keep_the_program(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal(APP, env=env) as terminal:
        terminal.wait_for("update 1/64")
        terminal.stop_reading()
        for index in range(40):
            terminal.resize(100 + index, 40)
            terminal.press("z")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(60) == 130
        assert (tmp_path / "asked.txt").read_text().splitlines() == ["stopped by SIGTERM", "closed"]


@pytest.mark.slow
def test_a_storm_of_sizes_while_training(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal([*COMMAND, *LONG], env=env) as terminal:
        terminal.wait_for("Next run")
        terminal.press("r")
        terminal.wait_for(lambda text: updates_on(text) > 0, 120)
        for index in range(50):
            terminal.resize(*[(80, 24), (200, 60), (60, 10), (119, 37), (1, 1), (120, 40)][index % 6])
        terminal.resize(120, 40)
        newest = Progress(tmp_path).wait_for(50)

        def whole(text: str) -> bool:
            lines = text.split("\n")
            return (
                updates_on(lines[0]) >= newest
                and lines[1].startswith("┌ Next run ")
                and lines[1].endswith("─┐")
                and lines[38].endswith("┘")
                and "q quit" in lines[39]
            )

        terminal.wait_for(whole)
        terminal.press("q")
        terminal.wait_for("Quit?")
        terminal.press("s")
        assert terminal.wait_exit() == 0
        assert terminal.restored


@pytest.mark.slow
def test_two_watch_one_headless_run(env: dict[str, str], tmp_path: Path) -> None:
    run = subprocess.Popen(
        [*COMMAND, "run", "--json", *LONG],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        Progress(tmp_path).wait_for(1)
        watch = [*COMMAND, "watch"]
        with Terminal(watch, env=env) as one, Terminal([*watch, "--slow-link"], env=env) as two:
            for terminal in (one, two):
                terminal.wait_for(lambda text: "watching" in text and updates_on(text) > 0)
            seen = updates_on(one.text)
            one.wait_for(lambda text: updates_on(text) > seen)
            run.send_signal(signal.SIGINT)
            for terminal in (one, two):
                terminal.wait_for("run 1 stopped")
                assert b"\x07\x07" not in terminal.raw
                terminal.press("q")
                assert terminal.wait_exit() == 0
                assert terminal.restored
        assert run.wait(60) == 130
    finally:
        run.kill()
        run.wait(10)


# what a terminal can show ----------------------------------------------------------------------------------------


def styles(raw: bytes) -> set[str]:
    """All codes that set a style."""
    return {code for codes in re.findall(rb"\x1b\[([\d;]*)m", raw) for code in codes.decode().split(";")}


def a_look_around(env: dict[str, str]) -> Terminal:
    """The app with a run under way, a dialog opened and closed, and its end; the terminal afterwards."""
    with Terminal(APP, env=env) as terminal:
        terminal.wait_for("update 1/64")
        terminal.press("?")
        terminal.wait_for("Esc closes")
        terminal.press("q")
        terminal.wait_for(lambda text: "Esc closes" not in text)
        terminal.press("T")
        terminal.wait_for("colours: ")
        terminal.press("q")
        terminal.wait_for("Run 1 is under way")
        terminal.press("k")
        assert terminal.wait_exit() == 0
        assert terminal.restored
    return terminal


def test_no_colour_means_none(env: dict[str, str]) -> None:
    terminal = a_look_around({**env, "NO_COLOR": "1"})
    assert styles(terminal.raw) <= {"", *(str(code) for code in range(30)), "39", "49"}


def test_a_terminal_of_sixteen_colours_gets_those(env: dict[str, str]) -> None:
    terminal = a_look_around({**env, "TERM": "xterm", "COLORTERM": ""})
    codes = styles(terminal.raw)
    assert not codes & {"38", "48"}
    assert {int(code) for code in codes if code} & {*range(30, 38), *range(90, 98)}


def test_the_window_is_named_and_gets_its_name_back(env: dict[str, str]) -> None:
    terminal = a_look_around(env)
    saved, named, back = (
        terminal.raw.find(text) for text in (b"\x1b[22;2t", b"\x1b]2;traintop: run 1 batch 8 1 %\x07", b"\x1b[23;2t")
    )
    assert 0 <= saved < named < back
    console = a_look_around({**env, "TERM": "linux", "COLORTERM": ""})
    assert b"\x1b]2;" not in console.raw
    assert b"t" not in re.findall(rb"\x1b\[[\d;]*([a-z])", console.raw)
