"""What the forecast traces on meta tensors is what a real run on the virtual GPU measures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.allocator.report import format_size
from engine.contract.config import RunConfig
from engine.contract.records import Outcome, RunRecord
from engine.devices.open import open_device
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.gpus.units import MIB
from engine.tracing.stack import CURRENT
from engine.training.hub import Hub
from engine.training.run import Run
from tests.engine.model_folders import model_folder

RUNS: list[tuple[str, str, dict[str, str | int | float | bool]]] = [
    ("bert", "tesla-p4", {}),
    ("bert", "tesla-p4", {"batch_size": 1, "attention": "eager"}),
    ("bert", "tesla-p4", {"gradient_checkpointing": "on", "gradient_accumulation_steps": 6}),
    ("bert", "tesla-t4", {"precision": "fp16", "gradient_accumulation_steps": 2}),
    ("bert", "tesla-p4", {"optimizer_implementation": "foreach", "gradient_checkpointing": "every-second"}),
    ("bert", "tesla-p4", {"optimizer_in_backward": True, "max_grad_norm": 0.0}),
    ("gpt2", "tesla-p4", {"task": "causal-lm", "optimizer": "sgd"}),
    ("opt", "a100-40gb", {"task": "causal-lm", "precision": "bf16", "optimizer_implementation": "loop"}),
    ("llama", "tesla-p4", {"gradient_checkpointing": "on", "optimizer": "adafactor"}),
    ("llama", "a100-40gb", {"task": "causal-lm", "precision": "bf16", "gradient_checkpointing": "on"}),
    ("t5", "tesla-p4", {"task": "seq2seq-lm", "optimizer": "adam", "optimizer_implementation": "foreach"}),
    ("moe", "h100-80gb", {"task": "causal-lm", "gradient_accumulation_steps": 3}),
]


@pytest.mark.parametrize(("family", "gpu", "changes"), RUNS)
def test_the_measured_peak_is_the_forecast_one(
    tmp_path: Path, family: str, gpu: str, changes: dict[str, str | int | float | bool]
) -> None:
    assert_measured_as_forecast(model_folder(tmp_path, family), gpu, changes)


@pytest.mark.parametrize("changes", [{"task": "causal-lm"}, {"task": "classification", "gradient_checkpointing": "on"}])
def test_the_mixture_of_experts_is_known_too(changes: dict[str, str | int | float | bool]) -> None:
    """Its router decides by values which expert gets which token, and hardly a size depends on that."""
    assert_measured_as_forecast("moe-tiny", "tesla-p4", changes, reserved=0.02)


def assert_measured_as_forecast(
    model: str, gpu: str, changes: dict[str, str | int | float | bool], *, reserved: float = 0.0
) -> None:
    torch.set_num_threads(1)
    config = RunConfig(model=model, device=f"virtual:{gpu}", batch_size=4, seq_len=64, samples=24).with_values(
        **changes
    )
    device = open_device(config)
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    run = Run(record=record, device=device, hub=Hub(), emit=lambda event: None, should_stop=lambda: False)
    measured = run.execute()
    told = Forecaster().forecast(config, find(gpu))
    assert measured.outcome is Outcome.COMPLETED
    assert measured.peak_used == pytest.approx(told.peak_used, rel=0.01)
    assert measured.peak_reserved == pytest.approx(told.peak_reserved, rel=reserved, abs=0)
    assert measured.peak_allocated is not None
    workspace, lt_workspace = CURRENT.workspaces(find(gpu).compute_capability)
    workspaces = 2 * workspace + lt_workspace
    assert measured.peak_allocated - workspaces == pytest.approx(told.peak_allocated - workspaces, rel=0.002)


def test_the_update_that_dies_is_that_of_the_run(tmp_path: Path) -> None:
    """The request that fails, what is free then and so by how much it is too much: as the real run's message says."""
    torch.set_num_threads(1)
    config = RunConfig(
        model=model_folder(tmp_path, "bert"), device="virtual:tesla-p4", batch_size=64, samples=128, attention="eager"
    )
    config = config.with_values(seq_len=64, vram_limit=590)
    run = Run(
        record=RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING),
        device=open_device(config),
        hub=Hub(),
        emit=lambda event: None,
        should_stop=lambda: False,
    )
    died = run.execute()
    assert died.outcome is Outcome.OUT_OF_MEMORY
    told = Forecaster().forecast(config, find("tesla-p4"))
    assert told.failing_phase == (died.failed_phase and died.failed_phase.value)
    asked, free = told.failing_segment or 0, told.failing_free or 0
    assert f"Tried to allocate {format_size(asked)}." in (died.message or "")
    assert f"of which {format_size(free)} is free" in (died.message or "")
    assert told.short == asked - free > 0
    last = told.timeline[-1]
    assert last.phase == told.failing_phase
    assert told.outside + last.reserved + free == told.limit == 590 * MIB
    assert all(told.outside + point.reserved <= told.limit for point in told.timeline)
