"""What one training needs, on its device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from engine.contract.best import Best
from engine.contract.config import RunConfig
from engine.contract.events import Event
from engine.devices.base import Device
from engine.devices.precision import Precision
from engine.techniques.parallel.together import Together
from engine.techniques.preloading import EpochOrder
from engine.techniques.stopping import countable
from engine.training.clock import Clock
from engine.training.saving.keeper import Keeper
from engine.training.whereabouts import Whereabouts

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import DataLoader


@dataclass(kw_only=True)
class Job:
    """Everything one training needs, on its device."""

    run_id: int
    config: RunConfig
    device: Device
    model: torch.nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    precision: Precision
    loader: DataLoader[Any]
    order: EpochOrder
    eval_loader: DataLoader[Any] | None
    eval_batches: float = math.inf
    """Of its batches so many count; a rank goes along with the others' where its own part has fewer."""
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    """Of several ranks: whether they have agreed to, which they do at the end of an update."""
    together: Together = field(default_factory=Together)
    """The ranks that this is one of."""
    wrapped: torch.nn.Module | None = None
    """What has the model's gradients averaged around it; None where the model itself is called."""
    keeper: Keeper | None = None
    """What keeps checkpoints and models; None where none are."""
    threads: int = 1
    """That compute."""
    clock: Clock = field(init=False)
    whereabouts: Whereabouts = field(init=False)
    best: Best = field(init=False)
    """What the evaluations so far came to: which is the best, and whether to go on."""
    micro_step: int = 0
    """The micro-step under way, the wait for its data included, counted from 1 over the whole run; 0 before them."""
    update: int = 0
    """Updates done."""
    began_at: int = 0
    """Updates that the run that this one goes on with had done."""
    epoch: int = 0
    """The first epoch to train: those before it were trained by the run that this one goes on with."""
    skipped: int = 0
    """Micro-steps of that epoch that were, too."""
    trained_s: float = 0.0
    """Seconds that it had trained."""
    epoch_began: torch.Tensor | None = None
    """The state of the loader's random numbers when the epoch under way began."""
    asked: Callable[[], bool] = field(init=False)
    """Whether this rank is asked to stop, which others do not know yet."""
    stops: bool = False
    """Whether ranks have agreed to stop."""
    random: dict[str, Any] | None = None
    """The random numbers that the first micro-step is to find; None where it takes them as they are."""

    def __post_init__(self) -> None:
        self.clock = Clock(self.device)
        n_layers = None if self.config.torch_compile else countable(self.model)
        self.whereabouts = Whereabouts(self.clock, n_layers)
        self.best = Best(self.config)
        self.asked = self.should_stop
        if self.together.world_size > 1:  # one that stopped by itself would leave the others waiting for it
            self.should_stop = lambda: self.stops

    @property
    def calls(self) -> torch.nn.Module:
        """What a micro-step calls."""
        return self.model if self.wrapped is None else self.wrapped

    @property
    def micro_steps_per_epoch(self) -> int:
        return len(self.loader)

    @property
    def planned_updates(self) -> int:
        return planned_updates(self.config, self.micro_steps_per_epoch)

    @property
    def evaluates_after_update(self) -> bool:
        """Whether the update that is done is followed by an evaluation, wherever in its epoch it is."""
        every = self.config.eval_steps
        return self.eval_loader is not None and every is not None and self.update % every == 0

    @property
    def evaluates_after_epoch(self) -> bool:
        """Whether the epoch that is over is: each one, or with `eval_steps` the last, where that is still to do."""
        if self.eval_loader is None or self.config.eval_steps is None:
            return self.eval_loader is not None
        return self.update == self.planned_updates and not self.evaluates_after_update


def planned_updates(config: RunConfig, micro_steps_per_epoch: int) -> int:
    """Updates of a whole run: a last incomplete window of an epoch still makes one."""
    return config.epochs * -(-micro_steps_per_epoch // config.gradient_accumulation_steps)
