"""8-bit AdamW follows AdamW closely, in a quarter of its bytes, and compiles nothing unless asked to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.contract.config import RunConfig
from engine.techniques.optimizers import build_optimizer
from engine.techniques.schedules import build_schedule
from engine.training.trainer import train
from tests.engine.jobs import make_job, tiny_model

CONFIG = RunConfig(
    device="cpu", batch_size=4, samples=24, seq_len=16, epochs=8, learning_rate=2e-3, dropout=False, seed=3
)
EIGHT_BIT = CONFIG.with_values(optimizer="adamw-8bit")


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("CXX", "no-such-compiler")  # whatever were compiled here would fail


@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bf16"}, {"gradient_accumulation_steps": 2, "max_grad_norm": 0.5}], ids=str
)
def test_loss_follows_adamw(changes: dict[str, Any]) -> None:
    plain = make_job(CONFIG.with_values(**changes), tiny_model(dropout=0.0))
    eight_bit = make_job(EIGHT_BIT.with_values(**changes), tiny_model(dropout=0.0))
    for recorded in (plain, eight_bit):
        assert train(recorded.job)
    differences = [abs(a - b) for a, b in zip(plain.losses, eight_bit.losses, strict=True)]
    assert max(differences) < 0.06
    assert abs(sum(plain.losses) - sum(eight_bit.losses)) / len(plain.losses) < 0.01
    assert max(plain.losses) - min(plain.losses) > 0.2  # it moves by more than the tolerance


def test_first_step_is_adamws() -> None:
    """The states start at 0, which 8 bits hold exactly: the first step differs by rounding alone."""
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 8192)) for _ in range(2)]
    for weight, config in zip(weights, (CONFIG, EIGHT_BIT), strict=True):
        weight.grad = torch.linspace(-3, 2, 8192)
        build_optimizer(config, [weight]).step()
    torch.testing.assert_close(*weights, rtol=0, atol=1e-7)


def test_bytes_per_parameter() -> None:
    weight = torch.nn.Parameter(torch.ones(256 * 1024))
    weight.grad = torch.ones_like(weight)
    optimizer = build_optimizer(EIGHT_BIT, [weight])
    optimizer.step()
    state = optimizer.state[weight]
    parts = [getattr(state[name], part) for name in ("exp_avg", "exp_avg_sq") for part in ("codes", "scale", "qmap")]
    n_bytes = sum(part.numel() * part.element_size() for part in parts)
    # one byte per value, a float per block of 256, and a table of 256 floats
    assert n_bytes == 2 * (weight.numel() + weight.numel() // 256 * 4 + 256 * 4)
    assert n_bytes < 8 * weight.numel() / 3.9


def test_small_tensors_keep_their_states_whole() -> None:
    weight = torch.nn.Parameter(torch.ones(4095))
    weight.grad = torch.ones_like(weight)
    optimizer = build_optimizer(EIGHT_BIT, [weight])
    optimizer.step()
    assert optimizer.state[weight]["exp_avg"].dtype is torch.float32


def test_the_schedule_reaches_it() -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = build_optimizer(EIGHT_BIT, [weight])
    schedule = build_schedule(EIGHT_BIT, optimizer, updates=4)
    rates = []
    for _ in range(4):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2e-3, 1.5e-3, 1e-3, 5e-4])
