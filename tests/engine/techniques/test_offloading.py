"""What is moved to the host comes back as it was, and only what layers keep is moved."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.techniques import checkpointing, lora
from engine.techniques.offloading import Offloading
from tests.engine.language_models import batch, make, task_of


class _Host:
    """This machine's memory, as if the model were elsewhere."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.given = 0
        self.ids: set[int] = set()

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        assert tensor.dim() == 1
        self.taken.append(tensor.numel() * tensor.element_size())
        self.ids.add(tensor.untyped_storage()._cdata)
        return tensor.clone()

    def give(self, copy: torch.Tensor, device: torch.device) -> torch.Tensor:
        self.given += 1
        return copy.clone()


def _step(kind: str, host: _Host | None, **knobs: Any) -> dict[str, torch.Tensor]:
    config = RunConfig(task=task_of(kind), activation_offloading=host is not None, **knobs)
    torch.manual_seed(9)
    model: Any = lora.apply(make(kind), config)
    checkpointing.apply(model, config)
    moved = Offloading(model, config, host) if host is not None else None
    torch.manual_seed(3)
    model(**batch()).loss.backward()
    assert moved is None or (moved.held == 0 and moved.most_held > 0)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5", "mixtral"])
@pytest.mark.parametrize(
    "knobs",
    [{}, {"gradient_checkpointing": "on"}, {"gradient_checkpointing": "selective"}, {"lora_rank": 4}],
    ids=["alone", "checkpointed", "selective", "lora"],
)
def test_gradients_are_those_without(kind: str, knobs: dict[str, Any]) -> None:
    host = _Host()
    gradients, expected = _step(kind, host, **knobs), _step(kind, None, **knobs)
    assert host.taken
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected[name]), name


def test_with_checkpointing_the_inputs_of_layers_are_moved() -> None:
    few, all_of_it = _Host(), _Host()
    _step("llama", few, gradient_checkpointing="on")
    _step("llama", all_of_it)
    assert sum(few.taken) < sum(all_of_it.taken) / 3


def test_weights_stay_and_nothing_is_moved_twice() -> None:
    model: Any = make("llama")
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    host = _Host()
    moved = Offloading(model, RunConfig(), host)
    loss = model(**batch()).loss
    assert not host.ids & weights
    assert moved.held == sum(host.taken)
    loss.backward()
    # each comes back once: what three products need stays until the last of them
    assert host.given <= len(host.taken)
    assert moved.held == 0


def test_it_does_not_keep_the_device_s_memory() -> None:
    layer = torch.nn.Linear(64, 64)
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList([layer])
    Offloading(model, RunConfig(), _Host())
    given = torch.ones(8, 64).mul(2)
    gone = weakref.ref(given.untyped_storage())
    out = layer(given)
    del given
    assert gone() is None
    out.sum().backward()
    assert torch.equal(layer.weight.grad, torch.full((64, 64), 16.0))


def test_a_host_that_lacks_room_is_refused() -> None:
    model: Any = make("llama")
    Offloading(model, RunConfig(), _Host(), room=10_000)
    with pytest.raises(ConfigError, match=r"more than the 0\.0 GiB of memory that this host has free: use a smaller"):
        model(**batch())


def test_a_forward_after_one_that_failed_is_whole() -> None:
    model: Any = make("llama")
    moved = Offloading(model, RunConfig(), _Host())
    handle = model.model.layers[1].mlp.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        model(**batch())
    handle.remove()
    assert not moved._open
    left = moved.held  # as long as somebody has the error with its frames
    model(**batch()).loss.backward()
    assert moved.held <= left


@pytest.mark.parametrize(
    ("changes", "fix"),
    [({"device": "cpu"}, "--device virtual:tesla-p4"), ({"torch_compile": True}, "--torch-compile off")],
)
def test_refused_with(changes: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        RunConfig(activation_offloading=True, **changes)
