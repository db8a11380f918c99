"""Precision: what is computed in which type, and what stays fp32."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from engine.devices.precision import Precision
from engine.training.trainer import micro_step, take_step, train
from tests.engine.jobs import make_job, tiny_model
from tests.engine.training.test_parity import CONFIG


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_matrix_products_run_in_the_precision(name: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(8, 8)
    with Precision(name, "cpu").autocast():
        assert layer(torch.ones(2, 8)).dtype is dtype
    assert layer.weight.dtype is torch.float32


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_gradients_are_close_to_fp32_and_kept_in_it(name: str) -> None:
    gradients = {}
    for precision in ("fp32", name):
        recorded = make_job(CONFIG, tiny_model(dropout=0.0))
        recorded.job.precision = Precision(precision, "cpu")
        job = recorded.job
        micro_step(job.model, next(iter(job.loader)), job.precision, 1, lambda phase: None)
        job.precision.scaler.unscale_(job.optimizer)
        gradients[precision] = torch.cat([p.grad.flatten() for p in job.model.parameters() if p.grad is not None])
    assert gradients[name].dtype is torch.float32
    error = (gradients[name] - gradients["fp32"]).norm() / gradients["fp32"].norm()
    assert 0 < error < 0.03


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_an_overflow_skips_the_step_and_halves_the_scale(max_grad_norm: float) -> None:
    recorded = make_job(CONFIG.with_values(max_grad_norm=max_grad_norm), tiny_model(dropout=0.0))
    job = recorded.job
    job.precision = Precision("fp16", "cpu")
    before = [parameter.detach().clone() for parameter in job.model.parameters()]
    micro_step(job.model, next(iter(job.loader)), job.precision, 1, lambda phase: None)
    next(job.model.parameters()).grad.view(-1)[0] = torch.inf  # type: ignore[union-attr]
    scale = job.precision.loss_scale()
    assert scale == 65536.0
    rate = job.schedule.get_last_lr()
    step = take_step(job.optimizer, job.schedule, job.precision, job.config, lambda phase: None)
    assert step.skipped
    assert (step.norm is None) == (max_grad_norm == 0)
    assert job.precision.loss_scale() == scale / 2
    assert job.schedule.get_last_lr() == rate
    for parameter, old in zip(job.model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_every_skipped_step_is_told(max_grad_norm: float) -> None:
    """At this first scale the gradients overflow until it has been halved often enough."""
    recorded = make_job(CONFIG.with_values(max_grad_norm=max_grad_norm), tiny_model(dropout=0.0))
    job = recorded.job
    job.precision = Precision("fp16", "cpu")
    job.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    train(job)
    scales = [2.0**24, *(update.loss_scale for update in recorded.updates)]
    assert [update.skipped for update in recorded.updates] == [a > b for a, b in pairwise(scales)]
    assert recorded.updates[0].skipped
    assert not recorded.updates[-1].skipped


@pytest.mark.parametrize("scale", [2.0**-149, 0.0])
def test_a_scale_that_reached_zero_still_skips(scale: float) -> None:
    recorded = make_job(CONFIG, tiny_model(dropout=0.0))
    job = recorded.job
    job.precision = Precision("fp16", "cpu")
    job.precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    micro_step(job.model, next(iter(job.loader)), job.precision, 1, lambda phase: None)
    next(job.model.parameters()).grad.view(-1)[0] = torch.nan  # type: ignore[union-attr]
    rate = job.schedule.get_last_lr()
    assert take_step(job.optimizer, job.schedule, job.precision, job.config, lambda phase: None).skipped
    assert job.precision.loss_scale() == 0
    assert job.schedule.get_last_lr() == rate


def test_only_fp16_has_a_loss_scale() -> None:
    assert Precision("fp32", "cpu").loss_scale() is None
    assert Precision("bf16", "cpu").loss_scale() is None
