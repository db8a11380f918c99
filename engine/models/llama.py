"""Llama and what is built like it: TinyLlama, SmolLM, Mistral, Mixtral. Numbers of each repository's config.json."""

from __future__ import annotations

from typing import Any

from engine.models.architecture import Architecture


def _sizes(hidden: int, feed_forward: int, layers: int, heads: int, key_value_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
    }


def _llama_2(size: str, n_parameters: int, sizes: dict[str, Any]) -> Architecture:
    return Architecture(
        hub_name=f"meta-llama/Llama-2-{size}-hf",
        model_type="llama",
        settings={**sizes, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
        n_parameters=n_parameters,
        gated=True,
        also=(f"meta-llama/Llama-2-{size}-chat-hf", f"NousResearch/Llama-2-{size}-hf"),
    )


def _llama_3(
    hub_name: str,
    n_parameters: int,
    sizes: dict[str, Any],
    *also: str,
    stretched: float | None = 8.0,
    tied: bool = False,
) -> Architecture:
    """`stretched`: by how much the positions reach beyond the 8,192 of Llama 3, if at all."""
    scaling = {
        "rope_type": "llama3",
        "factor": stretched,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    settings = {
        **sizes,
        "vocab_size": 128_256,
        "max_position_embeddings": 131_072 if stretched else 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": tied,
        "bos_token_id": 128_000,
        "eos_token_id": 128_001,
    }
    if stretched:
        settings["rope_scaling"] = scaling
    return Architecture(
        hub_name=hub_name,
        model_type="llama",
        settings=settings,
        n_parameters=n_parameters,
        gated=True,
        also=(f"{hub_name}-Instruct", *also),
    )


def _smollm(size: str, n_parameters: int, sizes: dict[str, Any], rope_theta: float) -> Architecture:
    return Architecture(
        hub_name=f"HuggingFaceTB/SmolLM2-{size}",
        model_type="llama",
        settings={
            **sizes,
            "vocab_size": 49_152,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_theta": rope_theta,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        n_parameters=n_parameters,
        also=(f"HuggingFaceTB/SmolLM2-{size}-Instruct",),
    )


def _mistral(hub_name: str, n_parameters: int, sizes: dict[str, Any], *also: str, **more: Any) -> Architecture:
    return Architecture(
        hub_name=hub_name,
        model_type="mistral",
        settings={**sizes, "rms_norm_eps": 1e-5, **more},
        n_parameters=n_parameters,
        gated=True,
        also=also,
    )


_8B = _sizes(4096, 14_336, 32, 32, 8)
_70B = _sizes(8192, 28_672, 80, 64, 8)

LLAMA: dict[str, Architecture] = {
    # with the heads of Llama 3, grouped, and its positions: long prompts on a CPU
    "llama-tiny": Architecture(
        hub_name=None,
        model_type="llama",
        settings={**_sizes(256, 768, 4, 4, 2), "vocab_size": 32_000, "max_position_embeddings": 131_072},
    ),
    "llama-2-7b": _llama_2("7b", 6_738_415_616, _sizes(4096, 11_008, 32, 32, 32)),
    "llama-2-13b": _llama_2("13b", 13_015_864_320, _sizes(5120, 13_824, 40, 40, 40)),
    "llama-2-70b": _llama_2("70b", 68_976_648_192, _70B),
    "llama-3-8b": _llama_3("meta-llama/Meta-Llama-3-8B", 8_030_261_248, _8B, "meta-llama/Llama-3-8B", stretched=None),
    "llama-3-70b": _llama_3("meta-llama/Meta-Llama-3-70B", 70_553_706_496, _70B, stretched=None),
    "llama-3.1-8b": _llama_3("meta-llama/Llama-3.1-8B", 8_030_261_248, _8B, "meta-llama/Meta-Llama-3.1-8B"),
    "llama-3.1-70b": _llama_3("meta-llama/Llama-3.1-70B", 70_553_706_496, _70B, "meta-llama/Llama-3.3-70B-Instruct"),
    "llama-3.2-1b": _llama_3(
        "meta-llama/Llama-3.2-1B", 1_235_814_400, _sizes(2048, 8192, 16, 32, 8), stretched=32.0, tied=True
    ),
    "llama-3.2-3b": _llama_3(
        "meta-llama/Llama-3.2-3B", 3_212_749_824, _sizes(3072, 8192, 28, 24, 8), stretched=32.0, tied=True
    ),
    # small enough to learn in two minutes on a CPU to answer made-up questions: two layers are what copying from the
    # question takes, and rotary positions make it easier to learn
    "llama-micro": Architecture(
        hub_name=None,
        model_type="llama",
        settings={"vocab_size": 8_192, **_sizes(64, 192, 2, 2, 2), "tie_word_embeddings": True},
    ),
    # as much deeper in each layer as takes twice the time to learn the same: most of its weights, and of its time, are
    # in layers, not in embeddings and launches, so that what makes a large model answer fast shows with it too
    "llama-mini": Architecture(
        hub_name=None,
        model_type="llama",
        settings={"vocab_size": 1_024, **_sizes(128, 1024, 2, 4, 4), "tie_word_embeddings": True},
    ),
    "tinyllama-1.1b": Architecture(
        hub_name="TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
        model_type="llama",
        settings={**_sizes(2048, 5632, 22, 32, 4), "rms_norm_eps": 1e-5},
        n_parameters=1_100_048_384,
        also=("TinyLlama/TinyLlama-1.1B-Chat-v1.0",),
    ),
    "smollm2-135m": _smollm("135M", 134_515_008, _sizes(576, 1536, 30, 9, 3), 100_000.0),
    "smollm2-360m": _smollm("360M", 361_821_120, _sizes(960, 2560, 32, 15, 5), 100_000.0),
    "smollm2-1.7b": _smollm("1.7B", 1_711_376_384, _sizes(2048, 8192, 24, 32, 32), 130_000.0),
    "smollm3-3b": Architecture(
        hub_name="HuggingFaceTB/SmolLM3-3B",
        model_type="smollm3",
        settings={"max_position_embeddings": 65_536, "rope_theta": 5_000_000.0},
        n_parameters=3_075_098_624,
        also=("HuggingFaceTB/SmolLM3-3B-Base",),
    ),
}

MISTRAL: dict[str, Architecture] = {
    "mistral-7b": _mistral(
        "mistralai/Mistral-7B-v0.1",
        7_241_732_096,
        _8B,
        "mistralai/Mistral-7B-Instruct-v0.1",
        "mistralai/Mistral-7B-Instruct-v0.2",
        max_position_embeddings=32_768,
        sliding_window=4096,
    ),
    "mistral-7b-v0.3": _mistral(
        "mistralai/Mistral-7B-v0.3",
        7_248_023_552,
        _8B,
        "mistralai/Mistral-7B-Instruct-v0.3",
        vocab_size=32_768,
        max_position_embeddings=32_768,
        sliding_window=None,
        rope_theta=1_000_000.0,
    ),
    "mistral-nemo-12b": _mistral(
        "mistralai/Mistral-Nemo-Base-2407",
        12_247_782_400,
        _sizes(5120, 14_336, 40, 32, 8),
        "mistralai/Mistral-Nemo-Instruct-2407",
        vocab_size=131_072,
        head_dim=128,
        max_position_embeddings=131_072,
        sliding_window=None,
        rope_theta=1_000_000.0,
    ),
    "mistral-small-24b": _mistral(
        "mistralai/Mistral-Small-24B-Base-2501",
        23_572_403_200,
        _sizes(5120, 32_768, 40, 32, 8),
        "mistralai/Mistral-Small-24B-Instruct-2501",
        vocab_size=131_072,
        head_dim=128,
        max_position_embeddings=32_768,
        sliding_window=None,
        rope_theta=100_000_000.0,
    ),
    # a mixture of experts in the size of bert-tiny: every token goes through 2 of the 4 in each layer
    "moe-tiny": Architecture(
        hub_name=None,
        model_type="mixtral",
        settings={
            "vocab_size": 30_522,
            **_sizes(128, 512, 2, 2, 2),
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 512,
        },
    ),
    "mixtral-8x7b": Architecture(
        hub_name="mistralai/Mixtral-8x7B-v0.1",
        model_type="mixtral",
        settings={"max_position_embeddings": 32_768},
        n_parameters=46_702_792_704,
        gated=True,
        also=("mistralai/Mixtral-8x7B-Instruct-v0.1",),
    ),
}
