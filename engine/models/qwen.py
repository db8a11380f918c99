"""Qwen 1.5 to 3, with their mixtures of experts. Numbers of each repository's config.json."""

from __future__ import annotations

from typing import Any

from engine.models.architecture import Architecture

_THETA = 1_000_000.0
_TIED = "tied"


def _qwen(
    hub_name: str,
    n_parameters: int,
    sizes: tuple[int, int, int, int, int],
    *words: str,
    vocab_size: int = 151_936,
    also: tuple[str, ...] | None = None,
    model_type: str = "qwen2",
    **more: Any,
) -> Architecture:
    """`sizes`: hidden, feed-forward, layers, heads, key-value heads."""
    hidden, feed_forward, layers, heads, key_value_heads = sizes
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "max_position_embeddings": 32_768,
        "rope_theta": _THETA,
        "tie_word_embeddings": _TIED in words,
        **more,
    }
    return Architecture(
        hub_name=f"Qwen/{hub_name}",
        model_type=model_type,
        settings=settings,
        n_parameters=n_parameters,
        also=tuple(f"Qwen/{name}" for name in (also or (f"{hub_name}-Instruct",))),
    )


def _qwen3(size: str, n_parameters: int, sizes: tuple[int, int, int, int, int], *words: str) -> Architecture:
    return _qwen(
        f"Qwen3-{size}",
        n_parameters,
        sizes,
        *words,
        also=(f"Qwen3-{size}-Base",),
        model_type="qwen3",
        head_dim=128,
        max_position_embeddings=40_960,
    )


_HALF_B, _1_5B = (896, 4864, 24, 14, 2), (1536, 8960, 28, 12, 2)
_7B, _72B = (3584, 18_944, 28, 28, 4), (8192, 29_568, 80, 64, 8)

QWEN: dict[str, Architecture] = {
    "qwen1.5-moe-a2.7b": _qwen(
        "Qwen1.5-MoE-A2.7B",
        14_315_784_192,
        (2048, 5632, 24, 16, 16),
        also=("Qwen1.5-MoE-A2.7B-Chat",),
        model_type="qwen2_moe",
        max_position_embeddings=8192,
    ),
    "qwen2-0.5b": _qwen("Qwen2-0.5B", 494_032_768, _HALF_B, _TIED),
    "qwen2-1.5b": _qwen("Qwen2-1.5B", 1_543_714_304, _1_5B, _TIED),
    "qwen2-7b": _qwen("Qwen2-7B", 7_615_616_512, _7B, vocab_size=152_064),
    "qwen2-72b": _qwen("Qwen2-72B", 72_706_203_648, _72B, vocab_size=152_064, rms_norm_eps=1e-5),
    "qwen2-57b-a14b": _qwen(
        "Qwen2-57B-A14B",
        57_408_658_944,
        (3584, 18_944, 28, 28, 4),
        model_type="qwen2_moe",
        moe_intermediate_size=2560,
        shared_expert_intermediate_size=20_480,
        num_experts=64,
        num_experts_per_tok=8,
    ),
    "qwen2.5-0.5b": _qwen("Qwen2.5-0.5B", 494_032_768, _HALF_B, _TIED),
    "qwen2.5-1.5b": _qwen("Qwen2.5-1.5B", 1_543_714_304, _1_5B, _TIED),
    "qwen2.5-3b": _qwen("Qwen2.5-3B", 3_085_938_688, (2048, 11_008, 36, 16, 2), _TIED),
    "qwen2.5-7b": _qwen("Qwen2.5-7B", 7_615_616_512, _7B, vocab_size=152_064),
    "qwen2.5-14b": _qwen("Qwen2.5-14B", 14_770_033_664, (5120, 13_824, 48, 40, 8), vocab_size=152_064),
    "qwen2.5-32b": _qwen("Qwen2.5-32B", 32_763_876_352, (5120, 27_648, 64, 40, 8), vocab_size=152_064),
    "qwen2.5-72b": _qwen("Qwen2.5-72B", 72_706_203_648, _72B, vocab_size=152_064, rms_norm_eps=1e-5),
    "qwen3-0.6b": _qwen3("0.6B", 596_049_920, (1024, 3072, 28, 16, 8), _TIED),
    "qwen3-1.7b": _qwen3("1.7B", 1_720_574_976, (2048, 6144, 28, 16, 8), _TIED),
    "qwen3-4b": _qwen3("4B", 4_022_468_096, (2560, 9728, 36, 32, 8), _TIED),
    "qwen3-8b": _qwen3("8B", 8_190_735_360, (4096, 12_288, 36, 32, 8)),
    "qwen3-14b": _qwen3("14B", 14_768_307_200, (5120, 17_408, 40, 40, 8)),
    "qwen3-32b": _qwen3("32B", 32_762_123_264, (5120, 25_600, 64, 64, 8)),
    "qwen3-30b-a3b": _qwen(
        "Qwen3-30B-A3B",
        30_532_122_624,
        (2048, 6144, 48, 32, 4),
        also=("Qwen3-30B-A3B-Base", "Qwen3-30B-A3B-Instruct-2507"),
        model_type="qwen3_moe",
        head_dim=128,
        max_position_embeddings=40_960,
        moe_intermediate_size=768,
        num_experts=128,
        num_experts_per_tok=8,
        norm_topk_prob=True,
    ),
}
