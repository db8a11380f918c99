"""Who trains with this process: nobody, as a rule. `engine.techniques.parallel.several` has the others.

The training loop asks here for all that several ranks do otherwise, so that it is one loop for one GPU and for many.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.optim import Optimizer

from engine.contract.config import RunConfig
from engine.contract.records import Phase
from engine.techniques import gradients
from engine.techniques.optimizers import build_optimizer
from engine.techniques.preloading import EpochOrder


class Together:
    """Alone: every question has the answer that one GPU gives, and costs nothing."""

    rank = 0
    world_size = 1

    def first(self) -> AbstractContextManager[None]:
        """Around what the first rank does before the others, such as a download that these find done."""
        return nullcontext()

    def wrap(self, model: torch.nn.Module, config: RunConfig) -> torch.nn.Module:
        """The model on its device, made ready to be trained together. Called once, before the optimizer is built."""
        return model

    def optimizer(
        self, config: RunConfig, groups: list[dict[str, object]], enter: Callable[[Phase], None]
    ) -> Optimizer:
        """Over what this rank trains."""
        return build_optimizer(config, groups, enter=enter)

    def part(self, order: EpochOrder) -> EpochOrder:
        """This rank's part of an epoch's order: as many samples as every other one's."""
        return order

    def window(self, model: torch.nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        """Around a micro-step: gradients are averaged in the last one of a window only."""
        return nullcontext()

    def total(self, number: int) -> int:
        """The sum of all ranks' numbers, on the host."""
        return number

    def clip(self, optimizer: Optimizer, max_norm: float, *, in_step: bool) -> torch.Tensor:
        """As `gradients.clip`, by the norm of all gradients wherever they are."""
        return gradients.clip(optimizer, max_norm, in_step=in_step)

    def agree(self, asked: bool) -> bool:
        """Whether any rank is asked to stop: the same answer in all of them."""
        return asked
