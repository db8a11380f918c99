"""Optimizers on meta tensors with the allocations of their implementations on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from engine.contract.config import RunConfig
from engine.forecast.loops import Loop
from engine.forecast.then.optimizers import ForeachAdam20, LoopAdamW
from engine.techniques.decay import Group
from engine.techniques.gradients import parameters
from engine.techniques.in_backward import Enter, OptimizerInBackward
from engine.techniques.optimizers import build_optimizer
from engine.tracing.stack import Stack


def optimizer_on_meta(config: RunConfig, stack: Stack, loop: Loop, trained: list[Group], enter: Enter) -> Optimizer:
    """The run's optimizer, or one that allocates the same where torch's refuses meta tensors or is newer.

    `enter` is told the phases of an optimizer that steps in backward.
    """
    if config.optimizer_in_backward:
        alone = config.with_values(optimizer_in_backward=False)
        return OptimizerInBackward(trained, lambda some: optimizer_on_meta(alone, stack, loop, some, enter), enter)
    is_adam = config.optimizer in ("adamw", "adam")
    if config.optimizer_implementation == "fused":
        if is_adam:
            return FusedAdam(trained, {"lr": config.learning_rate})
        config = config.with_values(optimizer_implementation="loop")  # SGD without momentum: both need nothing
    if is_adam and config.optimizer_implementation == "foreach" and stack.adds_eps_apart:
        return ForeachAdam20(_groups(trained, loop), {"lr": config.learning_rate})
    if config.optimizer == "adamw" and config.optimizer_implementation == "loop" and stack.torch < (2, 0):
        return LoopAdamW(_groups(trained, loop), {"lr": config.learning_rate})
    return build_optimizer(config, trained)


def _groups(trained: list[Group], loop: Loop) -> list[dict[str, Any]]:
    """The Trainer puts biases and normalisation weights, which are vectors, in a group without weight decay."""
    every = [p for group in trained for p in group["params"]]
    if loop.name != "trainer":
        return [{"params": every}]
    groups = [[p for p in every if p.dim() > 1], [p for p in every if p.dim() <= 1]]
    return [{"params": group} for group in groups if group]


class FusedAdam(Optimizer):
    """Adam's and AdamW's fused kernel: state, of which the step counts are on the GPU too, and no temporaries.

    (torch/optim/adam.py: `_init_group` and `_fused_adam`.) It changes no parameter.
    """

    _step_supports_amp_scaling = True

    @property
    def traffic(self) -> int:
        """Bytes that the kernel reads and writes: it runs as no traced operator."""
        n_bytes: int = sum(p.numel() * p.element_size() for p in parameters(self))
        return 7 * n_bytes

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make the state where it is missing."""
        for parameter in parameters(self):
            if parameter.grad is not None and not self.state[parameter]:
                self.state[parameter].update(
                    step=torch.zeros((), dtype=torch.float32, device=parameter.device),
                    exp_avg=torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    exp_avg_sq=torch.zeros_like(parameter, memory_format=torch.preserve_format),
                )
