"""How `generate` is to keep keys and values, and what they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.contract.config import RunConfig


def settings(config: RunConfig) -> dict[str, Any]:
    """For `transformers.GenerationConfig`."""
    if config.kv_cache == "off":
        return {"use_cache": False}
    return {"use_cache": True, "cache_implementation": "static" if config.kv_cache == "static" else None}


def kv_bytes(cache: Any) -> int:
    """Bytes that a cache of transformers holds; 0 of none."""
    if cache is None:
        return 0
    if hasattr(cache, "self_attention_cache"):
        return kv_bytes(cache.self_attention_cache) + kv_bytes(cache.cross_attention_cache)
    return sum(
        tensor.nbytes
        for layer in getattr(cache, "layers", ())
        for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None))
        if tensor is not None
    )


def kv_bytes_per_token(model_config: Any, item_size: int) -> int:
    """Bytes of one token of one sequence: 2 · layers · key-value heads · head size · bytes of a number."""
    text = model_config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_size = getattr(text, "head_dim", None) or getattr(text, "d_kv", None)
    if head_size is None:
        head_size = text.hidden_size // text.num_attention_heads
    layers = getattr(text, "num_decoder_layers", None) or text.num_hidden_layers
    return int(2 * layers * heads * head_size * item_size)
