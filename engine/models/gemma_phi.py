"""Gemma 1 to 3 (those that read text alone) and Phi 1.5 to 4. Numbers of each repository's config.json."""

from __future__ import annotations

from typing import Any

from engine.models.architecture import Architecture


def _gemma(
    hub_name: str, n_parameters: int, model_type: str, sizes: tuple[int, int, int, int, int], **more: Any
) -> Architecture:
    """`sizes`: hidden, feed-forward, layers, heads, key-value heads."""
    hidden, feed_forward, layers, heads, key_value_heads = sizes
    return Architecture(
        hub_name=f"google/{hub_name}",
        model_type=model_type,
        settings={
            "hidden_size": hidden,
            "intermediate_size": feed_forward,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": key_value_heads,
            **more,
        },
        n_parameters=n_parameters,
        gated=True,
        also=(f"google/{hub_name.removesuffix('-pt')}-it",),
    )


def _phi3(
    hub_name: str, n_parameters: int, sizes: tuple[int, int, int, int, int], *also: str, **more: Any
) -> Architecture:
    """`sizes`: hidden, feed-forward, layers, heads, key-value heads."""
    hidden, feed_forward, layers, heads, key_value_heads = sizes
    return Architecture(
        hub_name=f"microsoft/{hub_name}",
        model_type="phi3",
        settings={
            "hidden_size": hidden,
            "intermediate_size": feed_forward,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": key_value_heads,
            **more,
        },
        n_parameters=n_parameters,
        also=tuple(f"microsoft/{name}" for name in also),
    )


_3_TEXT = {
    "vocab_size": 262_144,
    "query_pre_attn_scalar": 256,
    "max_position_embeddings": 32_768,
    "sliding_window": 512,
}

GEMMA: dict[str, Architecture] = {
    "gemma-2b": _gemma("gemma-2b", 2_506_172_416, "gemma", (2048, 16_384, 18, 8, 1)),
    "gemma-7b": _gemma("gemma-7b", 8_537_680_896, "gemma", (3072, 24_576, 28, 16, 16)),
    "gemma-2-2b": _gemma("gemma-2-2b", 2_614_341_888, "gemma2", (2304, 9216, 26, 8, 4)),
    "gemma-2-9b": _gemma("gemma-2-9b", 9_241_705_984, "gemma2", (3584, 14_336, 42, 16, 8)),
    "gemma-2-27b": _gemma(
        "gemma-2-27b", 27_227_128_320, "gemma2", (4608, 36_864, 46, 32, 16), head_dim=128, query_pre_attn_scalar=144
    ),
    "gemma-3-270m": _gemma("gemma-3-270m", 268_098_176, "gemma3_text", (640, 2048, 18, 4, 1), **_3_TEXT),
    "gemma-3-1b": _gemma("gemma-3-1b-pt", 999_885_952, "gemma3_text", (1152, 6912, 26, 4, 1), **_3_TEXT),
}

PHI: dict[str, Architecture] = {
    "phi-1.5": Architecture(hub_name="microsoft/phi-1_5", model_type="phi", settings={}, n_parameters=1_418_270_720),
    "phi-2": Architecture(
        hub_name="microsoft/phi-2",
        model_type="phi",
        settings={
            "hidden_size": 2560,
            "intermediate_size": 10_240,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "partial_rotary_factor": 0.4,
            "resid_pdrop": 0.1,
        },
        n_parameters=2_779_683_840,
    ),
    "phi-3-mini": _phi3(
        "Phi-3-mini-4k-instruct",
        3_821_079_552,
        (3072, 8192, 32, 32, 32),
        "Phi-3-mini-128k-instruct",
        "Phi-3.5-mini-instruct",
        sliding_window=2047,
    ),
    "phi-3-medium": _phi3("Phi-3-medium-4k-instruct", 13_960_238_080, (5120, 17_920, 40, 40, 10), sliding_window=2047),
    "phi-4-mini": _phi3(
        "Phi-4-mini-instruct",
        3_836_021_760,
        (3072, 8192, 32, 24, 8),
        vocab_size=200_064,
        max_position_embeddings=131_072,
        partial_rotary_factor=0.75,
        tie_word_embeddings=True,
        bos_token_id=199_999,
        eos_token_id=199_999,
        pad_token_id=199_999,
        sliding_window=262_144,
    ),
    "phi-4": _phi3(
        "phi-4",
        14_659_507_200,
        (5120, 17_920, 40, 40, 10),
        vocab_size=100_352,
        max_position_embeddings=16_384,
        rope_theta=250_000.0,
        bos_token_id=100_257,
        eos_token_id=100_257,
        pad_token_id=100_257,
    ),
}
