"""A model with what LoRA trained added to its weights, from the adapter's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.config import ConfigError, RunConfig
from engine.contract.presets import model_name
from engine.techniques.dequantised import plain_state
from engine.training import adapters, models
from engine.training.hub import Hub

if TYPE_CHECKING:
    import torch


def resolve(name: str, task: str, hub: Hub) -> models.ModelSource:
    """What a name stands for, as `models.resolve` has it; of an adapter's folder its base with the adapter added.

    Raises `ConfigError`.
    """
    folder = Path(name).expanduser()
    return _with_adapter(folder, name, task, hub) if adapters.is_adapter(folder) else models.resolve(name, hub)


def _with_adapter(folder: Path, name: str, task: str, hub: Hub) -> models.ModelSource:
    base = models.resolve(adapters.base_of(folder, name), hub)
    if not base.has_weights:
        raise ConfigError("model", f"--model {name!r}: the base of its adapter has no weights: get its files again.")

    def state() -> dict[str, torch.Tensor]:
        model: Any = models.build(base, base.config, RunConfig(model=base.name, task=task, device="cpu"))
        return plain_state(adapters.on(model, folder, name).merge_and_unload())  # type: ignore[operator]

    return replace(
        base,
        name=name,
        location=None,
        tokenizer=models.tokenizer_in(folder) or base.tokenizer,
        note=f"Weights of {model_name(base.name)} with what LoRA trained, from {model_name(name)}.",
        state=state,
    )
