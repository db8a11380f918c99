"""A loss that is nan or inf: the run trains on, or ends there as failed, as the knob says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.events import UpdateDone
from engine.contract.records import Outcome, RunRecord
from engine.devices.cpu import CpuDevice
from engine.training import models
from engine.training.hub import Hub
from engine.training.run import Run
from engine.training.trainer import NonFiniteLoss, train
from tests.engine.jobs import Recorded, make_job, tiny_model
from tests.engine.training.test_parity import CONFIG


def spoilt_from(micro_step: int, value: float, **changes: Any) -> Recorded:
    """A job whose loss is `value` from a micro-step on."""
    model, seen = tiny_model(), [0]

    def spoil(_: torch.nn.Module, __: Any, output: Any) -> Any:
        seen[0] += 1
        if seen[0] >= micro_step:
            output.loss = output.loss * 0 + value
        return output

    model.register_forward_hook(spoil)
    return make_job(CONFIG.with_values(**changes), model)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("accumulation", "update"), [(1, 3), (2, 2)])
def test_stop_ends_the_run_at_the_update_of_the_loss(value: float, accumulation: int, update: int) -> None:
    changes = {"gradient_accumulation_steps": accumulation, "non_finite_loss": "stop"}
    recorded = spoilt_from(3, value, **changes)
    with pytest.raises(NonFiniteLoss, match=rf"^The loss is {value} in update {update}: use a smaller --learning-rate"):
        train(recorded.job)
    assert [event.update for event in recorded.updates] == list(range(1, update + 1))
    assert not math.isfinite(recorded.losses[-1])  # it was told before the end


def test_continue_trains_on_as_the_trainer_does() -> None:
    recorded = spoilt_from(3, math.nan)
    assert recorded.job.config.non_finite_loss == "continue"
    assert train(recorded.job)
    assert [math.isfinite(loss) for loss in recorded.losses[:4]] == [True, True, False, False]
    assert len(recorded.updates) == recorded.job.planned_updates


def test_a_stopped_run_has_failed_with_the_fix_and_keeps_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    original = models.build

    def build(*arguments: Any) -> torch.nn.Module:
        model: torch.nn.Module = original(*arguments)
        torch.nn.init.constant_(next(model.get_submodule("classifier").parameters()), math.nan)
        return model

    monkeypatch.setattr(models, "build", build)
    config = RunConfig(device="cpu", samples=8, batch_size=2, seq_len=16, non_finite_loss="stop")
    events: list[object] = []
    hub = Hub()
    hub.probe()
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    done = Run(record=record, device=CpuDevice(), hub=hub, emit=events.append, should_stop=lambda: False).execute()
    assert done.outcome is Outcome.FAILED
    assert done.message is not None
    assert done.message.startswith("The loss is nan in update 1: use a smaller --learning-rate")
    assert "--non-finite-loss continue" in done.message
    assert (done.updates, done.failed_phase) == (1, None)
    assert sum(isinstance(event, UpdateDone) for event in events) == 1
