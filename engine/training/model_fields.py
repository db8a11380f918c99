"""What a config.json says about sizes, before a model is made of it: each out of bounds is refused by its name.

Names are those of transformers' architectures; what none of them has is left to transformers.
"""

from __future__ import annotations

import math
import re
from typing import Any

from engine.contract.config import ConfigError
from engine.training.model_faults import told
from engine.training.model_files import refused

_SIZE_NAMES = (
    "vocab_size hidden_size n_embd d_model dim hidden_dim intermediate_size n_inner ffn_dim d_ff d_kv "
    "num_attention_heads n_head n_heads num_heads num_key_value_heads encoder_attention_heads decoder_attention_heads "
    "encoder_ffn_dim decoder_ffn_dim embedding_size word_embed_proj_dim"
)
_LAYER_NAMES = "num_hidden_layers n_layer n_layers num_layers num_decoder_layers encoder_layers decoder_layers"
_SIZES, _LAYERS = frozenset(_SIZE_NAMES.split()), frozenset(_LAYER_NAMES.split())
_POSITIONS = frozenset(("max_position_embeddings", "n_positions"))
_MAX_SIZE = 2**31 - 1
_MAX_LAYERS = 4_096  # the deepest transformer that was trained has 1,000
_MAX_LABELS = 100_000
_TOKENS = ("pad_token_id", "decoder_start_token_id")
_DTYPE = re.compile(r"(torch\.)?(auto|half|double|b?float\d+\w*|float)", re.ASCII)


def check_fields(name: str, said: dict[str, Any]) -> None:
    """Raise `ConfigError` where a field of the config.json of `name` cannot be."""
    for field, value in said.items():
        if field == "model_type":
            if not (isinstance(value, str) and value):
                raise _refused(name, field, value, "the name of an architecture, such as 'bert'")
        elif isinstance(value, dict):  # the text part of a model with several
            check_fields(name, value)
        elif field in _SIZES:
            _check_whole(name, field, value, 1, _MAX_SIZE)
        elif field in _LAYERS:
            _check_whole(name, field, value, 1, _MAX_LAYERS)
        elif field in _POSITIONS:
            _check_whole(name, field, value, -1, _MAX_SIZE)  # -1: without a limit
            if value == 0:
                raise _refused(name, field, value, "1 or more")
        elif field == "num_labels":
            _check_whole(name, field, value, 1, _MAX_LABELS)
        elif "dropout" in field or field.endswith("pdrop"):
            _check_share(name, field, value)
        elif field in ("dtype", "torch_dtype"):
            if value is not None and not (isinstance(value, str) and _DTYPE.fullmatch(value)):
                raise _refused(name, field, value, "a kind of float, such as 'float32'")
        elif isinstance(value, float) and not math.isfinite(value):
            raise _refused(name, field, value, "a finite number")
    _check_heads(name, said)
    _check_tokens(name, said)


def _check_whole(name: str, field: str, value: Any, least: int, most: int) -> None:
    if value is None or isinstance(value, list):  # a list: one for each layer
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _refused(name, field, value, f"a whole number from {least:,} to {most:,}")


def _check_share(name: str, field: str, value: Any) -> None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= 1:
        raise _refused(name, field, value, "from 0 to 1")


def _check_heads(name: str, said: dict[str, Any]) -> None:
    heads, groups = said.get("num_attention_heads"), said.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(groups, int) and heads % groups:
        raise _refused(name, "num_key_value_heads", groups, f"a divisor of num_attention_heads, {heads}")


def _check_tokens(name: str, said: dict[str, Any]) -> None:
    rows = said.get("vocab_size")
    for field in _TOKENS:
        value = said.get(field)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise _refused(name, field, value, "a token's number")
        if isinstance(rows, int) and value >= rows:
            raise _refused(name, field, value, f"less than vocab_size, {rows:,}")


def _refused(name: str, field: str, value: Any, allowed: str) -> ConfigError:
    return refused(name, f"{field} is {told(value)} in its config.json, and has to be {allowed}", "correct it")
