"""Selective checkpointing changes neither loss nor gradients, and computes no product twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy

from engine.contract.config import RunConfig
from engine.techniques import checkpointing
from engine.techniques.selective import policy
from tests.engine.language_models import batch, make

aten = torch.ops.aten


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func._schema.name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def products(self) -> int:
        return sum(self.calls[f"aten::{name}"] for name in ("mm", "addmm", "bmm", "baddbmm"))


def _step(kind: str, how: str, *, dropout: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor], _Counted]:
    model: Any = make(kind, dropout=dropout)
    checkpointing.apply(model, RunConfig(gradient_checkpointing=how))
    torch.manual_seed(3)
    with _Counted() as counted:
        loss = model(**batch()).loss
        loss.backward()
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, counted


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5", "mixtral"])
@pytest.mark.parametrize("dropout", [True, False])
def test_loss_and_gradients_are_those_without(kind: str, dropout: bool) -> None:
    loss, gradients, counted = _step(kind, "selective", dropout=dropout)
    plain, expected, uncounted = _step(kind, "off", dropout=dropout)
    torch.testing.assert_close(loss, plain)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], msg=lambda text, name=name: f"{name}: {text}")
    assert counted.products == uncounted.products
    assert counted.calls.total() > uncounted.calls.total()


def test_attention_that_drops_out_is_computed_again() -> None:
    attention = aten._scaled_dot_product_efficient_attention.default
    query = torch.empty(1, 1, 4, 8, device="meta")
    assert policy(None, attention, query, query, query, None, True) is CheckpointPolicy.MUST_SAVE
    assert policy(None, attention, query, query, query, None, True, 0.1) is CheckpointPolicy.PREFER_RECOMPUTE
    assert policy(None, aten.gelu.default, query) is CheckpointPolicy.PREFER_RECOMPUTE
