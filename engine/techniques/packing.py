"""Proofs by trial, before training: that a language model looks neither ahead nor into the document next to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from engine.contract.batching import keeps_apart
from engine.contract.config import ConfigError, RunConfig
from engine.process import gate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-4
"""Logits that should be equal differ by rounding, by far less; those of a model that looks differ by far more."""


def check(model: PreTrainedModel, config: RunConfig) -> None:
    """Raise `ConfigError` when this model cannot learn the next token of a text as configured.

    Runs the model on a few tokens, on the device it is on; leaves its mode and the random generators as they were.
    """
    if config.workload == "dummy" or config.task != "causal-lm":
        return
    if not is_causal(model):
        raise ConfigError(
            "model",
            f"--model {config.model} sees the tokens that it has to predict: use a decoder, such as gpt2-tiny or gpt2.",
        )
    if keeps_apart(config) and not keeps_documents_apart(model):
        raise ConfigError(
            "padding",
            f"--padding packed does not work with {config.model}: its attention mixes the documents of a row; "
            "use --padding longest.",
        )


def is_causal(model: PreTrainedModel) -> bool:
    """True when a token's logits do not change with the tokens after it."""
    one = _tokens(model, 8)
    other = one.clone()
    other[:, 4:] = one[:, :4]
    return _equal(_logits(model, one)[:, :4], _logits(model, other)[:, :4])


def keeps_documents_apart(model: PreTrainedModel) -> bool:
    """True when a document's logits are the same alone and behind another one in its row."""
    tokens = _tokens(model, 12)
    first, second = tokens[:, :5], tokens[:, 5:]
    positions = torch.cat([torch.arange(part.size(1), device=tokens.device) for part in (first, second)])[None]
    try:
        together = _logits(model, tokens, position_ids=positions)
    except TypeError:  # it takes no positions
        return False
    return _equal(together[:, :5], _logits(model, first)) and _equal(together[:, 5:], _logits(model, second))


def _tokens(model: PreTrainedModel, n: int) -> torch.Tensor:
    vocabulary = model.get_input_embeddings().num_embeddings
    return (torch.arange(n, device=model.device) * 7 + 5).remainder(vocabulary)[None]


def _logits(model: PreTrainedModel, tokens: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
    was_training = model.training
    model.eval()
    try:
        # which masks a model builds does not depend on the kernel that `--attention` asks for
        with (
            torch.no_grad(),
            gate.attention_kernels("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH"),
        ):
            logits: torch.Tensor = model(input_ids=tokens, **more).logits
    finally:
        model.train(was_training)
    return logits.float()


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = max(1.0, float(other.abs().max()))
    return bool((one - other).abs().max() <= TOLERANCE * scale)
