"""Stopping between layers: at the next one, in forward and in backward, and without a trace where nobody stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.records import Phase
from engine.techniques.stopping import between_layers, layers
from engine.training.trainer import train, train_epochs
from tests.engine.jobs import Recorded, make_job, tiny_model

CONFIG = RunConfig(device="cpu", samples=8, batch_size=2, seq_len=8)
WAYS: list[dict[str, Any]] = [
    {},
    {"gradient_checkpointing": "on"},
    {"lora_rank": 4},
    {"optimizer_in_backward": True, "max_grad_norm": 0.0},
    {"precision": "bf16"},
]


class Asked:
    """Says yes from the `at`-th question on, and remembers in which phase it was asked."""

    def __init__(self, at: int) -> None:
        self.phases: list[Phase] = []
        self.job: Recorded | None = None
        self._at = at

    def __call__(self) -> bool:
        assert self.job is not None
        self.phases.append(self.job.job.clock.phase)
        return len(self.phases) >= self._at


def asked(at: int, **knobs: Any) -> Asked:
    """A training of three layers that was asked to stop at that question; it did not begin its second micro-step."""
    answer = Asked(at)
    answer.job = make_job(CONFIG.with_values(**knobs), tiny_model(layers=3), should_stop=answer)
    assert not train(answer.job.job)
    assert answer.job.job.micro_step == 1
    assert len(answer.phases) == at
    return answer


@pytest.mark.parametrize("knobs", WAYS)
def test_it_stops_in_forward_and_in_backward(knobs: dict[str, Any]) -> None:
    assert asked(2, **knobs).phases == [Phase.FORWARD] * 2
    stopped = asked(5, **knobs)
    assert stopped.phases[:3] == [Phase.FORWARD] * 3
    assert stopped.phases[3:] == [Phase.BACKWARD] * 2
    assert stopped.job is not None
    assert not stopped.job.updates


@pytest.mark.parametrize("knobs", WAYS)
def test_it_changes_no_bit(knobs: dict[str, Any]) -> None:
    def weights(do: Callable[[Any], bool]) -> tuple[list[float], dict[str, torch.Tensor]]:
        recorded = make_job(CONFIG.with_values(**knobs), tiny_model(layers=3))
        torch.manual_seed(1)
        assert do(recorded.job)
        return recorded.losses, recorded.job.model.state_dict()

    (with_hooks, its_weights), (without, other_weights) = weights(train), weights(train_epochs)
    assert with_hooks == without
    for name, weight in its_weights.items():
        assert torch.equal(weight, other_weights[name]), name


def test_nothing_is_left_on_the_model() -> None:
    model = tiny_model()
    assert len(layers(model)) == 2
    with between_layers(model, lambda: False):
        assert any(module._forward_pre_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())
