"""Optimizers, with the Hugging Face Trainer's defaults."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

import torch
from torch.optim import Optimizer

from engine.contract.config import RunConfig
from engine.techniques.compiling import TRITON_CAPABILITY
from engine.techniques.decay import Group, as_groups
from engine.techniques.in_backward import Enter, OptimizerInBackward


def build_optimizer(
    config: RunConfig,
    parameters: Iterable[torch.nn.Parameter] | Iterable[Group],
    enter: Enter = lambda phase: None,
) -> Optimizer:
    """The run's optimizer: β 0.9/0.999 and eps 1e-8 (`TrainingArguments` defaults), weight decay where groups have it.

    `enter` is told the phases of an optimizer that steps in backward.
    """
    trained = as_groups(parameters)
    if config.optimizer_in_backward:
        return OptimizerInBackward(trained, lambda some: build_for(config, some), enter)
    return build_for(config, trained)


def build_for(config: RunConfig, trained: list[Group]) -> Optimizer:
    """As `build_optimizer`, for groups as they are, empty ones too, that are stepped after backward."""
    if config.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        # as TrainingArguments(optim="adafactor"): a given learning rate instead of the relative step
        adafactor: Optimizer = Adafactor(trained, lr=config.learning_rate, scale_parameter=False, relative_step=False)
        return adafactor
    if config.optimizer == "adamw-8bit":
        from engine.techniques import adamw_8bit

        eight_bit: Optimizer = adamw_8bit.build(trained, config.learning_rate, compiled=_compiles(config, trained))
        return eight_bit
    if config.optimizer == "paged-adamw-8bit":
        from engine.techniques import paged_adamw_8bit

        paged: Optimizer = paged_adamw_8bit.build(trained, config.learning_rate)
        return paged
    how: dict[str, bool] = {
        "fused": {"fused": True},
        "foreach": {"foreach": True},
        "loop": {"foreach": False, "fused": False},
    }[config.optimizer_implementation]
    if config.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=config.learning_rate, momentum=config.momentum, **how)
    adam = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return adam(trained, lr=config.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **how)


def _compiles(config: RunConfig, trained: list[Group]) -> bool:
    """Whether the 8-bit step is compiled: where Triton can, and on a CPU for those who have asked to compile."""
    device = next((parameter.device for group in trained for parameter in group["params"]), torch.device("meta"))
    if device.type == "cuda":
        return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= TRITON_CAPABILITY
    return device.type == "cpu" and config.torch_compile


def note(config: RunConfig, device_type: str) -> str | None:
    """One sentence for the transcript, where the optimizer is not what one expects."""
    if config.optimizer == "paged-adamw-8bit" and device_type == "cpu":
        return "On a CPU the states of paged AdamW are not paged: all memory is the host's."
    if config.optimizer != "adamw-8bit" or device_type != "cpu" or config.torch_compile:
        return None
    from engine.techniques import adamw_8bit

    return adamw_8bit.NOTE
