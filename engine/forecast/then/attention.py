"""Attention as transformers 4 computed it: which products stay alive and what is copied.

Tensors have the shape (batch, heads, length, width); the results' heads come third.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)

Attention = Callable[..., tuple[torch.Tensor, None]]


def bert(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`BertSelfAttention.forward`, and so RoBERTa's: a mask is always added, in the type of the weights."""
    if attention_mask is None:
        weights = next(module.parameters())
        attention_mask = weights.new_zeros(query.size(0), 1, 1, key.size(2))
    scores = torch.matmul(query, key.transpose(-1, -2))
    scores = scores / math.sqrt(query.size(-1))
    scores = scores + attention_mask
    probabilities = F.softmax(scores, dim=-1)
    probabilities = F.dropout(probabilities, p=dropout, training=module.training)
    context = torch.matmul(probabilities, value)
    return context.transpose(1, 2).contiguous(), None


def distilbert(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`MultiHeadSelfAttention.forward`: the query is scaled, and the mask fills."""
    query = query / math.sqrt(query.size(-1))
    scores = torch.matmul(query, key.transpose(2, 3))
    hidden = query.new_ones(query.size(0), key.size(2), dtype=torch.int64) == 0
    scores = scores.masked_fill(hidden.view(query.size(0), 1, 1, -1).expand_as(scores), -math.inf)
    weights = F.softmax(scores, dim=-1)
    weights = F.dropout(weights, p=dropout, training=module.training)
    context = torch.matmul(weights, value)
    return context.transpose(1, 2).contiguous(), None


def gpt2(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`Attention._attn`: causal by a buffer of one byte per pair of positions, made boolean in every layer."""
    weights = torch.matmul(query, key.transpose(-1, -2))
    weights = weights / float(value.size(-1)) ** 0.5
    length = weights.size(-1)
    shown: Any = module.causal
    weights = torch.where(shown[:, :, :length, :length].bool(), weights, weights.new_full((), -1e4))
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = F.softmax(weights, dim=-1)
    weights = weights.type(value.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def t5(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`T5Attention.forward`: the bias is added in place, and the softmax is in fp32."""
    scores = torch.matmul(query, key.transpose(3, 2))
    for added in (position_bias, attention_mask):
        if added is not None:
            scores += added
    weights = F.softmax(scores.float(), dim=-1).type_as(scores)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def llama(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`LlamaAttention.forward`: keys and values are repeated for the heads that share them, a mask is always added."""
    key, value = _repeated(module, key), _repeated(module, value)
    weights = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(query.size(-1))
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """integrations/sdpa_attention.py: shared keys and values are repeated, and all three made contiguous."""
    key, value = _repeated(module, key), _repeated(module, value)
    if is_causal is None:
        is_causal = attention_mask is None and query.shape[2] > 1 and getattr(module, "is_causal", True)
    attended = F.scaled_dot_product_attention(
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        attn_mask=attention_mask,
        dropout_p=dropout,
        is_causal=is_causal,
        scale=scaling,
    )
    return attended.transpose(1, 2).contiguous(), None


def _repeated(module: torch.nn.Module, shared: torch.Tensor) -> torch.Tensor:
    """`repeat_kv`: each key and value as often as heads share it."""
    times = getattr(module, "num_key_value_groups", 1)
    if times == 1:
        return shared
    batch, heads, length, width = shared.shape
    return shared[:, :, None].expand(batch, heads, times, length, width).reshape(batch, heads * times, length, width)
