"""`traintop run -- COMMAND` from the command line to the history: real processes, none of which imports torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.records import Outcome
from engine.history.history import History
from tests.engine.scripts.speaking import MODEL, script, updates

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    return tmp_path


def traintop(*words: str, cwd: Path, **options: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "tui.cli", *words], cwd=cwd, env=environment, **pipes, **options)


def test_stdout_is_the_scripts_the_exit_code_too_and_its_row_tells_it(home: Path) -> None:
    then = (
        "print(sys.argv[1:])\nsys.stdout.flush()\nsys.stdout.buffer.write(b'\\xff 50 %\\r')\n"
        "print('to stderr', file=sys.stderr)\ntell(wire, kind='end', updates=12)\nsys.exit(3)"
    )
    speaks = script(home, [MODEL, updates(1, 12)], then)
    command = [sys.executable, speaks.name, "--b={batch_size}", "{width=64,128}", "it's {{x}}", "$HOME\n", "ü"]
    process = traintop("run", "--batch-size", "16", "--command-values", "width=128", "--", *command, cwd=home)
    out, err = process.communicate()
    assert process.returncode == 3, err
    printed = repr(["--b=16", "128", "it's {x}", "$HOME\n", "ü"])
    assert out == f"{printed}\n".encode() + b"\xff 50 %\r"
    lines = err.decode().splitlines()
    assert [line for line in lines if not line.startswith("traintop: ")] == ["to stderr"]
    assert any(line.startswith("traintop: It ended with exit code 3 after update 12") for line in lines)
    with History() as history:
        (record,) = history.runs()
    assert (record.outcome, record.updates, record.config.batch_size) == (Outcome.FAILED, 12, 16)
    assert record.script is not None
    assert (record.script.exit_code, record.script.batch_size) == (3, 8)
    assert Path(record.script.log_path or "").read_bytes() == out


def test_a_sweep_over_a_knob_that_the_script_alone_knows(home: Path) -> None:
    speaks = script(home, [MODEL, updates(1, 20)], "import time; time.sleep(0 if sys.argv[2] == '--n=1' else 60)")
    sweep = ["sweep", "--batch-size", "8,16", "--command-values", "n=1,2", "--max-updates", "20", "--json", "--"]
    process = traintop(*sweep, sys.executable, speaks.name, "{batch_size}", "--n={n=1,2,3}", cwd=home)
    out, err = process.communicate()
    assert process.returncode == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    runs = [event for event in events if event["event"] == "run_finished"]
    assert [(run["label"], run["own_knobs"]) for run in runs] == [
        ("batch size 8, n 1", {"n": "1"}),
        ("batch size 8, n 2", {"n": "2"}),
        ("batch size 16, n 1", {"n": "1"}),
        ("batch size 16, n 2", {"n": "2"}),
    ]
    assert [run["config"]["batch_size"] for run in runs] == [8, 8, 16, 16]
    assert {run["outcome"] for run in runs} == {"completed"}
    assert all(run["config"]["precision"] is None for run in runs)
    assert not any(b"torch" in line.lower() for line in err.splitlines())  # nobody had to wait for it
    listed, _ = traintop("runs", cwd=home).communicate()
    heading, *rows = listed.decode().splitlines()
    assert heading.split()[:4] == ["#", "script", "n", "batch"]
    assert [row.split()[:4] for row in rows] == [
        ["1", "speaks.py", "1", "8"],
        ["2", "speaks.py", "2", "8"],
        ["3", "speaks.py", "1", "16"],
        ["4", "speaks.py", "2", "16"],
    ]


@pytest.mark.parametrize("stubborn", [False, True])
def test_ctrl_c_stops_the_script_and_another_goes_a_step_further(stubborn: bool, home: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" if stubborn else ""
    speaks = script(home, [MODEL, updates(1, 2)], f"{ignore}import time; print('ready', flush=True); time.sleep(60)")
    process = traintop("run", "--", sys.executable, speaks.name, cwd=home)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    told = b""
    if stubborn:
        while b"SIGINT sent" not in told:
            told += process.stderr.readline()
        process.send_signal(signal.SIGINT)
    told += process.communicate()[1]
    assert process.returncode == 130
    assert b"Stopped by the user." in told
    assert (b"got SIGTERM" in told) is stubborn
    with History() as history:
        assert [run.outcome for run in history.runs()] == [Outcome.STOPPED]


def test_the_app_without_a_terminal_runs_the_command(home: Path) -> None:
    process = traintop("--", sys.executable, "-c", "print('hello')", cwd=home)
    out, err = process.communicate()
    assert (process.returncode, out) == (0, b"hello\n")
    assert b"there is no terminal here" in err
    with History() as history:
        (record,) = history.runs()
    assert record.config == RunConfig(job="script", command=f"{sys.executable} -c \"print('hello')\"")
