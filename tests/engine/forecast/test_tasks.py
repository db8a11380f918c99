"""The forecast of every task against real runs on the virtual GPU, for every family that has a head for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.records import Outcome, RunRecord
from engine.contract.tasks import TASKS
from engine.devices.open import open_device
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.training.hub import Hub
from engine.training.run import Run
from tests.engine.model_folders import model_folder

HEADS: dict[str, tuple[str, ...]] = {
    "bert": ("classification", "causal-lm", "masked-lm", "token-classification", "question-answering"),
    "gpt2": ("classification", "causal-lm", "token-classification", "question-answering"),
    "llama": ("classification", "causal-lm", "token-classification", "question-answering"),
    "t5": ("classification", "seq2seq-lm", "token-classification", "question-answering"),
    "moe": ("classification", "causal-lm", "token-classification", "question-answering"),
}
"""By family: the tasks that transformers has a head for."""
HAVE = [(family, task) for family, tasks in HEADS.items() for task in tasks]
HAVE.remove(("t5", "classification"))
"""T5's classifier reads the end-of-text token, which random tokens do not have."""
SHARED: dict[str, Value] = {"device": "virtual:a100-40gb", "batch_size": 4, "seq_len": 48, "samples": 14}
"""The last batch has two samples."""


@pytest.mark.parametrize(("family", "task"), HAVE)
def test_what_a_task_needs(tmp_path: Path, family: str, task: str) -> None:
    assert_as_measured(tmp_path, family, {"task": task})


@pytest.mark.slow
@pytest.mark.parametrize(("family", "task"), HAVE)
def test_what_a_task_needs_in_16_bits_and_accumulated(tmp_path: Path, family: str, task: str) -> None:
    assert_as_measured(tmp_path, family, {"task": task, "precision": "bf16", "gradient_accumulation_steps": 3})


@pytest.mark.parametrize("target_len", [3, pytest.param(17, marks=pytest.mark.slow), 96])
def test_what_a_target_needs(tmp_path: Path, target_len: int) -> None:
    told = assert_as_measured(tmp_path, "t5", {"task": "seq2seq-lm", "target_len": target_len})
    as_read = assert_as_measured(tmp_path, "t5", {"task": "seq2seq-lm"})
    assert (told < as_read) is (target_len < 48)


@pytest.mark.parametrize("family", HEADS)
def test_a_head_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, family: str) -> None:
    folder = model_folder(tmp_path, family)
    for task in sorted(TASKS.keys() - set(HEADS[family])):
        with pytest.raises(ConfigError) as refused:
            Forecaster().forecast(RunConfig(model=folder, task=task, seq_len=48), find("a100-40gb"))
        assert refused.value.knob == "task"
        assert all(there in refused.value.message for there in HEADS[family])


def assert_as_measured(folder: Path, family: str, changes: dict[str, Value]) -> int:
    """The allocated peak."""
    torch.set_num_threads(1)
    config = RunConfig(model=model_folder(folder, family), **{**SHARED, **changes})  # type: ignore[arg-type]
    hub = Hub()
    told = Forecaster(hub).forecast(config, find("a100-40gb"))
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    run = Run(record=record, device=open_device(config), hub=hub, emit=lambda event: None, should_stop=lambda: False)
    measured = run.execute()
    assert measured.outcome is Outcome.COMPLETED, measured.message
    assert measured.peak_reserved is not None
    assert measured.peak_allocated is not None
    assert abs(told.peak_reserved - measured.peak_reserved) <= 0.005 * measured.peak_reserved
    assert abs(told.peak_allocated - measured.peak_allocated) <= 0.001 * measured.peak_allocated
    return told.peak_allocated
