"""`traintop run` killed by SIGKILL, and `--resume`: real processes and the history between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.programs import COMMAND, SMALL, environment, traintop

KEPT = (*SMALL, "--samples", "300", "--save-steps", "3")
N_UPDATES = 150


def losses(events: list[dict[str, Any]]) -> dict[int, float]:
    return {event["update"]: event["loss"] for event in events if event["event"] == "update_done"}


@pytest.mark.slow
def test_a_killed_run_goes_on_by_its_number(tmp_path: Path) -> None:
    env = environment(tmp_path, OMP_NUM_THREADS="1")
    with subprocess.Popen(
        [*COMMAND, "run", "--json", *KEPT],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            event = json.loads(line)
            if event["event"] == "saved" and event["update"] == 9:
                run.send_signal(signal.SIGKILL)
                break

    refused = traintop("run", "--resume", "1", "--learning-rate", "1e-4", "--seed", "3", env=env)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--learning-rate, --seed would change what it learns: leave them out" in refused.stderr
    nobody = traintop("run", "--resume", "99", env=env)
    assert nobody.returncode == 2
    assert nobody.stderr == "traintop run: --resume 99: there is no such run. `traintop runs` lists them.\n"

    resumed = traintop("run", "--resume", "1", "--json", env=env)
    assert resumed.returncode == 0, resumed.stderr
    whole = traintop("run", "--json", *KEPT, env=env)
    ours, theirs = ([json.loads(line) for line in done.stdout.splitlines()] for done in (resumed, whole))
    assert losses(ours) == losses(theirs)
    assert len(losses(ours)) == N_UPDATES
    assert ours[-1]["train_loss"] == theirs[-1]["train_loss"]

    rows = [json.loads(line) for line in traintop("runs", "--json", env=env).stdout.splitlines()]
    assert [(row["run_id"], row["outcome"], row["resumed_from"]) for row in rows] == [
        (1, "interrupted", None),
        (2, "completed", 1),
        (3, "completed", None),
    ]
    assert rows[1]["resumed_at"] >= 9
    over = traintop("run", "--resume", "2", env=env)
    assert over.returncode == 2
    assert "run 2 came to its end, so there is nothing to go on with" in over.stderr
