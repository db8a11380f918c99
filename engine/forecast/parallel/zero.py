"""ZeRO-1's optimizer on meta tensors: every gradient is there, and states of the rank's own parameters alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from engine.techniques.decay import Group


class OneRanks(Optimizer):
    """Has all parameters, as what clips and forgets gradients asks for them, and steps with `own`.

    (`ZeroRedundancyOptimizer.step`: the local optimizer's, then a broadcast of every parameter in place.)
    """

    def __init__(self, groups: list[Group], own: Optimizer | None) -> None:
        super().__init__(groups, {"lr": 0.0})
        self._own = own
        self._step_supports_amp_scaling = getattr(own, "_step_supports_amp_scaling", False)

    @property
    def traffic(self) -> int:
        """Bytes that a kernel reads and writes which is no traced operator."""
        return int(getattr(self._own, "traffic", 0))

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """That of the rank's own."""
        return None if self._own is None else self._own.step()
