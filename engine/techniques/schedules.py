"""How the learning rate goes over a run: warm-up, then a constant rate or a decay to 0."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from engine.contract.config import RunConfig


def build_schedule(config: RunConfig, optimizer: Optimizer, updates: int) -> LRScheduler:
    """The run's schedule over `updates`."""
    return LambdaLR(optimizer, lambda update: share_of_rate(config, update, updates))


def share_of_rate(config: RunConfig, update: int, updates: int) -> float:
    """What the learning rate is multiplied by in the update after `update` of all `updates`, 0 to 1.

    The formulas of transformers/optimization.py, which imports peft; a constant rate with warm-up is its
    `constant_with_warmup`.
    """
    warmup = warmup_of(config, updates)
    if update < warmup:
        return update / warmup
    if config.lr_scheduler == "constant":
        return 1.0
    left = updates - update
    if config.lr_scheduler == "linear":
        return max(0.0, left / max(1, updates - warmup))
    progress = (update - warmup) / max(1, updates - warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def warmup_of(config: RunConfig, updates: int) -> int:
    """Updates of warm-up: below 1 a share of all, rounded up (`TrainingArguments.get_warmup_steps`)."""
    steps = config.warmup_steps
    return int(steps) if steps >= 1 else math.ceil(updates * steps)
