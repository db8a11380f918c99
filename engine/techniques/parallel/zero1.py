"""As ddp, with the optimizer's states divided among the ranks by whole tensors: ZeroRedundancyOptimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from engine.contract.config import RunConfig
from engine.contract.records import Phase
from engine.techniques import gradients
from engine.techniques.decay import as_groups
from engine.techniques.optimizers import build_for
from engine.techniques.parallel.ddp import Ddp
from engine.techniques.parallel.several import OF_ONE_TYPE, refuse_several_types


class Zero1(Ddp):
    """A rank steps its own tensors, and hands out what they have become."""

    divides_states = True

    def optimizer(
        self, config: RunConfig, groups: list[dict[str, object]], enter: Callable[[Phase], None]
    ) -> Optimizer:
        trained = as_groups(groups)
        all_trained = (parameter for group in trained for parameter in group["params"])
        refuse_several_types(all_trained, config, OF_ONE_TYPE)

        def of_mine(mine: list[dict[str, Any]], **_: Any) -> Optimizer:
            return build_for(config, mine)  # a group of which none is this rank's stays: groups are told by number

        made_of_mine: Any = of_mine  # called as a class would be
        whole = ZeroRedundancyOptimizer(trained, made_of_mine, lr=config.learning_rate)
        whole.optim.register_step_post_hook(lambda *_: self._waits(True))
        whole.register_step_post_hook(lambda *_: self._waits(False))
        return whole

    def stepping(self, optimizer: Optimizer) -> Optimizer:
        assert isinstance(optimizer, ZeroRedundancyOptimizer)
        own: Optimizer = optimizer.optim
        return own

    def clip(self, optimizer: Optimizer, max_norm: float, *, in_step: bool) -> torch.Tensor:
        """All gradients are here; what scales them in its step is the optimizer of this rank's."""
        if not in_step or not isinstance(optimizer, ZeroRedundancyOptimizer):
            return gradients.clip(optimizer, max_norm, in_step=False)
        return gradients.clip(optimizer, max_norm, in_step=True, steps=optimizer.optim)
