"""What is traced of a compiled model against one that is compiled, by Inductor on this CPU."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from engine.tracing.autocast import Autocast
from engine.tracing.partition import PRIME, kept_by_compiled
from tests.engine.language_models import batch, make

SAMPLES, LENGTH = 6, 32


def _on_meta(kind: str, precision: Autocast | None = None) -> tuple[int, int]:
    tokens = torch.empty((PRIME, LENGTH), dtype=torch.int64, device="meta")
    return kept_by_compiled(make(kind, dropout=False).to("meta"), {"input_ids": tokens, "labels": tokens}, precision)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_compiled_on_the_cpu(kind: str) -> None:
    model: Any = make(kind, dropout=False)
    weights = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    given = {name: tensor for name, tensor in batch(SAMPLES, LENGTH).items() if name != "attention_mask"}
    weights |= {tensor.untyped_storage()._cdata for tensor in given.values()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    model.compile()
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(**given).loss
        loss.backward()
    finally:
        torch.compiler.reset()
    per_sample, fixed = _on_meta(kind)
    assert SAMPLES * per_sample + fixed == pytest.approx(sum(kept.values()), rel=0.1)


def test_half_precision_keeps_about_half() -> None:
    wide, _ = _on_meta("llama")
    half, _ = _on_meta("llama", Autocast(torch.bfloat16))
    assert 0.45 * wide < half < 0.75 * wide
