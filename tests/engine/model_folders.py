"""Local model folders with a config.json and nothing else, of every family that a forecast must know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SMALL = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", **_SMALL},
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": 1000,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "pad_token_id": 0,
    },
    "gpt-neo": {
        "model_type": "gpt_neo",
        "vocab_size": 1000,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 256,
        "window_size": 32,
    },
    "opt": {"model_type": "opt", "ffn_dim": 128, "word_embed_proj_dim": 64, **_SMALL},
    "llama": {"model_type": "llama", "num_key_value_heads": 2, **_SMALL},
    "qwen": {"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True, **_SMALL},
    "t5": {
        "model_type": "t5",
        "vocab_size": 1000,
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    },
    "moe": {
        "model_type": "mixtral",
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        **_SMALL,
    },
}


def model_folder(root: Path, family: str) -> str:
    """Write the family's config.json under `root` and return the folder."""
    folder = root / family
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(FAMILIES[family]))
    return str(folder)
