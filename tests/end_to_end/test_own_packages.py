"""Our packages are found, whatever files lie in the folder that the program is started in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.end_to_end.programs import SMALL, environment
from tests.end_to_end.terminal import Terminal
from tui.commands.serve import command

OTHERS = ("engine", "config", "tests", "utils", "queue", "random", "typing_extensions", "datasets")
"""What a person may have beside a training script. (A `tui.py` there is what `python -m tui.cli` finds first.)"""
AS_MODULE = (sys.executable, "-m", "tui.cli")
SCRIPT = "import sys\nfrom tui.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
WORKER = ("--dataloader-num-workers", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory of the user's, in which no file can be imported."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in OTHERS:
        (folder / f"{name}.py").write_text(f"raise SystemExit('this is the user\\'s own {name}.py')\n")
    return folder


@pytest.fixture
def script(folder: Path, tmp_path: Path) -> tuple[str, ...]:
    """What pip installs as the command; a `tui.py` is in the way too."""
    (folder / "tui.py").write_text("raise SystemExit('this is the user\\'s own tui.py')\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "traintop").write_text(SCRIPT)
    return (sys.executable, str(tmp_path / "bin" / "traintop"))


def done(folder: Path, command: Sequence[str], *words: str) -> str:
    """Run a command to its end in `folder`; what it wrote to stdout."""
    env = {**os.environ, **environment(folder.parent, OMP_NUM_THREADS="1")}
    ended = subprocess.run(
        [*command, *words], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "user's own" not in ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_a_run_with_workers_as_a_module(folder: Path) -> None:
    last = json.loads(done(folder, AS_MODULE, "run", *SMALL, *WORKER, "--json").splitlines()[-1])
    assert last["outcome"] == "completed"


def test_light_commands(folder: Path, script: tuple[str, ...]) -> None:
    assert "traintop 0" in done(folder, script, "--version")
    assert done(folder, script, "replay", "--demo", "--json")
    assert done(folder, command(["replay", "--demo", "--json"]))  # as `traintop serve` starts it


@pytest.mark.slow
def test_everything_heavy_as_the_command(folder: Path, script: tuple[str, ...]) -> None:
    assert '"completed"' in done(folder, script, "run", *SMALL, *WORKER, "--json")
    assert "run_finished" in done(folder, script, "sweep", *SMALL, *WORKER, "--batch-size", "1,2", "--json")
    assert "used_range_mib" in done(folder, script, "forecast", "--gpu", "tesla-p4", "--json")
    findings = [json.loads(line) for line in done(folder, script, "doctor", "--json").splitlines()]
    assert "PyTorch" in str(findings)
    assert not [finding for finding in findings if finding["status"] in ("fatal", "problem")]


@pytest.mark.slow
@pytest.mark.parametrize("as_module", [True, False])
def test_the_app(folder: Path, script: tuple[str, ...], as_module: bool) -> None:
    if as_module:
        (folder / "tui.py").unlink()
    env = environment(folder.parent, OMP_NUM_THREADS="1")
    with Terminal([*(AS_MODULE if as_module else script), *SMALL, *WORKER], env=env, folder=folder) as terminal:
        terminal.wait_for("press r to run", 120)
        terminal.press("r")
        terminal.wait_for("run 1 completed", 120)
        terminal.press("q")
        assert terminal.wait_exit() == 0
