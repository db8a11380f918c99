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

QUICK = {"in an evaluation": 1}
"""Moment -> kind. The others are slow: each imports PyTorch once more."""
WITHOUT_A_CHECKPOINT = ("before the first checkpoint",)
KINDS: tuple[tuple[str, dict[str, Value]], ...] = (
    ("bert", {}),
    ("bert", {"lora_rank": 4, "padding": "bucketed"}),
    ("bert", {"dataloader_num_workers": 1, "optimizer_implementation": "foreach"}),
    ("gpt2", {"workload": "text", "task": "causal-lm", "padding": "packed", "seq_len": 32, "samples": 22}),
)
"""Moments take turns with them."""


class Bench:
    """A place for runs, and how those end that nobody kills."""

    def __init__(self, runs: Runs, root: Path) -> None:
        self._runs, self._root = runs, root
        self._whole: dict[int, Ended] = {}
        self._n = 0

    def check(self, moment: str, kind: int) -> None:
        """A run that is killed at the moment, and resumed, ends as one that is not."""
        self._n += 1
        config = self._knobs(kind, f"killed-{self._n}")
        killed = self._runs.do(config, 1, kill=MOMENTS[moment])
        assert killed.signal == signal.SIGKILL, "it was not killed"
        resumed = self._runs.do(config, 2)
        whole = self._of_kind(kind)
        assert (resumed.losses, resumed.scores, resumed.weights) == (whole.losses, whole.scores, whole.weights)
        assert (resumed.resumed_at is None) == (moment in WITHOUT_A_CHECKPOINT)

    def _of_kind(self, kind: int) -> Ended:
        if kind not in self._whole:
            self._whole[kind] = self._runs.do(self._knobs(kind, "whole"), 1)
            assert self._whole[kind].signal is None
        return self._whole[kind]

    def _knobs(self, kind: int, folder: str) -> dict[str, Any]:
        family, more = KINDS[kind]
        return small(self._root, family, **more, output_dir=str(self._root / f"{folder}-{kind}")).to_dict()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Runs() as runs:
        yield Bench(runs, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("moment", QUICK)
def test_a_killed_run_goes_on(bench: Bench, moment: str) -> None:
    bench.check(moment, QUICK[moment])


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_any_moment_goes_on(bench: Bench, moment: str) -> None:
    first = list(MOMENTS).index(moment)
    for kind in {first % len(KINDS), (first + 1) % len(KINDS)}:
        bench.check(moment, kind)
