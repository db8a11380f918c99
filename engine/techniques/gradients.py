"""Gradients between backward and the optimizer's step: clipped to a norm, and forgotten after it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.optim import Optimizer


def clip(optimizer: Optimizer, max_norm: float, *, in_step: bool, steps: Optimizer | None = None) -> torch.Tensor:
    """Scale the gradients down to `max_norm` where they are longer; their norm before that, a scalar.

    As `torch.nn.utils.clip_grad_norm_`, except that with `in_step` a fused optimizer scales them in its own kernel, in
    its next step: a pass over all gradients less. (Not with an enabled `GradScaler`, which sets the same attribute.)
    `steps`: the optimizer that takes the step, where `optimizer` leaves it to another one.
    """
    trained = list(parameters(optimizer))
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
    if not in_step or not scaled_in_step(steps or optimizer, norm, max_norm):
        torch.nn.utils.clip_grads_with_norm_(trained, max_norm, norm)
    return norm


def scaled_in_step(optimizer: Optimizer, norm: torch.Tensor, max_norm: float) -> bool:
    """Have the next step scale gradients of this norm down to `max_norm`; False where it cannot."""
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return False
    # what the kernel divides by, in fp32 whatever the gradients are in
    optimizer.grad_scale = ((norm.float() + 1e-6) / max_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    return True


def forget(optimizer: Optimizer) -> None:
    """Free the gradients. What `zero_grad(set_to_none=True)` does besides costs a small model's update 2 %."""
    for parameter in parameters(optimizer):
        parameter.grad = None


def parameters(optimizer: Optimizer) -> Iterator[torch.nn.Parameter]:
    """What the optimizer trains. Walking a model's modules for it takes longer than many a kernel."""
    for group in optimizer.param_groups:
        yield from group["params"]
