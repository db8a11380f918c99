"""Answers on a virtual GPU: what is accounted for, what need not be traced, and a real end where the memory ends."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.contract.events import AnsweringStarted, BatchScored, MemoryMoment, Prefilled, RequestDone, TokensDone
from engine.contract.forecast_types import KV_CACHE, WEIGHTS
from engine.contract.records import Outcome, Phase, RunRecord
from engine.gpus.units import MIB
from engine.tracing import answers
from engine.tracing.answers import KnownBatches, Traced
from tests.engine.answering.asked import Asked, config_of, run

P4 = "virtual:tesla-p4"
CASES: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "off": {"kv_cache": "off"},
    "static": {"kv_cache": "static"},
    "int8": {"kv_dtype": "int8"},
    "batch 4 of 6": {"batch_size": 4, "requests": 6},
    "grouped": {"model": "llama-tiny", "batch_size": 2},
    "seq2seq": {"model": "t5-small", "task": "seq2seq-lm", "max_new_tokens": 4},
    "prefix": {"prefix_cache": True, "prefix_len": 24},
    "sampled": {"temperature": 0.8, "top_k": 20},
}


def peaks(record: RunRecord | None) -> tuple[int | None, ...]:
    assert record is not None
    assert record.outcome is Outcome.COMPLETED, record.message
    return record.peak_allocated, record.peak_reserved, record.peak_used


def answered(**knobs: Any) -> Asked:
    return run(config_of(**{"device": P4, "prompt_len": 40, "max_new_tokens": 12, "requests": 4, **knobs}))


@pytest.mark.parametrize("case", list(CASES))
def test_batches_of_a_kind_take_what_the_traced_one_took(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = answered(**CASES[case])
    monkeypatch.setattr(KnownBatches, "get", lambda *_: None)  # every operator of every batch
    traced = answered(**CASES[case])
    assert peaks(known.record) == peaks(traced.record)
    assert [e.text for e in known.of(RequestDone)] == [e.text for e in traced.of(RequestDone)]


def test_only_the_first_of_a_kind_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[object] = []
    own = KnownBatches.get

    def get(self: KnownBatches, kind: object) -> Traced | None:
        found = own(self, kind)
        if found is None:
            traced.append(kind)
        return found

    monkeypatch.setattr(KnownBatches, "get", get)
    answered(batch_size=2, requests=7)
    assert len(traced) == 2, "the warm-up, which is as long as the others, and the last, which is smaller"
    traced.clear()
    answered(speculate="lookup", model="gpt2-tiny")
    assert len(traced) == 1


def test_an_answer_that_ended_early_tells_nothing_of_longer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_KINDS", 2)
    known = KnownBatches()
    for kind in range(3):
        known.add(kind, Traced(moments=[(kind, {})]))
    assert known.get(0) is None
    assert known.get(2) is not None
    traced = known.get(1)
    assert traced is not None
    assert traced.moment(0) == traced.moment(7) == (1, {})
    assert Traced().moment(0) is None


@pytest.mark.parametrize("kv_cache", ["dynamic", "static"])
@pytest.mark.parametrize("kv_dtype", ["model", "int8"])
def test_keys_and_values_stand_apart_and_are_what_the_formula_says(kv_cache: str, kv_dtype: str) -> None:
    if (kv_cache, kv_dtype) == ("static", "int8"):
        pytest.skip("refused")
    asked = answered(kv_cache=kv_cache, kv_dtype=kv_dtype, model="llama-tiny", batch_size=2, requests=2)
    (started,) = asked.of(AnsweringStarted)
    told = [event for event in asked.of(TokensDone) if event.warmup]
    last = told[-1]
    rows, tokens = 2, 40 + 12 - 1
    assert last.kv_cache == pytest.approx(rows * tokens * started.kv_per_token, rel=0.02)
    held = last.memory.by_category[KV_CACHE]
    assert held == pytest.approx(last.kv_cache, rel=0.03)
    first = next(event for event in asked.of(Prefilled) if event.warmup)
    assert (first.kv_cache < last.kv_cache) is (kv_cache == "dynamic")
    assert first.memory.by_category[WEIGHTS] == pytest.approx(started.weights, rel=1e-4)  # and buffers


def test_memory_grows_with_the_answer_also_where_nothing_is_traced() -> None:
    asked = answered(max_new_tokens=40, model="llama-tiny")
    held = [event.memory.by_category[KV_CACHE] for event in (*asked.of(Prefilled), *asked.of(TokensDone))]
    prefilled, last = held[: len(asked.of(Prefilled))], held[-1]
    assert len(prefilled) == 5
    assert all(each < last for each in prefilled)


def test_a_prompt_that_is_too_long_ends_in_prefill() -> None:
    asked = answered(model="llama-tiny", prompt_len=4096, max_new_tokens=2, requests=1, vram_limit=800)
    record = asked.record
    assert record is not None
    assert (record.outcome, record.failed_phase) == (Outcome.OUT_OF_MEMORY, Phase.PREFILL)
    assert (record.message or "").startswith("Out of memory in prefill of warm-up: CUDA out of memory. Tried to")
    assert "MiB is free." in (record.message or "")
    assert [event.moment for event in asked.of(MemoryMoment)][-1] == "answered"


def test_an_answer_that_is_too_long_ends_at_its_token() -> None:
    knobs = {"batch_size": 32, "requests": 32, "prompt_len": 16, "model": "gpt2-tiny"}
    short = answered(**knobs, max_new_tokens=8).record
    assert short is not None
    assert short.peak_used is not None
    asked = answered(**knobs, max_new_tokens=400, vram_limit=short.peak_used // MIB + 2)
    record = asked.record
    assert record is not None
    assert record.outcome is Outcome.OUT_OF_MEMORY
    assert record.failed_phase in (Phase.DECODE, Phase.SAMPLE)
    assert re.match(r"Out of memory in (decode|sampling) of warm-up, token [0-9]+: CUDA", record.message or "")
    assert asked.of(TokensDone), "what was written is told"


def test_a_classifier_that_scores() -> None:
    knobs = {"model": "bert-tiny", "task": "classification", "batch_size": 4, "requests": 8, "max_new_tokens": 128}
    asked = answered(**knobs)
    assert peaks(asked.record)[0]
    memory = [event.memory.by_category for event in asked.of(BatchScored)]
    assert len(memory) == 3
    assert all(each["activations"] > 0 for each in memory)
