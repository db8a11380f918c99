"""Forecast answers against the same answers on a virtual GPU: `generate` on meta tensors against `generate` itself."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.forecast_types import KV_CACHE
from engine.contract.records import Outcome
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from tests.engine.answering.asked import config_of, run

P4 = "tesla-p4"
CASES: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "batch of 4": {"batch_size": 4, "requests": 4},
    "off": {"kv_cache": "off"},
    "static": {"kv_cache": "static", "batch_size": 4, "requests": 4},
    "int8": {"kv_dtype": "int8"},
    "grouped heads": {"model": "llama-tiny", "batch_size": 2},
    "seq2seq": {"model": "t5-small", "task": "seq2seq-lm", "max_new_tokens": 8},
    "sampled": {"temperature": 0.8, "top_k": 20, "top_p": 0.9},
    "kept prefix": {"prefix_cache": True, "prefix_len": 32},
    "kept in small blocks": {"prefix_cache": True, "prefix_len": 38, "model": "gpt2", "max_new_tokens": 4},
    "a prefix too short to keep": {"prefix_cache": True, "prefix_len": 8},
    "lookup": {"speculate": "lookup"},
    "draft": {"speculate": "draft", "draft_model": "gpt2-tiny"},
    "one token": {"max_new_tokens": 1},
    "classifier": {"model": "bert-tiny", "task": "classification", "batch_size": 4, "requests": 4},
}
SLOW = {"off", "int8", "grouped heads", "sampled", "draft", "one token"}
"""What `test_against_virtual` has too, or what differs from another of these in little."""


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster()


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow if c in SLOW else []) for c in CASES])
def test_forecast_is_what_a_virtual_gpu_accounts_for(case: str, forecaster: Forecaster) -> None:
    knobs = {"device": f"virtual:{P4}", "prompt_len": 40, "max_new_tokens": 24, **CASES[case]}
    config = config_of(**knobs)
    record = run(config).record
    assert record is not None
    assert record.outcome is Outcome.COMPLETED, record.message
    assert record.answer is not None
    made = forecaster.forecast(config, find(P4))
    assert made.answer is not None
    assert made.peak_reserved == pytest.approx(record.peak_reserved, rel=0.005)
    # guesses are counted as if there always were some
    assert made.peak_allocated == pytest.approx(record.peak_allocated, rel=0.005 if "lookup" not in case else 0.015)
    assert made.peak_used == pytest.approx(record.peak_used, rel=0.005)
    assert made.answer.kv_cache == (record.answer.kv_cache or 0)
    assert sum(made.breakdown.values()) == made.peak_used
    assert (made.breakdown[KV_CACHE] > 0) is (made.answer.kv_per_token > 0)
