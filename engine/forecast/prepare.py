"""The model of a configuration on the meta device, as a run would build it: what a forecast traces."""

from __future__ import annotations

import torch

from engine.contract.config import RunConfig
from engine.contract.forecast_types import ForecastError
from engine.forecast.quantised import lora_layers, stand_in
from engine.forecast.then.models import as_of
from engine.techniques import checkpointing, class_loss, cross_entropy, lora, quantised
from engine.tracing.stack import Stack
from engine.training import models


def build_on_meta(
    source: models.ModelSource, config: RunConfig, stack: Stack, *, n_labels: int, vocab_size: int | None
) -> torch.nn.Module:
    """The model with its techniques, without memory for its weights.

    Raises `ConfigError` as a run would, and `ForecastError` where a model cannot be built without weights.
    """
    shaped = models.shape(source, config, n_labels=n_labels, vocab_size=vocab_size)
    try:
        with torch.device("meta"):
            built = models.build(source, shaped, config)
            if config.is_quantised:
                quantised.replace(built, config, lambda linear, shape: stand_in(linear, shape, config.weights))
            layers = lora_layers() if config.is_quantised else None
            model: torch.nn.Module = lora.apply(built, config, layers)
            weights = torch.empty(n_labels) if config.class_weights != "none" else None
        checkpointing.apply(model, config, preserve_rng_state=False)  # peft passes calls on to the model
        as_of(model, stack, config)
        class_loss.apply(model, config, weights)
        cross_entropy.apply(model, config)
    except NotImplementedError as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ForecastError(
            f"{config.model} cannot be built without its weights ({reason}): run it to measure."
        ) from None
    return model
