"""A model built by today's transformers, made to allocate as that of a stack's day did."""

from __future__ import annotations

from functools import wraps
from types import MethodType
from typing import Any

import torch

from engine.contract.config import RunConfig
from engine.forecast.then import attention, losses
from engine.tracing.stack import Stack

_NO_SDPA = frozenset(
    (
        *("t5", "mt5", "umt5", "longt5", "switch_transformers", "pegasus", "marian", "blenderbot", "blenderbot-small"),
        *("bloom", "gpt_neo", "gptj", "codegen", "electra", "deberta", "deberta-v2", "mpnet", "longformer", "led"),
        *("xlnet", "xlm", "funnel", "big_bird", "bigbird_pegasus", "squeezebert", "mobilebert"),
    )
)
"""Architectures that had no sdpa in transformers 4.48 (`_supports_sdpa`); some of them have it now."""
_LIKE_BERT = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
_EAGER: dict[str, attention.Attention] = {
    **dict.fromkeys(_LIKE_BERT, attention.bert),
    "distilbert": attention.distilbert,
    "gpt2": attention.gpt2,
    **dict.fromkeys(("t5", "mt5"), attention.t5),
    **dict.fromkeys(("llama", "mistral"), attention.llama),
}


def as_of(model: Any, stack: Stack, config: RunConfig) -> None:
    """Make `model` allocate as under `stack`. Architectures that are not known here keep today's eager attention."""
    if stack.is_of_today:
        return
    kind = model.config.model_type
    eager = config.attention == "eager" or (config.attention == "auto" and kind in _NO_SDPA)
    compute = _EAGER.get(kind) if eager else attention.sdpa
    checkpoints = config.gradient_checkpointing != "off"
    if compute is None:
        model.set_attn_implementation("eager")
    else:
        keeps = config.task == "causal-lm" and not checkpoints
        model.set_attn_implementation(_registered(compute, is_eager=eager, kind=kind, keeps=keeps))
        if keeps:
            model.register_forward_hook(_hand_over)
    if kind == "bert":
        embeddings = model.base_model.embeddings
        embeddings.forward = MethodType(_embed, embeddings)
    if compute is attention.gpt2:
        _register_causes(model)
    if config.task == "causal-lm" and config.cross_entropy == "plain":
        losses.shift(model, stack)
    if checkpoints:
        # modeling_utils.py: reentrant where nothing else is asked for, in all of transformers 4
        model.activation_checkpointing_enable({"use_reentrant": True})


def _registered(compute: attention.Attention, *, is_eager: bool, kind: str, keeps: bool) -> str:
    """The name by which transformers finds this attention and its masks; GPT-2 had none where nothing is padded."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask, sdpa_mask

    name = f"{compute.__name__}-then{'-kept' if keeps else ''}"
    AttentionInterface.register(name, _keeping(compute) if keeps else compute)
    none_where_full = kind == "gpt2" and is_eager
    AttentionMaskInterface.register(
        name, _only_of_padding if none_where_full else eager_mask if is_eager else sdpa_mask
    )
    return name


def _only_of_padding(*arguments: Any, attention_mask: torch.Tensor | None = None, **more: Any) -> torch.Tensor | None:
    """(batch, 1, 1, length) as floats, where the batch has a mask."""
    return None if attention_mask is None else attention_mask[:, None, None, :].float()


def _keeping(compute: attention.Attention) -> attention.Attention:
    """`use_cache` was on in training: each layer's keys and values are part of what the model returns."""

    @wraps(compute)
    def attend(module: Any, query: Any, key: Any, value: Any, *more: Any, **named: Any) -> tuple[torch.Tensor, None]:
        module.presents = key, value
        return compute(module, query, key, value, *more, **named)

    return attend


def _hand_over(model: Any, arguments: Any, outputs: Any) -> None:
    presents = [vars(module).pop("presents") for module in model.modules() if "presents" in vars(module)]
    outputs.past_key_values = presents


def _register_causes(model: Any) -> None:
    """The buffers of `Attention.__init__`: which position sees which, one byte each."""
    length = model.config.n_positions
    for block in model.base_model.h:
        seen = torch.empty(1, 1, length, length, dtype=torch.uint8, device=block.attn.c_attn.weight.device)
        block.attn.register_buffer("causal", seen, persistent=False)


def _embed(self: Any, input_ids: torch.Tensor, token_type_ids: Any = None, **_: Any) -> torch.Tensor:
    """`BertEmbeddings.forward`: (batch, length) token ids to (batch, length, width); positions are added in place."""
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
