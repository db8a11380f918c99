"""Runs that are killed with SIGKILL at a moment that is given, each in a process of its own: `Runs` drives them.

As a program it imports what a run needs, computes nothing, and forks a process for each run that it is told of.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOMENTS: dict[str, tuple[str, int]] = {
    "before the first checkpoint": ("update", 2),
    "between two": ("update", 5),
    "after the first micro-step of a window": ("micro-step", 9),
    "in an evaluation": ("scored", 3),
    "before the state is written": ("write_state", 2),
    "when the state is written": ("written", 2),
    "before a checkpoint gets its name": ("rename", 2),
    "after an older one is removed": ("removed", 3),
    "while the best model is written": ("replace", 2),
    "after the last update": ("update", 12),
}
"""Name -> what happens, and the how manieth time."""


@dataclass(frozen=True)
class Ended:
    """A run's process, over."""

    signal: int | None
    losses: list[float]
    scores: list[float]
    weights: str
    """A digest of all weights."""
    resumed_at: int | None


class Runs:
    """Does one run after the other, in processes of one program."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._program = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.wait()

    def do(self, config: dict[str, Any], run_id: int, *, kill: tuple[str, int] | None = None) -> Ended:
        """A run of these knobs; it goes on with the newest checkpoint of its output folder, where there is one."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps({"config": config, "run_id": run_id, "kill": kill}) + "\n")
        self._program.stdin.flush()
        return Ended(**json.loads(self._program.stdout.readline()))


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    from tests.engine.training.saving import whole_runs  # noqa: F401 (imported once, for all)

    for line in sys.stdin:
        told = json.loads(line)
        readable, writable = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(readable)
            code = 1
            try:
                with os.fdopen(writable, "w") as out:
                    out.write(json.dumps(_run(**told)))
                code = 0
            finally:
                from engine.techniques.workers import leave_nothing

                leave_nothing()
                os._exit(code)
        os.close(writable)
        with os.fdopen(readable) as result:
            said = result.read()
        _, status = os.waitpid(pid, 0)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        nothing = {"losses": [], "scores": [], "weights": "", "resumed_at": None}
        answers.write(json.dumps({"signal": number, **(json.loads(said) if said else nothing)}) + "\n")
        answers.flush()


def _run(config: dict[str, Any], run_id: int, kill: tuple[str, int] | None) -> dict[str, Any]:
    import hashlib

    from engine.contract.config import RunConfig
    from engine.training.saving.places import checkpoints_in
    from tests.engine.training.saving.whole_runs import do

    found = checkpoints_in(Path(config["output_dir"]))
    goes_on = found[-1] if found else None
    see = _armed(*kill) if kill is not None else lambda event: None
    whole = do(RunConfig.from_dict(config), run_id, goes_on, see=see)
    digest = hashlib.sha256()
    for name, tensor in sorted(whole.weights.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return {
        "losses": whole.losses,
        "scores": [score for _, score in whole.scores],
        "weights": digest.hexdigest(),
        "resumed_at": whole.record.resumed_at,
    }


def _armed(what: str, number: int) -> Callable[[Any], None]:
    """Have this process killed when `what` happens for the `number`th time; the result hears of the run's events."""
    import shutil

    from engine.contract.events import MicroStepDone, UpdateDone
    from engine.training import evaluation
    from engine.training.saving import keeper, whole

    n = 0

    def happens() -> None:
        nonlocal n
        n += 1
        if n == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(owner: Any, name: str) -> None:
        called = getattr(owner, name)

        def call(*values: Any, **more: Any) -> Any:
            happens()
            return called(*values, **more)

        setattr(owner, name, call)

    seams: dict[str, Callable[[], None]] = {
        "scored": lambda: before(evaluation.Scores, "add"),
        "write_state": lambda: before(keeper, "write_state"),
        "written": lambda: before(keeper.places, "write_meta"),
        "rename": lambda: before(whole.Path, "rename"),
        "removed": lambda: before(shutil, "rmtree"),
        "replace": lambda: before(os, "replace"),
    }
    if what in seams:
        seams[what]()
    kinds = {"update": UpdateDone, "micro-step": MicroStepDone}

    def see(event: Any) -> None:
        if isinstance(event, kinds.get(what, ())):
            happens()

    return see


if __name__ == "__main__":
    _serve()
