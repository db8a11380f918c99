"""Answering knobs that cannot go together are refused with a fix that works."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.config import ConfigError, RunConfig


def _config(**knobs: Any) -> RunConfig:
    return RunConfig(**{"job": "answer", "task": "causal-lm", "model": "gpt2-tiny", "batch_size": 1, **knobs})


@pytest.mark.parametrize(
    ("knobs", "knob", "fix"),
    [
        ({"kv_dtype": "int8", "kv_cache": "off"}, "kv_dtype", {"kv_cache": "dynamic"}),
        ({"kv_dtype": "int8", "kv_cache": "static"}, "kv_dtype", {"kv_cache": "dynamic"}),
        ({"kv_dtype": "int8", "task": "seq2seq-lm"}, "kv_dtype", {"kv_dtype": "model"}),
        ({"prefix_cache": True, "kv_cache": "off"}, "prefix_cache", {"kv_cache": "dynamic"}),
        ({"prefix_cache": True, "task": "seq2seq-lm"}, "prefix_cache", {"prefix_cache": False}),
        ({"prefix_cache": True, "speculate": "lookup"}, "prefix_cache", {"speculate": "off"}),
        ({"response_cache": True, "temperature": 0.5}, "response_cache", {"temperature": 0.0}),
        ({"batching": "continuous", "task": "seq2seq-lm"}, "batching", {"batching": "static"}),
        ({"batching": "continuous", "kv_cache": "static"}, "batching", {"kv_cache": "dynamic"}),
        ({"batching": "continuous", "kv_dtype": "int8"}, "batching", {"kv_dtype": "model"}),
        ({"batching": "continuous", "prefix_cache": True}, "batching", {"batching": "static"}),
        ({"batching": "continuous", "response_cache": True}, "batching", {"batching": "static"}),
        ({"batching": "continuous", "attention": "flash"}, "attention", {"attention": "sdpa"}),
        ({"prefix_len": 256}, "prefix_len", {"prefix_len": 255}),
        ({"prefix_len": 300}, "prefix_len", {"prompt_len": 301}),
    ],
)
def test_what_cannot_go_together_is_refused_with_a_fix_that_works(
    knobs: dict[str, Any], knob: str, fix: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        _config(**knobs)
    assert refusal.value.knob == knob
    ((name, value),) = fix.items()
    flag = "--" + name.replace("_", "-")
    told = f"{flag} off" if value is False else f"{flag} {value}" if name != "temperature" else f"{flag} 0"
    assert told in refusal.value.message
    _config(**{**knobs, **fix})
