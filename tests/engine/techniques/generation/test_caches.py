"""Caches of keys and values: the same tokens with each, their bytes by the formula, and what a model cannot keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from engine.contract.config import ConfigError, RunConfig
from engine.techniques.generation import caches
from tests.engine import language_models
from tests.engine.techniques.generation.decoders import MAKERS, WINDOW, make

PROMPT, NEW = 16, 6
WHOLE = ["gpt2", "llama", "gemma2", "wide heads", "one head", "repeated heads", "starcoder", "latent"]
"""Decoders that keep all tokens, in as long a text as this."""


def _config(**knobs: Any) -> RunConfig:
    return RunConfig(**{"job": "answer", "task": "causal-lm", "model": "gpt2-tiny", "batch_size": 1, **knobs})


def _prompts(rows: int = 1) -> torch.Tensor:
    return torch.randint(5, language_models.VOCABULARY, (rows, PROMPT), generator=torch.Generator().manual_seed(3))


def _answered(model: PreTrainedModel, prompts: torch.Tensor, **given: Any) -> list[list[int]]:
    rows = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        pad_token_id=0,
        **given,
    )
    return [row[-NEW:] for row in rows.tolist()]


def _with(model: PreTrainedModel, config: RunConfig, prompts: torch.Tensor) -> tuple[list[list[int]], Any]:
    both = model.config.is_encoder_decoder
    cache = caches.cache_for(config, model, tokens=NEW + (1 if both else PROMPT), source_tokens=PROMPT)
    return _answered(model, prompts, use_cache=config.kv_cache != "off", **caches.arguments(model, cache)), cache


@pytest.mark.parametrize("name", MAKERS)
def test_answers_are_the_same_with_every_cache_and_its_bytes_those_of_the_formula(name: str) -> None:
    """The last token is written, and never read."""
    model, prompts = make(name), _prompts(2)
    plain = _answered(model, prompts)
    per_token = caches.kv_bytes_per_token(model.config, "model", torch.float32)
    for kv_cache in ("off", "dynamic", "static"):
        config = _config(kv_cache=kv_cache)
        if (name, kv_cache) == ("state", "static"):
            continue  # refused: see below
        caches.refuse(config, model)
        answered, cache = _with(model, config, prompts)
        assert answered == plain
        if kv_cache == "off":
            assert caches.kv_bytes(cache) == 0
        elif name in WHOLE:
            assert caches.kv_bytes(cache) == per_token * 2 * (PROMPT + NEW - 1)
        elif model.config.is_encoder_decoder:
            assert caches.kv_bytes(cache) == per_token * 2 * (PROMPT + NEW)
        elif name == "window":
            assert caches.kv_bytes(cache) == per_token * 2 * WINDOW


def test_the_formula_is_that_of_the_published_models() -> None:
    """Llama-2-7B: 2 · 32 layers · 32 heads · 128 · 2 bytes = 512 KiB, so that 2,048 tokens take 1 GiB."""
    from transformers import LlamaConfig

    settings = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32)
    assert caches.kv_bytes_per_token(settings, "model", torch.float16) * 2048 == 2**30
    assert caches.kv_bytes_per_token(settings, "int8", torch.float16) == 2 * 32 * 32 * (128 + 2)


def test_a_state_does_not_grow() -> None:
    model = make("state")
    assert caches.kv_bytes_per_token(model.config, "model", torch.float32) == 0
    _, cache = _with(model, _config(), _prompts())
    assert caches.kv_bytes(cache) == sum(each.nbytes for each in caches.tensors(cache)) > 0


def test_bytes_count_the_memory_behind_a_tensor_that_was_cut() -> None:
    model = make("llama")
    _, cache = _with(model, _config(), _prompts())
    before = caches.kv_bytes(cache)
    cache.crop(-4)
    assert caches.kv_bytes(cache) == before


def test_without_a_cache_nothing_is_kept() -> None:
    assert caches.cache_for(_config(kv_cache="off"), make("llama"), tokens=4) is None
    assert caches.kv_bytes(None) == 0


@pytest.mark.parametrize(
    ("name", "knobs", "knob", "fix"),
    [
        ("state", {"kv_cache": "static"}, "kv_cache", "--kv-cache dynamic"),
        ("state", {"kv_dtype": "int8"}, "kv_dtype", "--kv-dtype model"),
        ("state in turns", {"kv_dtype": "int8"}, "kv_dtype", "--kv-dtype model"),
        ("state in turns", {"prefix_cache": True}, "prefix_cache", "--prefix-cache off"),
        ("window", {"prefix_cache": True}, "prefix_cache", "a window of the last tokens"),
        ("window in turns", {"prefix_cache": True}, "prefix_cache", "a window of the last tokens"),
    ],
)
def test_what_a_model_cannot_keep_is_refused(name: str, knobs: dict[str, Any], knob: str, fix: str) -> None:
    with pytest.raises(ConfigError, match=fix) as refusal:
        caches.refuse(_config(**knobs), make(name))
    assert refusal.value.knob == knob
