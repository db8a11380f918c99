"""Decoders of 2019 to 2023: GPT-2, GPT-Neo, GPT-J, GPT-NeoX and Pythia, OPT, BLOOM, Falcon.

Numbers of each repository's config.json.
"""

from __future__ import annotations

from engine.models.architecture import CARD, METADATA, Architecture

_PRINTS = "public prints of the model's parameters"


def _gpt2(hub_name: str, n_parameters: int, width: int, layers: int, heads: int) -> Architecture:
    return Architecture(
        hub_name=hub_name,
        model_type="gpt2",
        settings={"n_embd": width, "n_layer": layers, "n_head": heads},
        n_parameters=n_parameters,
    )


def _gpt_neo(hub_name: str, n_parameters: int, hidden_size: int, layers: int, heads: int) -> Architecture:
    settings = {
        "hidden_size": hidden_size,
        "num_layers": layers,
        "num_heads": heads,
        "attention_types": [[["global", "local"], layers // 2]],
    }
    return Architecture(
        hub_name=hub_name, model_type="gpt_neo", settings=settings, n_parameters=n_parameters, source=_PRINTS
    )


def _pythia(
    size: str, n_parameters: int, hidden_size: int, layers: int, heads: int, vocab_size: int = 50_304
) -> Architecture:
    settings = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden_size,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return Architecture(
        hub_name=f"EleutherAI/pythia-{size}",
        model_type="gpt_neox",
        settings=settings,
        n_parameters=n_parameters,
        source=f"{CARD}, table of sizes",
        also=(f"EleutherAI/pythia-{size}-deduped",),
    )


def _opt(size: str, n_parameters: int, hidden_size: int, layers: int, heads: int, **more: int | bool) -> Architecture:
    settings = {
        "hidden_size": hidden_size,
        "word_embed_proj_dim": hidden_size,
        "ffn_dim": 4 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        **more,
    }
    return Architecture(
        hub_name=f"facebook/opt-{size}", model_type="opt", settings=settings, n_parameters=n_parameters, source=_PRINTS
    )


def _bloom(size: str, n_parameters: int, hidden_size: int, layers: int, heads: int) -> Architecture:
    return Architecture(
        hub_name=f"bigscience/bloom-{size}",
        model_type="bloom",
        settings={"hidden_size": hidden_size, "n_layer": layers, "n_head": heads},
        n_parameters=n_parameters,
        source=CARD,
        also=(f"bigscience/bloomz-{size}",),
    )


GPT: dict[str, Architecture] = {
    "gpt2-tiny": Architecture(hub_name=None, model_type="gpt2", settings={"n_embd": 128, "n_layer": 2, "n_head": 2}),
    "gpt2": Architecture(hub_name="openai-community/gpt2", model_type="gpt2", settings={}, n_parameters=124_439_808),
    "gpt2-medium": _gpt2("openai-community/gpt2-medium", 354_823_168, 1024, 24, 16),
    "gpt2-large": _gpt2("openai-community/gpt2-large", 774_030_080, 1280, 36, 20),
    "gpt2-xl": _gpt2("openai-community/gpt2-xl", 1_557_611_200, 1600, 48, 25),
    "distilgpt2": _gpt2("distilbert/distilgpt2", 81_912_576, 768, 6, 12),
    "gpt-neo-125m": _gpt_neo("EleutherAI/gpt-neo-125m", 125_198_592, 768, 12, 12),
    "gpt-neo-1.3b": _gpt_neo("EleutherAI/gpt-neo-1.3B", 1_315_575_808, 2048, 24, 16),
    "gpt-neo-2.7b": _gpt_neo("EleutherAI/gpt-neo-2.7B", 2_651_307_520, 2560, 32, 20),
    "gpt-j-6b": Architecture(
        hub_name="EleutherAI/gpt-j-6b", model_type="gptj", settings={}, n_parameters=6_050_882_784, source=CARD
    ),
    "gpt-neox-20b": Architecture(
        hub_name="EleutherAI/gpt-neox-20b", model_type="gpt_neox", settings={}, n_parameters=20_554_567_680, source=CARD
    ),
    "pythia-70m": _pythia("70m", 70_426_624, 512, 6, 8),
    "pythia-160m": _pythia("160m", 162_322_944, 768, 12, 12),
    "pythia-410m": _pythia("410m", 405_334_016, 1024, 24, 16),
    "pythia-1b": _pythia("1b", 1_011_781_632, 2048, 16, 8),
    "pythia-1.4b": _pythia("1.4b", 1_414_647_808, 2048, 24, 16),
    "pythia-2.8b": _pythia("2.8b", 2_775_208_960, 2560, 32, 32),
    "pythia-6.9b": _pythia("6.9b", 6_857_302_016, 4096, 32, 32, 50_432),
    "pythia-12b": _pythia("12b", 11_846_072_320, 5120, 36, 40, 50_688),
    "opt-125m": _opt("125m", 125_239_296, 768, 12, 12),
    "opt-350m": _opt("350m", 331_196_416, 1024, 24, 16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "opt-1.3b": _opt("1.3b", 1_315_758_080, 2048, 24, 32),
    "opt-2.7b": _opt("2.7b", 2_651_596_800, 2560, 32, 32),
    "opt-6.7b": _opt("6.7b", 6_658_473_984, 4096, 32, 32),
    "opt-13b": _opt("13b", 12_853_473_280, 5120, 40, 40),
    "bloom-560m": _bloom("560m", 559_214_592, 1024, 24, 16),
    "bloom-1b1": _bloom("1b1", 1_065_314_304, 1536, 24, 16),
    "bloom-1b7": _bloom("1b7", 1_722_408_960, 2048, 24, 16),
    "bloom-3b": _bloom("3b", 3_002_557_440, 2560, 30, 32),
    "bloom-7b1": _bloom("7b1", 7_069_016_064, 4096, 30, 32),
    "falcon-7b": Architecture(
        hub_name="tiiuae/falcon-7b",
        model_type="falcon",
        settings={},
        n_parameters=6_921_720_704,
        source=METADATA,
        also=("tiiuae/falcon-7b-instruct",),
    ),
}
