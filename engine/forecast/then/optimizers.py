"""Adam and AdamW of earlier days, with the temporaries that their steps hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class _Adam(Optimizer):
    """Makes the two moments where they are missing, and steps a group at a time."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of the parameters that have gradients."""
        with torch.no_grad():
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                self._step_group(params)

    def _step_group(self, params: list[Any]) -> None:
        raise NotImplementedError

    def _moments(self, parameter: Any) -> tuple[torch.Tensor, torch.Tensor]:
        state = self.state[parameter]
        if not state:
            state.update(
                exp_avg=torch.zeros_like(parameter, memory_format=torch.preserve_format),
                exp_avg_sq=torch.zeros_like(parameter, memory_format=torch.preserve_format),
            )
        return state["exp_avg"], state["exp_avg_sq"]


class LoopAdamW(_Adam):
    """The AdamW of transformers 2 to 4 (optimization.py), the default of its Trainer until 4.29.

    One parameter after the other; the denominator of one lives until that of the next is there.
    """

    def _step_group(self, params: list[Any]) -> None:
        for parameter in params:
            average, square = self._moments(parameter)
            average.mul_(0.9).add_(parameter.grad, alpha=0.1)
            square.mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
            denominator = square.sqrt().add_(1e-8)
            parameter.addcdiv_(average, denominator, value=-1.0)


class ForeachAdam20(_Adam):
    """The foreach Adam and AdamW of PyTorch 2.0: at its peak it holds two copies of all parameters.

    (torch/optim/adamw.py of v2.0.1, `_multi_tensor_adamw`: the root of the second moment, and its sum with eps.)
    """

    def _step_group(self, params: list[Any]) -> None:
        grads: list[Any] = [p.grad for p in params]
        moments = [self._moments(p) for p in params]
        averages: list[Any] = [average for average, _ in moments]
        squares: list[Any] = [square for _, square in moments]
        torch._foreach_mul_(params, 1.0)
        torch._foreach_mul_(averages, 0.9)
        torch._foreach_add_(averages, grads, alpha=0.1)
        torch._foreach_mul_(squares, 0.999)
        torch._foreach_addcmul_(squares, grads, grads, 0.001)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [1.0] * len(roots))
        denominators = torch._foreach_add(roots, 1e-8)
        torch._foreach_addcdiv_(params, averages, denominators, [-1.0] * len(roots))
