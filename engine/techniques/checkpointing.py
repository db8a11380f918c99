"""Gradient checkpointing: keep each layer's input, compute the rest again in backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.contract.config import ConfigError, RunConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_EVERY_N_LAYERS = {"on": 1, "every-second": 2, "selective": 1}


def apply(model: PreTrainedModel, config: RunConfig, *, preserve_rng_state: bool = True) -> None:
    """Switch checkpointing on as the run asks: non-reentrant, dropout replayed with the same random numbers.

    A step on meta tensors draws none: there `preserve_rng_state` is off, because putting the process's generator back
    would disturb a training in another thread.
    Raises `ConfigError` where the architecture has no checkpointing.
    """
    if config.gradient_checkpointing == "off":
        return
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": preserve_rng_state}
    if config.gradient_checkpointing == "selective":
        from engine.techniques.selective import contexts

        options["context_fn"] = contexts
    try:
        model.activation_checkpointing_enable(options, every_n_layers=_EVERY_N_LAYERS[config.gradient_checkpointing])
    except ValueError:
        raise ConfigError(
            "gradient_checkpointing",
            f"--gradient-checkpointing does not exist for {config.model}: use --gradient-checkpointing off.",
        ) from None
