"""Tiny decoders of the kinds that keep keys and values in different ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    JambaConfig,
    JambaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.engine import language_models

WINDOW = 8
_SMALL: dict[str, Any] = {
    "vocab_size": language_models.VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
_LATENT: dict[str, Any] = {
    **_SMALL,
    "num_key_value_heads": 4,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
_FALCON: dict[str, Any] = {key: _SMALL[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers")}
_SLIDING = ["sliding_attention", "full_attention"]

MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    **{name: language_models.MAKERS[name] for name in ("gpt2", "llama", "gemma2", "t5", "bart")},
    "wide heads": lambda: Qwen3ForCausalLM(Qwen3Config(**_SMALL, head_dim=16)),
    "one head": lambda: FalconForCausalLM(FalconConfig(**_FALCON, num_attention_heads=4)),
    "repeated heads": lambda: FalconForCausalLM(
        FalconConfig(**_FALCON, num_attention_heads=4, new_decoder_architecture=True, num_kv_heads=2)
    ),
    "starcoder": lambda: GPTBigCodeForCausalLM(
        GPTBigCodeConfig(vocab_size=language_models.VOCABULARY, n_embd=32, n_layer=2, n_head=4)
    ),
    "latent": lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**_LATENT)),
    "window": lambda: MistralForCausalLM(MistralConfig(**_SMALL, sliding_window=WINDOW)),
    "window in turns": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**_SMALL, head_dim=16, sliding_window=WINDOW, layer_types=_SLIDING)
    ),
    "state": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=language_models.VOCABULARY, hidden_size=32, num_hidden_layers=2)
    ),
    "state in turns": lambda: JambaForCausalLM(
        JambaConfig(**_SMALL, attn_layer_offset=1, attn_layer_period=2, num_experts=2, use_mamba_kernels=False)
    ),
}


def make(name: str) -> PreTrainedModel:
    """The same weights every time, ready to answer."""
    torch.manual_seed(0)
    model = MAKERS[name]().eval()
    model.config.use_cache = model.generation_config.use_cache = True
    return model
