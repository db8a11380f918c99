"""The optimizer in backward: each parameter is stepped as soon as its gradient is there, and the gradient freed."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from engine.contract.records import Phase
from engine.techniques import optimizer_state
from engine.techniques.decay import Group

Enter = Callable[[Phase], None]


class OptimizerInBackward(Optimizer):
    """One optimizer per parameter, stepped by a hook that runs when its gradient is complete.

    A parameter that is used twice (tied weights) has one gradient and is stepped once, after its last use, so
    that no other gradient is computed from a weight that has changed. `step` has nothing left to do.

    `build` makes the optimizer of the configured kind for groups of parameters; the schedule sets
    `param_groups[0]["lr"]` and they all follow. `enter` is told `Phase.OPTIMIZER` before an inner step and
    `Phase.BACKWARD` after it; on CUDA it is called in autograd's thread.
    """

    def __init__(
        self,
        groups: list[Group],
        build: Callable[[list[Group]], Optimizer],
        enter: Enter,
    ) -> None:
        super().__init__([dict(group) for group in groups], {"lr": None})  # it adds to them
        self.optimizers: dict[torch.nn.Parameter, Optimizer] = {
            p: build([{**group, "params": [p]}]) for group in groups for p in group["params"]
        }
        """The optimizer of each parameter; the states are theirs."""
        trained = list(self.optimizers)
        for group in self.param_groups:
            # the schedule computes with a rate of the same kind, a number or a tensor, as it would without this class
            group["lr"] = copy.deepcopy(self.optimizers[trained[0]].param_groups[0]["lr"])
        self._enter = enter
        hook = _hook(weakref.ref(self))  # a parameter that held its optimizer would outlive the run
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def state_dict(self) -> dict[str, Any]:
        """The rate, and the states of each parameter's optimizer in the order of the parameters."""
        return {**super().state_dict(), "each": [optimizer.state_dict() for optimizer in self.optimizers.values()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        each = state_dict["each"]
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "each"})
        for optimizer, state in zip(self.optimizers.values(), each, strict=True):
            optimizer_state.load(optimizer, state)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Nothing: backward has done it."""

    def step_parameter(self, parameter: torch.nn.Parameter) -> None:
        """Step one parameter by its gradient, and free the gradient."""
        self._enter(Phase.OPTIMIZER)
        optimizer = self.optimizers[parameter]
        group, rate = optimizer.param_groups[0], self.param_groups[0]["lr"]
        if isinstance(group["lr"], torch.Tensor):  # torchao's optimizers keep it so
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
        optimizer.step()
        parameter.grad = None
        self._enter(Phase.BACKWARD)


def _hook(owner: weakref.ref[OptimizerInBackward]) -> Callable[[torch.Tensor], None]:
    def on_gradient(parameter: torch.Tensor) -> None:
        optimizer = owner()
        if optimizer is not None and isinstance(parameter, torch.nn.Parameter):
            optimizer.step_parameter(parameter)

    return on_gradient
