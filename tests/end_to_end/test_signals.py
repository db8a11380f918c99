"""SIGTERM, a terminal that goes away, Ctrl-Z, and ASCII, with the real app in a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.end_to_end.programs import environment
from tests.end_to_end.terminal import Terminal

APP = (sys.executable, "-m", "tests.end_to_end.app_without_engine")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, LANG="C.UTF-8", LC_ALL="C.UTF-8")


def asked(home: Path) -> list[str]:
    return (home / "asked.txt").read_text().split("\n")[:-1]


def test_sigterm_stops_the_run_and_gives_the_terminal_back(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal(APP, env=env) as terminal:
        terminal.wait_for("update 1/64")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait_exit() == 130
        assert terminal.restored
    assert asked(tmp_path) == ["stopped by SIGTERM", "closed"]


def test_sigterm_at_rest_just_ends(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal((*APP, "idle"), env=env) as terminal:
        terminal.wait_for("ready: press r")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait_exit() == 130
        assert terminal.restored


def test_a_run_goes_on_without_its_terminal_and_the_next_start_says_so(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal(APP, env=env) as terminal:
        terminal.wait_for("update 1/64")
        terminal.hang_up()
        assert terminal.process.wait(60) == 0
    assert asked(tmp_path) == ["went on", "closed"]
    with Terminal((*APP, "idle"), env=env) as terminal:
        terminal.wait_for("run 1 went on without the screen: completed.")
        terminal.press("q")
        assert terminal.wait_exit() == 0
    assert not (tmp_path / "terminal-lost.txt").exists()


def test_sighup_with_the_terminal_still_there(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal(APP, env=env) as terminal:
        terminal.wait_for("update 1/64")
        terminal.process.send_signal(signal.SIGHUP)
        assert terminal.wait_exit() == 0
        assert terminal.restored
    assert asked(tmp_path) == ["went on", "closed"]


def test_ctrl_z_and_back(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal((*APP, "idle"), env=env) as terminal:
        terminal.wait_for("ready: press r")
        terminal.press("\x1a")
        _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        terminal.wait_for(lambda text: not terminal.in_alternate_screen)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for(lambda text: terminal.in_alternate_screen and "ready: press r" in text)
        terminal.press("b")
        terminal.wait_for(lambda text: re.search("batch size +16", text))
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.restored


@pytest.mark.parametrize(("words", "locale"), [(("ascii",), "C.UTF-8"), ((), "en_US.ISO-8859-1")])
def test_plain_ascii(env: dict[str, str], words: tuple[str, ...], locale: str) -> None:
    with Terminal((*APP, *words), env={**env, "LC_ALL": locale}) as terminal:
        terminal.wait_for("update 1/64")
        terminal.press("?")
        terminal.wait_for("Esc closes")
        terminal.press("q")
        terminal.wait_for(lambda text: "Esc closes" not in text)
        terminal.press("q")
        terminal.wait_for("Run 1 is under way")
        assert terminal.raw.isascii()
        terminal.press("k")
        assert terminal.wait_exit() == 0
