"""Weight decay on the Hugging Face Trainer's groups: neither biases nor the weights of normalisations shrink."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from engine.contract.config import RunConfig

Group = dict[str, Any]
"""As torch's optimizers take them: `params`, and options of their own."""

_SPARED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def groups_of(config: RunConfig, model: torch.nn.Module) -> list[Group]:
    """What is trained, in groups that an optimizer takes: those that decay first, if any do."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not config.weight_decay:
        return [{"params": list(trained.values())}]
    decaying = set(decaying_names(model))
    parts = [
        ([parameter for name, parameter in trained.items() if (name in decaying) is decays], decays)
        for decays in (True, False)
    ]
    return [{"params": part, "weight_decay": config.weight_decay * decays} for part, decays in parts if part]


def decaying_names(model: torch.nn.Module) -> Iterator[str]:
    """The parameters that weight decay is for, by the Trainer's rule (`Trainer.get_decay_parameter_names` of
    transformers 5.23, whose import takes seconds).
    """
    within = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, torch.nn.LayerNorm))
    for name, _ in model.named_parameters():
        if not _SPARED.search(name.lower()) and not name.startswith(within):
            yield name


def as_groups(parameters: Iterable[torch.nn.Parameter] | Iterable[Group]) -> list[Group]:
    """Groups of what is trained; parameters alone are one group."""
    given: list[Any] = list(parameters)
    groups: list[Group] = given if given and isinstance(given[0], dict) else [{"params": given}]
    trained = ({**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups)
    return [group for group in trained if group["params"]]
