"""A disk that takes no more while something is kept: the run goes on, says so, and what was there stays whole."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.contract.events import Event, Saved
from engine.contract.records import Outcome
from engine.training.saving.places import checkpoints_in
from engine.training.saving.state import read_state
from tests.engine.training.saving.whole_runs import do, small

SMALLER_THAN_A_MODEL = 100_000


class Disk:
    """Takes files of any size, until `fill` is called."""

    def __init__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALLER_THAN_A_MODEL, self._before[1]))

    def empty(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.empty()


def test_the_run_goes_on_and_the_older_checkpoint_stays(tmp_path: Path, disk: Disk) -> None:
    def fill_after_the_first(event: Event) -> None:
        if isinstance(event, Saved) and event.what == "checkpoint" and event.update == 3:
            disk.fill()

    whole = do(small(tmp_path), see=fill_after_the_first)
    disk.empty()
    assert whole.record.outcome is Outcome.COMPLETED
    problems = {(event.what, event.update): event.problem for event in whole.saved}
    assert problems[("checkpoint", 3)] is None
    folder = tmp_path / "out"
    assert problems[("checkpoint", 6)] == (
        f"The checkpoint at update 6 could not be written to {folder}/checkpoint-6 (File too large): the run goes on, "
        "and the checkpoint at update 3 is still there."
    )
    assert [each.update for each in checkpoints_in(folder)] == [3]
    assert read_state(checkpoints_in(folder)[0].folder)["model"]
    assert not list(folder.glob(".*"))
    assert not list(folder.glob("*.safetensors"))
    assert all(problems[key] for key in problems if key != ("checkpoint", 3))


def test_a_model_that_was_there_stays_when_a_better_one_cannot_be_written(tmp_path: Path, disk: Disk) -> None:
    def fill_after_the_first(event: Event) -> None:
        if isinstance(event, Saved) and event.what == "best":
            disk.fill()

    whole = do(small(tmp_path, save_steps=0, eval_steps=2, learning_rate=1e-5), see=fill_after_the_first)
    disk.empty()
    first, *later = [event for event in whole.saved if event.what == "best"]
    assert first.problem is None
    assert later
    assert all("File too large" in (event.problem or "") for event in later)
    from transformers import AutoModelForSequenceClassification

    kept = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert all(torch.isfinite(tensor).all() for tensor in kept.state_dict().values())


def test_it_can_go_on_from_what_was_left(tmp_path: Path, disk: Disk) -> None:
    whole = do(small(tmp_path, output_dir=str(tmp_path / "whole")))

    def fill_after_the_first(event: Event) -> None:
        if isinstance(event, Saved) and event.what == "checkpoint":
            disk.fill()

    do(small(tmp_path), stop_after=7, see=fill_after_the_first)
    disk.empty()
    found = checkpoints_in(tmp_path / "out")[-1]
    assert found.update == 3
    assert do(small(tmp_path), 2, goes_on=found).losses == whole.losses
