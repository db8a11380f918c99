"""`traintop run -- COMMAND` is told to stop: once, again, and for the last time; by Ctrl-C and by SIGTERM."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.end_to_end.programs import COMMAND, environment

_DEAF = "import signal, time, os; {deaf}; print(os.getpid()); time.sleep(600)"
_WAIT_S = 60.0
Start = Callable[..., "tuple[subprocess.Popen[bytes], psutil.Process]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(*signals: int) -> tuple[subprocess.Popen[bytes], psutil.Process]:
        deaf = ", ".join(f"signal.signal({number}, signal.SIG_IGN)" for number in signals) or "pass"
        program = subprocess.Popen(
            [*COMMAND, "run", "--", sys.executable, "-c", _DEAF.format(deaf=deaf)],
            env={**os.environ, **environment(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        started.append(program)
        return program, psutil.Process(int(_line(program.stdout)))

    yield begin
    for program in started:
        if program.poll() is None:
            program.kill()
        program.communicate()


def _line(stream: IO[bytes] | None) -> str:
    """The next line; fails where none comes."""
    assert stream is not None
    assert select.select([stream], [], [], _WAIT_S)[0], "nothing was said"
    return stream.readline().decode()


def _until(program: subprocess.Popen[bytes], words: str) -> None:
    while words not in (line := _line(program.stderr)):
        assert line, f"{words!r} was not said"


def test_ctrl_c_twice_goes_on_to_sigterm(start: Start) -> None:
    program, script = start(2)
    program.send_signal(signal.SIGINT)
    _until(program, "SIGINT sent: waiting for the script to end; SIGTERM in 10 s")
    program.send_signal(signal.SIGINT)
    _until(program, "SIGTERM sent")
    assert program.wait(60) == 130
    assert not script.is_running()


def test_ctrl_c_three_times_leaves_nothing(start: Start) -> None:
    program, script = start(2, 15)
    for words in ("SIGINT sent", "SIGTERM sent"):
        program.send_signal(signal.SIGINT)
        _until(program, words)
    program.send_signal(signal.SIGINT)
    assert program.wait(60) == 130
    script.wait(60)


def test_sigterm_ends_even_a_deaf_script_before_whoever_sent_it_kills(start: Start) -> None:
    program, script = start(2, 15)
    program.send_signal(signal.SIGTERM)
    _until(program, "SIGTERM in 2.5 s")
    _until(program, "SIGKILL sent")
    assert program.wait(60) == 130
    assert not script.is_running()


def test_a_terminal_that_goes_away_takes_the_script_along_and_its_run_is_kept(start: Start) -> None:
    program, script = start()
    program.send_signal(signal.SIGHUP)
    _until(program, "Stopped, as its terminal went away.")
    assert program.wait(60) == 130
    assert not script.is_running()


def test_under_nohup_it_stays(start: Start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        program, script = start()
    finally:
        signal.signal(signal.SIGHUP, before)
    program.send_signal(signal.SIGHUP)
    program.send_signal(signal.SIGTERM)
    _until(program, "Stopped by SIGTERM.")
    assert program.wait(60) == 130
    assert not script.is_running()
