"""A run of ours, and its script as a process of its own: the loss of every update of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import EvalDone, UpdateDone
from engine.contract.records import Outcome, RunRecord
from engine.devices.cpu import CpuDevice
from engine.export.trainer_script.script import Script, make_script
from engine.training.hub import Hub
from engine.training.run import Run


@dataclass(frozen=True, slots=True)
class Curves:
    """What a training told."""

    losses: list[float]
    eval_losses: list[float]
    accuracies: list[float]


def ours(config: RunConfig, hub: Hub) -> Curves:
    """Train as traintop does."""
    events: list[Any] = []
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    run = Run(record=record, device=CpuDevice(), hub=hub, emit=events.append, should_stop=lambda: False)
    ended = run.execute()
    assert ended.outcome is Outcome.COMPLETED, ended.message
    evaluations = [event for event in events if isinstance(event, EvalDone)]
    return Curves(
        [event.loss for event in events if isinstance(event, UpdateDone)],
        [event.loss for event in evaluations],
        [event.accuracy for event in evaluations if event.accuracy is not None],
    )


def written(script: Script, folder: Path) -> Path:
    """The script and its data as files in `folder`."""
    file = folder / "handed_over.py"
    file.write_text(script.text, encoding="utf-8")
    if script.data_name:
        (folder / script.data_name).write_text(script.data, encoding="utf-8")
    return file


ALL = """
import os, runpy, sys
for folder in sys.argv[1:]:
    os.chdir(folder)
    runpy.run_path("handed_over.py", run_name="__main__")
"""


def theirs(scripts: list[Script], folder: Path) -> list[Curves]:
    """Run scripts where traintop cannot be imported, one after the other, and read the Trainer's own log.

    They share a process, as importing takes longer than they do; each has a folder of its own.
    """
    folders = [folder / str(i) for i in range(len(scripts))]
    for script, place in zip(scripts, folders, strict=True):
        place.mkdir()
        written(script, place)
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    forbidden = folder / "forbidden"  # found before what is installed, so that importing ours fails
    for package in ("engine", "tui"):
        (forbidden / package).mkdir(parents=True, exist_ok=True)
        (forbidden / package / "__init__.py").write_text("raise ImportError('a script stands alone')\n")
    settings = {
        "PYTHONPATH": str(forbidden),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "OMP_NUM_THREADS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    words = [sys.executable, "-c", ALL, *map(str, folders)]
    done = subprocess.run(words, cwd=folder, env=outside | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [_read(place) for place in folders]


def theirs_on_several(script: Script, folder: Path, n: int) -> Curves:
    """Run a script as `n` processes, which torchrun starts, and read the log of the first."""
    folder.mkdir()
    file = written(script, folder)
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), str(file)]
    done = subprocess.run(words, cwd=folder, env=outside | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return _read(folder)


def _read(folder: Path) -> Curves:
    log = json.loads((folder / "trained" / "trainer_state.json").read_text())["log_history"]
    return Curves(
        [entry["loss"] for entry in log if "loss" in entry],
        [entry["eval_loss"] for entry in log if "eval_loss" in entry],
        [entry["eval_accuracy"] for entry in log if "eval_accuracy" in entry],
    )


def script_of(config: RunConfig, hub: Hub) -> Script:
    """The script of a run of `config`."""
    return make_script(config, hub, title="Run 1")
