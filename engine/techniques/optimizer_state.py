"""An optimizer's states put back as they were."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


def load(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """As `load_state_dict`, which casts states to the weights' type: here each keeps its own."""
    optimizer.load_state_dict(state)
    for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name, saved in state["state"].get(index, {}).items():
            held = optimizer.state[parameter].get(name)
            if isinstance(saved, torch.Tensor) and isinstance(held, torch.Tensor) and held.dtype != saved.dtype:
                optimizer.state[parameter][name] = saved.to(held.device)


def tensors(optimizer: Optimizer) -> list[torch.Tensor]:
    """The tensors of its states, those of optimizers that it is made of too."""
    each = [optimizer, *getattr(optimizer, "optimizers", {}).values()]
    values = (value for one in each for states in one.state.values() for value in states.values())
    return [value for value in values if isinstance(value, torch.Tensor)]
