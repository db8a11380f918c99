"""The models that a key offers. Standard library only; the sizes are those of each model's own config.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named architecture and the hub repository that holds its weights, if there is one."""

    hub_name: str | None
    model_type: str
    """The transformers architecture: the `model_type` of config.json."""
    settings: dict[str, Any]
    """What differs from that architecture's default configuration."""


def _bert(hub_name: str, hidden_size: int, layers: int) -> Preset:
    # the compact BERTs keep 64 units per head and a feed-forward of 4 x hidden (Turc et al. 2019, table 1)
    settings = {
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden_size // 64,
        "intermediate_size": 4 * hidden_size,
    }
    return Preset(hub_name=hub_name, model_type="bert", settings=settings)


PRESETS: dict[str, Preset] = {
    "bert-tiny": _bert("google/bert_uncased_L-2_H-128_A-2", 128, 2),
    "bert-mini": _bert("google/bert_uncased_L-4_H-256_A-4", 256, 4),
    "bert-small": _bert("google/bert_uncased_L-4_H-512_A-8", 512, 4),
    "distilbert-base-uncased": Preset(
        hub_name="distilbert/distilbert-base-uncased", model_type="distilbert", settings={}
    ),
    "bert-base-uncased": _bert("google-bert/bert-base-uncased", 768, 12),
    "bert-large-uncased": _bert("google-bert/bert-large-uncased", 1024, 24),
    "gpt2-tiny": Preset(hub_name=None, model_type="gpt2", settings={"n_embd": 128, "n_layer": 2, "n_head": 2}),
    "gpt2": Preset(hub_name="openai-community/gpt2", model_type="gpt2", settings={}),
    # a mixture of experts in the size of bert-tiny: every token goes through 2 of the 4 in each layer
    "moe-tiny": Preset(
        hub_name=None,
        model_type="mixtral",
        settings={
            "vocab_size": 30_522,
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 512,
        },
    ),
}


def model_name(model: str) -> str:
    """How a model is called wherever people read it: a folder by its last part, anything else as it is."""
    parts = PureWindowsPath(model) if "\\" in model else PurePosixPath(model)
    no_hub_name = isinstance(parts, PurePosixPath) and len(parts.parts) > 2
    is_folder = model.startswith(("/", ".", "~", "\\")) or parts.is_absolute() or no_hub_name
    return parts.name if is_folder and parts.name not in ("", "..", "~") else model
