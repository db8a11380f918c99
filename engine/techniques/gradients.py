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
    steps = steps or optimizer
    trained = list(parameters(optimizer))
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
    if in_step and getattr(steps, "_step_supports_amp_scaling", False):
        # what the kernel divides by, in fp32 whatever the gradients are in
        steps.grad_scale = ((norm.float() + 1e-6) / max_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    else:
        torch.nn.utils.clip_grads_with_norm_(trained, max_norm, norm)
    return norm


def forget(optimizer: Optimizer) -> None:
    """Free the gradients. What `zero_grad(set_to_none=True)` does besides costs a small model's update 2 %."""
    for parameter in parameters(optimizer):
        parameter.grad = None


def parameters(optimizer: Optimizer) -> Iterator[torch.nn.Parameter]:
    """What the optimizer trains. Walking a model's modules for it takes longer than many a kernel."""
    for group in optimizer.param_groups:
        yield from group["params"]
