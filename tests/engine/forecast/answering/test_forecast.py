"""What forecasts of answers tell beside memory: room, speed, refusals and what would fit instead."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.contract.config import ConfigError
from engine.contract.forecast_types import Forecast
from engine.contract.records import Phase
from engine.forecast.answering.room import largest
from engine.forecast.forecast import Assumptions, Forecaster
from engine.forecast.proposals import propose
from engine.gpus.catalogue import find
from tests.engine.answering.asked import config_of


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster()


def foretold(forecaster: Forecaster, gpu: str = "tesla-p4", limit: int | None = None, **knobs: Any) -> Forecast:
    values: dict[str, Any] = {"device": "auto", "prompt_len": 256, "max_new_tokens": 64, "vram_limit": limit, **knobs}
    return forecaster.forecast(config_of(**values), find(gpu))


def test_other_lengths_and_batches_are_told_as_if_they_were_traced() -> None:
    told, traced = Forecaster(), Forecaster()
    foretold(told, prompt_len=256)
    foretold(told, prompt_len=256, batch_size=3)
    for knobs in ({"prompt_len": 91}, {"prompt_len": 700, "batch_size": 5}):
        first, second = foretold(told, **knobs), foretold(traced, **knobs)
        assert (first.peak_allocated, first.peak_reserved) == (second.peak_allocated, second.peak_reserved)
        assert first.answer == second.answer


def test_what_is_said_to_fit_does_and_more_does_not(forecaster: Forecaster) -> None:
    knobs: dict[str, Any] = {"limit": 640, "batch_size": 8, "max_new_tokens": 16, "model": "llama-tiny"}
    made = foretold(forecaster, **knobs)
    assert made.answer is not None
    batch, tokens = made.answer.largest_batch, made.answer.most_tokens
    assert batch is not None
    assert tokens is not None
    assert foretold(forecaster, **{**knobs, "batch_size": batch}).fits
    assert not foretold(forecaster, **{**knobs, "batch_size": int(1.03 * batch) + 1}).fits
    assert foretold(forecaster, **{**knobs, "prompt_len": tokens - 16}).fits


def test_room_is_found_where_needs_are_uneven() -> None:
    asked: list[int] = []

    def fits(n: int) -> bool:
        asked.append(n)
        return n * n <= 1_000_000

    found = largest(lambda n: n * n, fits, 1, 100_000, 1_000_000)
    assert found is not None
    assert 990 <= found <= 1000
    assert len(asked) <= 20
    assert largest(lambda n: n, lambda n: False, 1, 10, 5) is None
    assert largest(lambda n: n, lambda n: True, 1, 10, 5) == 10


def test_a_window_that_slides_ends_the_growth_of_the_cache(forecaster: Forecaster) -> None:
    kept = []
    for prompt_len in (1000, 6000, 12_000):
        answer = foretold(forecaster, "a100-80gb", model="mistral-7b", weights="bf16", prompt_len=prompt_len).answer
        assert answer is not None
        kept.append(answer.kv_cache // answer.kv_per_token)
    assert kept[0] == 1000 + 64 - 1
    assert kept[1] == kept[2] == 4096


def test_decoding_is_bound_by_the_weights_bytes_once_the_host_is_out_of_the_way(forecaster: Forecaster) -> None:
    """gpt-fast's README: Llama-2-7B in bf16, compiled, batch 1 on an A100 of 80 GB: 104.9 tokens/s."""
    knobs: dict[str, Any] = {"model": "llama-2-7b", "weights": "bf16", "kv_cache": "static"}
    compiled = foretold(forecaster, "a100-80gb", torch_compile=True, **knobs).answer
    eager = foretold(forecaster, "a100-80gb", **knobs).answer
    assert compiled is not None
    assert eager is not None
    assert (compiled.bound, eager.bound) == ("bandwidth", "host")
    assert compiled.generation_tokens_per_s == pytest.approx(104.9, rel=0.05)
    assert eager.generation_tokens_per_s is not None
    assert eager.generation_tokens_per_s < 50


def test_an_acceptance_that_is_known_is_in_the_speed() -> None:
    forecaster, config = Forecaster(), config_of(device="auto", speculate="lookup")
    plain = forecaster.forecast(config, find("tesla-p4")).answer
    known = forecaster.forecast(config, find("tesla-p4"), Assumptions(acceptance=0.5)).answer
    assert plain is not None
    assert known is not None
    assert plain.acceptance is None
    assert known.acceptance == 0.5
    gains = dict(known.speedups)
    assert plain.generation_tokens_per_s is not None
    assert known.generation_tokens_per_s is not None
    assert gains[0.4] < known.generation_tokens_per_s / plain.generation_tokens_per_s < gains[0.6]


@pytest.mark.parametrize(
    ("gpu", "knobs", "words"),
    [
        ("tesla-p4", {"weights": "fp16"}, "compute capability 8.0 or newer; Tesla P4 has 6.1: use --attention sdpa."),
        ("a100-40gb", {}, "computes in 16 bits and this run in fp32: use --precision bf16, or --attention sdpa."),
        ("a100-40gb", {"weights": "bf16", "kv_cache": "static"}, "use --kv-cache dynamic, or --attention sdpa."),
    ],
)
def test_flash_is_refused_as_the_run_is(forecaster: Forecaster, gpu: str, knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        foretold(forecaster, gpu=gpu, attention="flash", **knobs)
    assert foretold(forecaster, gpu="a100-40gb", attention="flash", weights="bf16").fits


def test_rounded_weights_beside_fp32_are_told_what_halves_the_rest(forecaster: Forecaster) -> None:
    wide, half = (foretold(forecaster, weights="int8", precision=each, gpu="a100-40gb") for each in ("fp32", "bf16"))
    assert wide.answer is not None
    assert half.answer is not None
    assert wide.answer.kv_cache == 2 * half.answer.kv_cache
    said = "and so are keys and values: --precision bf16 halves both."
    assert [any(said in note for note in made.notes) for made in (wide, half)] == [True, False]


def test_speed_of_quantised_weights_is_not_told(forecaster: Forecaster) -> None:
    made = foretold(forecaster, "a100-80gb", weights="nf4", precision="bf16")
    assert made.answer is not None
    assert made.answer.tpot_s is None
    assert made.samples_per_s is None
    assert any("has not been measured" in note for note in made.notes)


def test_a_prompt_beyond_the_positions_is_refused_as_the_run_does(forecaster: Forecaster) -> None:
    with pytest.raises(ConfigError, match=r"1,024 positions.*--prompt-len 960 or less"):
        foretold(forecaster, prompt_len=1000)
    with pytest.raises(ConfigError, match="fills in masks"):
        foretold(forecaster, model="bert-tiny")


@pytest.mark.slow  # the same proposals as in test_proposals, over many forecasts
def test_what_would_fit_instead_is_for_answers(forecaster: Forecaster) -> None:
    config = config_of(device="auto", model="gpt2", batch_size=64, prompt_len=512, vram_limit=1800)

    def ask(other: Any) -> Forecast:
        return forecaster.forecast(other, find("tesla-p4"))

    made = ask(config)
    assert not made.fits
    assert made.failing_phase in (Phase.PREFILL.value, Phase.DECODE.value)
    found = propose(config, Phase.PREFILL, ask)
    assert found
    assert all(each.forecast.fits for each in found)
    assert "checkpointing" not in " ".join(each.label for each in found)
    assert any(each.config.batch_size < 64 for each in found)


def test_json_has_the_fields_of_answers(forecaster: Forecaster) -> None:
    told = foretold(forecaster).to_json()
    for name in ("kv_cache_mib", "kv_per_token_bytes", "most_tokens", "largest_batch", "ttft_s", "tpot_s"):
        assert told[name] is not None
    assert {"prompt_tokens_per_s", "generation_tokens_per_s", "bound", "speedups"} <= told.keys()
    assert told["breakdown_mib"]["kv_cache"] > 0
