"""Killed with SIGKILL at any moment and resumed, a run ends as the one that nobody killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import Value
from tests.engine.training.saving.killed_runs import MOMENTS, Ended, Runs
from tests.engine.training.saving.whole_runs import small

QUICK = ("between two", "in an evaluation", "when the state is written")
KINDS: tuple[tuple[str, dict[str, Value]], ...] = (
    ("bert", {}),
    ("bert", {"lora_rank": 4, "padding": "bucketed"}),
    ("bert", {"dataloader_num_workers": 1, "optimizer_implementation": "foreach"}),
    ("gpt2", {"workload": "text", "task": "causal-lm", "padding": "packed", "seq_len": 32, "samples": 22}),
)
"""Moments take turns with them."""


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with Runs() as runs:
        yield runs


def knobs(root: Path, kind: int, folder: str) -> dict[str, Any]:
    family, more = KINDS[kind]
    return small(root, family, **more, output_dir=str(root / folder)).to_dict()


def check(runs: Runs, root: Path, moment: str, kind: int) -> None:
    whole = runs.do(knobs(root, kind, "whole"), 1)
    config = knobs(root, kind, "killed")
    killed = runs.do(config, 1, kill=MOMENTS[moment])
    assert killed.signal == signal.SIGKILL, "it was not killed"
    resumed = runs.do(config, 2)
    assert whole.signal is None
    assert (resumed.losses, resumed.scores, resumed.weights) == (whole.losses, whole.scores, whole.weights)
    expects(resumed, moment)


def expects(resumed: Ended, moment: str) -> None:
    """It went on with a checkpoint where there was one."""
    assert (resumed.resumed_at is None) == (
        moment in ("before the first checkpoint", "before a checkpoint gets its name")
    )


@pytest.mark.parametrize("moment", QUICK)
def test_a_killed_run_goes_on(runs: Runs, tmp_path: Path, moment: str) -> None:
    check(runs, tmp_path, moment, QUICK.index(moment))


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_any_moment_goes_on(runs: Runs, tmp_path: Path, moment: str) -> None:
    for kind in range(len(KINDS)):
        root = tmp_path / str(kind)
        root.mkdir()
        check(runs, root, moment, kind)
