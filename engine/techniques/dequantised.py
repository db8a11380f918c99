"""What quantised weights stand for, as the layers that were there before held it: to save a model that others load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def plain_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As `state_dict`, with the values of quantised weights, and without their scales."""
    values = dict(_values(model))
    inside = tuple(f"{name}." for name in values)
    beside = {name.removesuffix("weight") + more for name in values for more in _MORE}
    state = model.state_dict().items()
    return {n: values.get(n, tensor) for n, tensor in state if not n.startswith(inside) and n not in beside}


_MORE = ("SCB", "weight_format")
"""What int8 layers keep beside their weight (`Linear8bitLt._save_to_state_dict`)."""


def _values(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    from transformers.pytorch_utils import Conv1D

    for path, module in model.named_modules():
        weight: Any = module._parameters.get("weight")
        if weight is None or weight.is_floating_point():
            continue
        values = _four_bits(weight) if weight.dtype is torch.uint8 else _eight_bits(weight, module)
        yield f"{path}.weight", values.T.contiguous() if getattr(module, "source_cls", None) is Conv1D else values


def _four_bits(weight: Any) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    values: torch.Tensor = dequantize_4bit(weight.data, weight.quant_state)
    return values


def _eight_bits(weight: Any, module: Any) -> torch.Tensor:
    from bitsandbytes.functional import int8_vectorwise_dequant

    scales = weight.SCB if module.state.SCB is None else module.state.SCB
    values: torch.Tensor = int8_vectorwise_dequant(weight.data, scales)
    return values
