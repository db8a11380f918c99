"""Language models' logits on their way to the loss, as transformers 4 had it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)

from engine.tracing.stack import Stack

UPCAST_IN_THE_LOSS = (4, 45)
"""From this version of transformers on; before it the models did it, those that did."""
_UPCAST_BY_THE_MODEL = frozenset(("llama", "mistral", "mixtral", "phi", "phi3", "qwen2", "gemma", "gemma2", "stablelm"))
"""Architectures whose heads gave fp32 logits before."""


def shift(model: Any, stack: Stack) -> None:
    """Give a causal language model the loss of the day: its logits are copied to leave the last position out."""
    assert stack.transformers is not None
    in_the_loss = stack.transformers >= UPCAST_IN_THE_LOSS
    model.loss_function = partial(_causal_loss, upcasts=in_the_loss)
    head = model.get_output_embeddings()
    if not in_the_loss and model.config.model_type in _UPCAST_BY_THE_MODEL and head is not None:
        head.register_forward_hook(lambda module, arguments, logits: logits.float())


def _causal_loss(
    logits: torch.Tensor, labels: torch.Tensor, vocab_size: int, *, upcasts: bool, **_: Any
) -> torch.Tensor:
    """The mean over the tokens; `logits` has the shape (batch, length, vocabulary)."""
    if upcasts:
        logits = logits.float()
    shifted = logits[..., :-1, :].contiguous()
    expected = labels[..., 1:].contiguous()
    return F.cross_entropy(shifted.view(-1, vocab_size), expected.view(-1))
