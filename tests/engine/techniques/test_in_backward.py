"""The optimizer in backward gives the plain run's weights, to the bit, and keeps one gradient at a time."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from engine.contract.config import RunConfig
from engine.contract.records import Phase
from engine.devices.cpu import CpuDevice
from engine.techniques.in_backward import OptimizerInBackward
from engine.techniques.optimizers import build_optimizer
from engine.techniques.schedules import build_schedule
from engine.training.trainer import train
from engine.workloads.prepare import prepare
from tests.engine.jobs import make_job, tiny_model

CONFIG = RunConfig(
    device="cpu", batch_size=4, samples=22, seq_len=16, epochs=2, learning_rate=1e-3, max_grad_norm=0.0, seed=3
)
IN_BACKWARD = CONFIG.with_values(optimizer_in_backward=True)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer_implementation": "fused"},
        {"optimizer_implementation": "foreach"},
        {"optimizer_implementation": "loop"},
        {"optimizer": "sgd"},
        {"optimizer": "adafactor"},
        {"optimizer": "adamw-8bit"},
        {"lora_rank": 4},
        {"gradient_checkpointing": "on"},
        {"precision": "bf16"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_is_bit_equal_to_the_plain_run(changes: dict[str, Any]) -> None:
    plain = make_job(CONFIG.with_values(**changes), tiny_model())
    in_backward = make_job(IN_BACKWARD.with_values(**changes), tiny_model())
    for recorded in (plain, in_backward):
        torch.manual_seed(5)
        assert train(recorded.job)
    assert in_backward.losses == plain.losses
    for (name, mine), theirs in zip(
        in_backward.job.model.named_parameters(), plain.job.model.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_tied_weights_are_stepped_once_with_their_whole_gradient() -> None:
    def model() -> torch.nn.Module:
        torch.manual_seed(1)
        built: torch.nn.Module = GPT2LMHeadModel(
            GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=512, n_positions=16)
        )
        return built

    config = CONFIG.with_values(task="causal-lm", samples=8)
    data = prepare(config, model_vocab_size=512)
    plain = make_job(config, model(), data=data)
    other = make_job(config.with_values(optimizer_in_backward=True), model(), data=data)
    for recorded in (plain, other):
        torch.manual_seed(5)
        train(recorded.job)
    assert plain.losses == other.losses
    assert all(map(torch.equal, plain.job.model.parameters(), other.job.model.parameters()))


class _LiveGradients(CpuDevice):
    """Counts the gradients that exist whenever the run goes over to another phase."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[Phase, list[int]] = {}
        self.parameters: list[torch.nn.Parameter] = []

    def enter(self, phase: Phase) -> None:
        live = sum(parameter.grad is not None for parameter in self.parameters)
        self.counts.setdefault(phase, []).append(live)


def test_one_gradient_lives_at_a_time() -> None:
    peaks = {}
    for config in (CONFIG, IN_BACKWARD):
        device = _LiveGradients()
        recorded = make_job(config, tiny_model(), device=device)
        device.parameters = list(recorded.job.model.parameters())
        assert train(recorded.job)
        peaks[config.optimizer_in_backward] = max(max(counts) for counts in device.counts.values())
        assert all(parameter.grad is None for parameter in device.parameters)
    n = len(device.parameters)
    assert peaks == {False: n, True: 1}
    # every parameter's step is told, then that backward goes on; the last CLIP and OPTIMIZER of an update find none
    updates = recorded.job.planned_updates
    assert sorted(device.counts[Phase.OPTIMIZER]) == [0] * updates + [1] * (n * updates)
    assert device.counts[Phase.BACKWARD] == [0] * ((n + 1) * updates)


def test_time_of_the_inner_steps_counts_as_the_optimizers() -> None:
    recorded = make_job(IN_BACKWARD, tiny_model())
    train(recorded.job)
    for update in recorded.updates:
        shares = update.shares
        assert min(shares.backward, shares.optimizer) > 0
        parts = shares.data + shares.forward + shares.backward + shares.optimizer
        assert parts == pytest.approx(update.update_s)


def test_inner_optimizers_follow_the_schedule() -> None:
    weight = torch.nn.Parameter(torch.zeros(8))
    config = IN_BACKWARD.with_values(optimizer="sgd", learning_rate=1.0)
    optimizer = build_optimizer(config, [weight])
    assert isinstance(optimizer, OptimizerInBackward)
    schedule = build_schedule(config, optimizer, updates=4)
    seen = []
    for _ in range(4):
        before = weight.detach().clone()
        weight.sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is None
        seen.append((before - weight.detach()).max().item())
        optimizer.step()
        schedule.step()
    assert seen == [1.0, 0.75, 0.5, 0.25]


def test_frozen_parameters_are_left_alone() -> None:
    weight, frozen = torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(4), requires_grad=False)
    optimizer = build_optimizer(IN_BACKWARD, [weight, frozen])
    assert isinstance(optimizer, OptimizerInBackward)
    (weight * frozen).sum().backward()  # type: ignore[no-untyped-call]
    assert list(optimizer.optimizers) == [weight]
    assert torch.equal(frozen, torch.ones(4))


def test_an_error_in_a_step_keeps_its_type_and_its_phase() -> None:
    recorded = make_job(IN_BACKWARD, tiny_model())
    optimizer = recorded.job.optimizer
    assert isinstance(optimizer, OptimizerInBackward)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    next(iter(optimizer.optimizers.values())).step = full  # type: ignore[method-assign, assignment]
    with pytest.raises(torch.OutOfMemoryError, match=r"20\.00 MiB"):
        train(recorded.job)
    assert recorded.job.clock.phase is Phase.OPTIMIZER


def test_the_models_memory_is_given_back() -> None:
    recorded = make_job(IN_BACKWARD.with_values(samples=4, epochs=1), tiny_model())
    train(recorded.job)
    dead = weakref.ref(next(recorded.job.model.parameters()))
    del recorded
    gc.collect()
    assert dead() is None
