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
from engine.tracing.own_part import own_part
from engine.tracing.stack import Stack
from engine.tracing.unified import EIGHT_BIT_FROM, state_buffer


def optimizer_on_meta(config: RunConfig, stack: Stack, loop: Loop, trained: list[Group], enter: Enter) -> Optimizer:
    """The run's optimizer, or one that allocates the same where torch's refuses meta tensors or is newer.

    `enter` is told the phases of an optimizer that steps in backward.
    """
    if config.optimizer_in_backward:
        alone = config.with_values(optimizer_in_backward=False)
        return OptimizerInBackward(trained, lambda some: optimizer_on_meta(alone, stack, loop, some, enter), enter)
    is_adam = config.optimizer in ("adamw", "adam")
    if config.optimizer == "paged-adamw-8bit":
        return PagedAdam8bit(trained, {"lr": config.learning_rate})
    if config.optimizer_implementation == "fused":
        if is_adam:
            return FusedAdam(trained, {"lr": config.learning_rate})
        if config.optimizer == "sgd":
            return FusedSgd(trained, {"lr": config.learning_rate, "momentum": config.momentum})
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
        n_bytes: int = sum(own.nbytes for own in map(own_part, parameters(self)))
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


class FusedSgd(Optimizer):
    """SGD's fused kernel: with momentum one state per parameter, and no temporaries.

    (torch/optim/sgd.py: `_fused_sgd`, which makes all states before the first step.) It changes no parameter.
    """

    _step_supports_amp_scaling = True

    @property
    def traffic(self) -> int:
        """Bytes that the kernel reads and writes: parameter, gradient and, with momentum, the state."""
        n_bytes: int = sum(own.nbytes for own in map(own_part, parameters(self)))
        return (5 if self.defaults["momentum"] else 3) * n_bytes

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make the state where it is missing."""
        for parameter in parameters(self) if self.defaults["momentum"] else ():
            if parameter.grad is not None and not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.empty_like(parameter.grad)


class PagedAdam8bit(Optimizer):
    """bitsandbytes' `PagedAdamW8bit`: states of a byte per parameter, the large ones in unified memory.

    (`init_state` and `get_state_buffer` of optim/optimizer.py: one is paged from 100,000 parameters on, in fp32 below
    4,096, and has a scale for 256 parameters otherwise.) It changes no parameter.
    """

    _codes: tuple[torch.Tensor, ...] = ()

    @property
    def traffic(self) -> int:
        """Bytes that the kernel reads and writes: parameter and gradient in their types, both states in theirs."""
        sizes = [(p.numel(), p.element_size()) for p in parameters(self)]
        return sum(n * (3 * each + (4 if n >= EIGHT_BIT_FROM else 16)) for n, each in sizes)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make the states where they are missing."""
        for parameter in parameters(self):
            if parameter.grad is not None and not self.state[parameter]:
                self.state[parameter] = self._new_state(parameter)

    def _new_state(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        n, device = parameter.numel(), parameter.device
        if n < EIGHT_BIT_FROM:
            return {name: state_buffer(parameter, torch.float32) for name in ("state1", "state2")}
        if not self._codes:
            self._codes = torch.empty(256, device=device), torch.empty(256, device=device)
        states = {name: state_buffer(parameter, torch.uint8) for name in ("state1", "state2")}
        return states | {name: torch.zeros(-(-n // 256), device=device) for name in ("absmax1", "absmax2")}
