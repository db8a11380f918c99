"""Optimizers and learning-rate schedules, with the Hugging Face Trainer's defaults."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from engine.config import RunConfig


def build_optimizer(config: RunConfig, parameters: Iterable[torch.nn.Parameter]) -> Optimizer:
    """The run's optimizer: β 0.9/0.999, eps 1e-8 and no weight decay (`TrainingArguments` defaults)."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if config.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        # as TrainingArguments(optim="adafactor"): a given learning rate instead of the relative step
        adafactor: Optimizer = Adafactor(trained, lr=config.learning_rate, scale_parameter=False, relative_step=False)
        return adafactor
    how: dict[str, bool] = {
        "fused": {"fused": True},
        "foreach": {"foreach": True},
        "loop": {"foreach": False, "fused": False},
    }[config.optimizer_implementation]
    if config.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=config.learning_rate, **how)
    adam = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return adam(trained, lr=config.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **how)


def build_schedule(config: RunConfig, optimizer: Optimizer, updates: int) -> LRScheduler:
    """Linear decay from the learning rate to 0 over `updates`, without warm-up, or a constant rate."""
    from transformers import get_scheduler

    schedule: LRScheduler = get_scheduler(
        config.lr_scheduler, optimizer, num_warmup_steps=0, num_training_steps=updates
    )
    return schedule
