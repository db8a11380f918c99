"""The app in a real pseudo-terminal: what a person sees, and in what state the terminal is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.contract.records import Outcome
from engine.history.history import History
from tests.end_to_end.programs import COMMAND, LONG, SMALL, environment, traintop
from tests.end_to_end.terminal import Terminal

NOISE = "sound from below"
NOISY = f"""
import os, sys
def on_event(event, arguments, told=set()):
    if event == "import" and arguments[0] == "torch" and not told:
        told.add(1)
        where = b"a worker" if "forkserver" in str(sys.orig_argv) else b"the app"
        os.write(1, b"{NOISE} the interpreter of " + where)
        os.write(2, b"\\x1b[2J\\x1b[H and a line that clears the screen\\n")
sys.addaudithook(on_event)
"""
"""A `sitecustomize` that writes to the descriptors themselves, as C code does, when PyTorch is imported."""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    # one thread: a barrier of two threads on a machine with other work takes a hundred times as long
    return environment(tmp_path, OMP_NUM_THREADS="1")


def outcomes(home: Path) -> list[Outcome]:
    """How the runs of a history ended, the oldest first."""
    with History(home / "history.sqlite3") as history:
        return [record.outcome for record in history.runs()]


def test_a_session(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal([*COMMAND, *SMALL], env=env) as terminal:
        terminal.wait_for("Next run")
        assert terminal.in_alternate_screen
        terminal.wait_for("press r to run", 120)

        terminal.press("r")
        terminal.wait_for(lambda text: re.search(r"│ 1 .* (completed|host busy)", text), 120)
        terminal.press("b")
        terminal.wait_for("2 → 4")
        assert "1 changed" in terminal.text

        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.restored
    assert outcomes(tmp_path) == [Outcome.COMPLETED]


@pytest.mark.slow  # a session and a killed one are proved on each run of the tests
def test_knobs_and_stop_while_it_trains(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal([*COMMAND, *LONG], env=env) as terminal:
        terminal.wait_for("Next run")
        terminal.press("r")  # before the engine is ready: it waits for it
        terminal.wait_for(lambda text: re.search(r"update [1-9]", text), 120)
        terminal.press("b")
        terminal.wait_for("2 → 4")  # pending: the run under way keeps its own
        assert re.search(r"run 1 .*batch 2", terminal.text)
        terminal.press("B")
        terminal.wait_for(lambda text: "→" not in text)

        terminal.press("q")
        terminal.wait_for("Quit?")
        terminal.press("w")
        terminal.wait_for(lambda text: "Quit?" not in text)
        terminal.press("s")
        terminal.wait_for(lambda text: re.search(r"│ 1 .* stopped", text))

        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 0
        assert terminal.restored
    assert outcomes(tmp_path) == [Outcome.STOPPED]


def test_killed_in_mid_run(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal([*COMMAND, *LONG], env=env) as terminal:
        terminal.wait_for("Next run")
        terminal.press("r")
        terminal.wait_for(lambda text: re.search(r"update [1-9]", text), 120)
        terminal.kill()
        assert terminal.wait_exit() == -9

    with Terminal([*COMMAND], env=env) as again:
        again.wait_for(lambda text: re.search(r"│ 1 .* interrupted", text))
        again.press("q")
        assert again.wait_exit() == 0  # also while the engine is still importing
        assert again.restored
    assert outcomes(tmp_path) == [Outcome.INTERRUPTED]


def test_a_terminal_that_is_too_small_and_grows(env: dict[str, str]) -> None:
    with Terminal([*COMMAND], columns=60, rows=10, env=env) as terminal:
        terminal.wait_for("terminal too small: 60×10, needs 80×24")
        terminal.resize(80, 24)
        terminal.wait_for("Next run")
        terminal.resize(60, 24)
        terminal.wait_for("terminal too small: 60×24, needs 80×24")
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.restored


@pytest.mark.slow  # as a run's and a forecast's do in test_light
def test_what_libraries_print_goes_to_the_log(env: dict[str, str], tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NOISY, encoding="utf-8")
    env["PYTHONPATH"] = f"{site}:{env['PYTHONPATH']}"
    with Terminal([*COMMAND, *SMALL, "--dataloader-num-workers", "1"], env=env) as terminal:
        terminal.wait_for("press r to run", 120)
        terminal.press("r")
        terminal.wait_for(lambda text: re.search(r"│ 1 .* (completed|host busy)", text), 180)
        assert NOISE.encode() not in terminal.raw
        assert terminal.line_with("Next run").startswith("┌")

        terminal.press("l")
        terminal.wait_for(NOISE)
        assert terminal.line_with("Next run").startswith("┌")  # what would clear the screen was cleaned
        terminal.press("q")
        assert terminal.wait_exit() == 0
    log = (tmp_path / "traintop.log").read_text(encoding="utf-8")
    assert f"{NOISE} the interpreter of the app" in log
    assert f"{NOISE} the interpreter of a worker" in log


def test_ctrl_c_ends_a_headless_run_and_keeps_its_row(env: dict[str, str], tmp_path: Path) -> None:
    with Terminal([*COMMAND, "run", *LONG], env=env) as terminal:
        terminal.wait_for("Training ", 120)
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 130
        assert terminal.restored
    assert outcomes(tmp_path) == [Outcome.STOPPED]


@pytest.mark.slow  # test_own_script does it without PyTorch
def test_without_a_terminal_it_prints_the_transcript(env: dict[str, str], tmp_path: Path) -> None:
    done = traintop(*SMALL, env=env)
    assert done.returncode == 0, done.stderr
    assert "no terminal" in done.stderr.splitlines()[0]
    assert re.search(r"^Time: \d+\.\d\d$", done.stdout, re.MULTILINE)
    assert "RAM after training:" in done.stdout
    assert re.search(r"^Samples/second: \d+\.\d\d$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout
    assert outcomes(tmp_path) == [Outcome.COMPLETED]
