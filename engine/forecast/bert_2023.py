"""BERT as transformers 4.33 computed it, where that allocates differently from today's: for the lecture's stack.

(models/bert/modeling_bert.py of v4.33.3. The scores stay alive until attention returns, a mask is always added, the
position embeddings are added in place, and checkpointing was the reentrant kind.)
"""

from __future__ import annotations

import math
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)

ATTENTION = "eager-2023"


def as_in_2023(model: Any, *, checkpointing: bool) -> None:
    """Make a model built by today's transformers allocate as that of 2023 did. BERT's own changes are for BERT only."""
    if model.config.model_type == "bert":
        _register()
        model.set_attn_implementation(ATTENTION)
        embeddings = model.base_model.embeddings
        embeddings.forward = MethodType(_embed, embeddings)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": True})


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, eager_mask)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`BertSelfAttention.forward`: tensors of shape (batch, heads, length, width); the result's heads come third."""
    if attention_mask is None:
        attention_mask = query.new_zeros(query.size(0), 1, 1, key.size(2))
    scores = torch.matmul(query, key.transpose(-1, -2))
    scores = scores / math.sqrt(query.size(-1))
    scores = scores + attention_mask
    probabilities = F.softmax(scores, dim=-1)
    probabilities = F.dropout(probabilities, p=dropout, training=module.training)
    context = torch.matmul(probabilities, value)
    return context.transpose(1, 2).contiguous(), None


def _embed(self: Any, input_ids: torch.Tensor, token_type_ids: Any = None, **_: Any) -> torch.Tensor:
    """`BertEmbeddings.forward`: (batch, length) token ids to (batch, length, width)."""
    length = input_ids.size(1)
    if token_type_ids is None:
        token_type_ids = self.token_type_ids[:, :length].expand(input_ids.size(0), length)
    words = self.word_embeddings(input_ids)
    types = self.token_type_embeddings(token_type_ids)
    embeddings = words + types
    positions = self.position_embeddings(self.position_ids[:, :length])
    embeddings += positions
    embeddings = self.LayerNorm(embeddings)
    result: torch.Tensor = self.dropout(embeddings)
    return result
