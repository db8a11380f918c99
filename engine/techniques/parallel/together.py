"""Who trains with this process: nobody, as a rule. `engine.techniques.parallel.several` has the others.

The training loop asks here for all that several ranks do otherwise, so that it is one loop for one GPU and for many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.optim import Optimizer

from engine.contract.config import RunConfig
from engine.contract.records import Phase, RankShare
from engine.techniques import gradients
from engine.techniques.optimizers import build_optimizer
from engine.techniques.parallel.sharding import Visit
from engine.techniques.preloading import Batch, EpochOrder

T = TypeVar("T")

Waits = Callable[[bool], None]
"""Told True where this rank begins to wait for others, and False where it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What an update came to in all ranks: the same in each of them."""

    loss: float
    """Mean over the window of all."""
    whole: RankShare
    """What all of them make one: samples and tokens of all, the longest time, the mean of shares, the fullest's memory.
    """
    ranks: tuple[RankShare, ...] = ()
    """In their order; empty with one."""
    stops: bool = False
    """Whether any is asked to stop."""


class Together:
    """Alone: every question has the answer that one GPU gives, and costs nothing."""

    rank = 0
    world_size = 1
    divides_weights = False
    """Whether each rank holds a part of every weight; else all of them."""
    divides_states = False
    """Whether each rank holds a part of the optimizer's states."""
    note: str | None = None
    """A sentence for the transcript, where something is not as one expects; known once `wrap` was called."""

    def first(self) -> AbstractContextManager[None]:
        """Around what the first rank does before the others, such as a download that these find done."""
        return nullcontext()

    def divide(
        self, model: torch.nn.Module, config: RunConfig, batch: Batch, device: torch.device, visit: Visit
    ) -> None:
        """Leave this rank its part of a model on the host, before it is put on the device; `batch`: of one sample.

        `visit` is entered around the dividing of weights, as `sharding.shard` says.
        """

    def wrap(self, model: torch.nn.Module, config: RunConfig, waits: Waits) -> torch.nn.Module:
        """What micro-steps call: the model, on its device, or what has its gradients averaged.

        Called once, before the optimizer is built.
        """
        return model

    def optimizer(
        self, config: RunConfig, groups: list[dict[str, object]], enter: Callable[[Phase], None]
    ) -> Optimizer:
        """Over what this rank trains."""
        return build_optimizer(config, groups, enter=enter)

    def stepping(self, optimizer: Optimizer) -> Optimizer:
        """What `optimizer` made steps this rank's part with: it holds the states."""
        return optimizer

    def part(self, order: EpochOrder) -> EpochOrder:
        """This rank's part of an epoch's order: as many samples as every other one's."""
        return order

    def held_out(self, order: EpochOrder | None, n: int, batch_size: int) -> tuple[EpochOrder | None, float]:
        """This rank's part of `n` held-out samples, as many batches as every other one's, and how many of them count.

        None is their own order.
        """
        return order, math.inf

    def window(self, model: torch.nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        """Around a micro-step: gradients are averaged in the last one of a window only."""
        return nullcontext()

    def scored(self, model: torch.nn.Module) -> None:
        """An evaluation is over: no backward frees what its forwards have left."""

    def share(self, number: float) -> float:
        """The mean of all ranks' numbers, on the host."""
        return number

    def summed(self, numbers: Sequence[float]) -> Sequence[float]:
        """The sum of each, over all ranks, on the host."""
        return numbers

    def everyones(self, value: T) -> list[T]:
        """What each rank says, in their order, once all have said it. Objects that can be pickled, and few of them."""
        return [value]

    def clip(self, optimizer: Optimizer, max_norm: float, *, in_step: bool) -> torch.Tensor:
        """As `gradients.clip`, by the norm of all gradients wherever they are."""
        return gradients.clip(optimizer, max_norm, in_step=in_step)

    def update_done(self, loss: float, own: RankShare, asked: bool) -> Update:
        """Tell the others of this rank's update, and whether it is asked to stop, and hear of theirs."""
        return Update(loss=loss, whole=own, stops=asked)

    def agree(self, asked: bool) -> bool:
        """Whether any rank is asked to stop: the same answer in all of them."""
        return asked
