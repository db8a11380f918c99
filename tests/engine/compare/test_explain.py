"""Evidence from the user's own runs, and what an out-of-memory means."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from engine.compare.answer_memory import DIED
from engine.compare.explain import (
    KNOB_TEXTS,
    evidence,
    largest_that_fitted,
    out_of_memory,
    text_of,
    too_much,
    ways_to_fit,
)
from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import ANSWER, TRAIN
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord
from engine.gpus.units import MIB
from engine.knobs.answering_texts import IN_ANSWERING

CARD = DeviceInfo(name="Tesla P4", kind="cuda", index=0, memory_total=7611 * MIB)


def run(run_id: int, outcome: Outcome = Outcome.COMPLETED, *, memory: int = 7000, **knobs: Any) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        config=RunConfig(**knobs),
        outcome=outcome,
        device=CARD,
        updates=64,
        planned_updates=64,
        samples_per_s=8.0,
        steady_samples_per_s=8.0,
        steady_spread=0.01,
        peak_used=memory * MIB,
    )


def test_every_knob_has_its_text() -> None:
    assert list(KNOB_TEXTS) == list(KNOBS)


def test_what_a_knob_does_to_answers_is_told_of_knobs_that_both_jobs_have() -> None:
    for name, text in IN_ANSWERING.items():
        assert {TRAIN, ANSWER} <= set(KNOBS[name].jobs)
        assert text_of(name, ANSWER) == text != text_of(name, TRAIN) == KNOB_TEXTS[name]


def test_runs_that_differ_in_the_knob_alone_are_evidence() -> None:
    runs = [
        run(1),
        run(2, gradient_checkpointing="on", memory=3000),
        run(3, gradient_checkpointing="on", batch_size=16, memory=5000),
        run(4, Outcome.OUT_OF_MEMORY, gradient_checkpointing="every-second"),
    ]
    [sentence] = evidence("gradient_checkpointing", runs)
    assert sentence.startswith("run 2 against run 1, checkpointing on: −4,000 MiB")
    assert evidence("precision", runs) == []


def test_the_baseline_is_what_is_compared_with_and_the_newest_run_of_a_value_counts() -> None:
    runs = [run(1), run(2, batch_size=4), run(3, batch_size=4, memory=4000), run(4, batch_size=2), run(5, seed=7)]
    sentences = evidence("batch_size", runs, runs[3])
    assert [sentence.partition(",")[0] for sentence in sentences] == ["run 5 against run 4", "run 3 against run 4"]
    assert len(evidence("batch_size", runs, runs[3], limit=1)) == 1
    assert evidence("batch_size", runs, run(9, epochs=2)) == []


def test_another_device_is_no_evidence() -> None:
    other = replace(run(2, batch_size=4), device=replace(CARD, name="A100"))
    assert evidence("batch_size", [run(1), other]) == []


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in DIED or phase is Phase.LOAD])
def test_every_phase_of_a_training_has_a_meaning(phase: Phase) -> None:
    dead = replace(run(1, Outcome.OUT_OF_MEMORY), failed_phase=phase)
    assert re.fullmatch(rf"It ran out of memory in {phase.noun}\. .{{40,}}", out_of_memory(dead))
    assert (ways_to_fit(dead) == []) is (phase is Phase.LOAD)


@pytest.mark.parametrize("phase", DIED)
def test_every_phase_of_answering_has_a_meaning_and_a_way_out(phase: Phase) -> None:
    dead = replace(run(1, Outcome.OUT_OF_MEMORY, job="answer", task="causal-lm"), failed_phase=phase)
    assert re.fullmatch(rf"It ran out of memory in {phase.noun}\. .{{40,}}", out_of_memory(dead))
    ways = ways_to_fit(dead)
    assert ways
    assert not any("checkpointing" in way or "accumulation" in way for way in ways)


def test_an_answer_that_did_not_fit_is_told_what_fits_its_phase() -> None:
    knobs = {"job": "answer", "task": "causal-lm", "batch_size": 8, "kv_cache": "static", "attention": "eager"}
    dead = replace(run(1, Outcome.OUT_OF_MEMORY, **knobs, prompt_len=512), failed_phase=Phase.DECODE)
    first, second, third, *_ = ways_to_fit(dead)
    assert first.startswith("KV cache dynamic: saves the room of answers that stay short")
    assert second.startswith("batch size 4: about 50 %")
    assert third.startswith("new tokens 64: half of the keys and values")
    dynamic = replace(dead, config=dead.config.with_values(kv_cache="dynamic"))
    assert ways_to_fit(dynamic)[0].startswith("KV type int8: saves half of the keys and values")
    loading = ways_to_fit(replace(dead, failed_phase=Phase.LOAD))
    assert [way.partition(":")[0] for way in loading] == ["weights fp16", "weights int8", "weights nf4"]
    assert ways_to_fit(replace(dead, failed_phase=Phase.PREFILL))[0].startswith("attention sdpa")


@pytest.mark.parametrize("knob", [knob.name for knob in KNOBS.values() if knob.group == "answering"])
def test_what_is_turned_already_is_no_way_out(knob: str) -> None:
    small = {"weights": "int8", "kv_dtype": "int8", "batch_size": 1, "max_new_tokens": 1}
    dead = replace(run(1, Outcome.OUT_OF_MEMORY, job="answer", task="causal-lm", **small), failed_phase=Phase.PREFILL)
    assert not any(way.startswith(KNOBS[knob].label) for way in ways_to_fit(dead))


def test_an_unknown_phase_is_said() -> None:
    assert "not known" in out_of_memory(run(1, Outcome.OUT_OF_MEMORY))


def test_ways_to_fit_begin_with_what_was_lacking_and_leave_out_what_is_done() -> None:
    forward = replace(run(1, Outcome.OUT_OF_MEMORY, batch_size=16), failed_phase=Phase.FORWARD)
    assert [way.partition(":")[0] for way in ways_to_fit(forward)][:3] == [
        "batch size 8 with accumulation 2",
        "checkpointing on",
        "precision fp16",  # a P4 has no bf16
    ]
    optimizer = replace(run(1, optimizer_implementation="foreach"), failed_phase=Phase.OPTIMIZER)
    assert ways_to_fit(optimizer)[0].startswith("implementation fused")
    language = replace(
        run(1, batch_size=1, task="causal-lm", gradient_checkpointing="on", precision="bf16"),
        failed_phase=Phase.BACKWARD,
    )
    assert [way.partition(":")[0] for way in ways_to_fit(language)][:2] == ["cross-entropy chunked", "offloading"]
    least = {"batch_size": 1, "gradient_checkpointing": "on", "activation_offloading": True, "precision": "bf16"}
    done = replace(run(1, **least, optimizer="sgd", lora_rank=8), failed_phase=Phase.FORWARD)
    assert ways_to_fit(done) == []


def test_a_16_bit_precision_saves_nothing_beside_16_bit_weights() -> None:
    dead = replace(run(1, Outcome.OUT_OF_MEMORY, weights="fp16"), failed_phase=Phase.FORWARD)
    assert not [way for way in ways_to_fit(dead) if way.startswith("precision")]


@pytest.mark.parametrize(
    ("name", "kind", "precision"),
    [
        ("Tesla P4", "virtual", "fp16"),
        ("Tesla V100-SXM2-16GB", "cuda", "fp16"),
        ("NVIDIA A100-SXM4-40GB", "cuda", "bf16"),
        ("NVIDIA GeForce RTX 3090", "virtual", "bf16"),
        ("A card of tomorrow", "cuda", "fp16"),
        ("Intel Xeon", "cpu", "bf16"),
    ],
)
def test_bf16_is_advised_only_where_the_card_has_it(name: str, kind: str, precision: str) -> None:
    device = DeviceInfo(name=name, kind=kind, memory_total=1000 * MIB)  # a limit makes any card smaller
    dead = replace(run(1, Outcome.OUT_OF_MEMORY), failed_phase=Phase.FORWARD, device=device)
    halves = [way for way in ways_to_fit(dead) if way.startswith("precision")]
    assert halves == [f"precision {precision}: saves half of the activations."]


@pytest.mark.parametrize(
    ("batch", "accumulation", "advice"),
    [
        (9, 1, "batch size 3 with accumulation 3: about 33 % of the activations, and the same updates."),
        (9, 2, "batch size 6 with accumulation 3: about 67 % of the activations, and the same updates."),
        (7, 1, "batch size 1 with accumulation 7: about 14 % of the activations, and the same updates."),
    ],
)
def test_a_smaller_batch_keeps_the_effective_one(batch: int, accumulation: int, advice: str) -> None:
    knobs = {"batch_size": batch, "gradient_accumulation_steps": accumulation}
    dead = replace(run(1, Outcome.OUT_OF_MEMORY, **knobs), failed_phase=Phase.BACKWARD)
    assert ways_to_fit(dead)[0] == advice


@pytest.mark.parametrize("phase", [Phase.BACKWARD, Phase.OPTIMIZER])
def test_the_first_update_is_told_from_a_later_one(phase: Phase) -> None:
    first = replace(run(1, Outcome.OUT_OF_MEMORY), failed_phase=phase, updates=0)
    assert "first update" in out_of_memory(first) or "first step" in out_of_memory(first)
    later = out_of_memory(replace(first, updates=1))
    assert "gradients are new" not in later
    assert "first step" not in later
    if phase is Phase.BACKWARD:
        assert "Since the first update the optimizer's states are there too" in later


PYTORCH = "CUDA out of memory. Tried to allocate {}. GPU 0 has a total capacity of 7.43 GiB of which {} is free."


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (PYTORCH.format("108.00 MiB", "72.00 MiB"), "It asked for 108 MiB where 72 were free: 36 MiB too much."),
        (PYTORCH.format("20.00 MiB", "512.00 KiB"), "It asked for 20 MiB where 0 were free: 20 MiB too much."),
        (PYTORCH.format("2.20 GiB", "72.00 MiB"), ""),  # known to 10 MiB only
        (PYTORCH.format("20.00 MiB", "72.00 MiB"), ""),
        ("nvcc fell over", ""),
        (None, ""),
    ],
)
def test_how_much_was_too_much(message: str | None, told: str) -> None:
    assert too_much(run(1, Outcome.OUT_OF_MEMORY)) == ""
    assert too_much(replace(run(1, Outcome.OUT_OF_MEMORY), message=message)) == told


def test_the_largest_batch_that_fitted() -> None:
    dead = run(9, Outcome.OUT_OF_MEMORY, batch_size=32)
    runs = [run(1, batch_size=4), run(2, batch_size=8), run(3, batch_size=16, precision="bf16"), dead]
    found = largest_that_fitted(dead, runs)
    assert found is not None
    assert found.run_id == 2
    assert largest_that_fitted(dead, [dead]) is None


def test_how_work_is_divided_is_explained_by_runs_on_several_gpus_alone() -> None:
    alone = [run(1), run(2, parallel="zero1")]
    assert evidence("parallel", alone) == []
    several = [run(3, gpus=2), run(4, gpus=2, parallel="zero1", memory=6000)]
    (told,) = evidence("parallel", [*alone, *several])
    assert told.startswith("run 4 against run 3, parallel zero1: −1,000 MiB per GPU (−14 %)")
    (told,) = evidence("gpus", [alone[0], several[0]])
    assert told.startswith("run 3 against run 1, GPUs 2: effective batch 8 → 16")


def test_out_of_memory_on_several_gpus_names_the_rank_and_offers_to_divide_more() -> None:
    died = run(1, Outcome.OUT_OF_MEMORY, gpus=2, batch_size=1)
    died = replace(died, failed_phase=Phase.OPTIMIZER, failed_rank=1)
    assert out_of_memory(died).startswith("It ran out of memory in optimizer on rank 1, and so all ended.")
    ways = [way for way in ways_to_fit(died) if way.startswith("parallel")]
    assert [way.partition(":")[0] for way in ways] == ["parallel zero1", "parallel fsdp"]
    divided = replace(died, config=died.config.with_values(parallel="zero1"))
    assert [way.partition(":")[0] for way in ways_to_fit(divided) if "parallel" in way] == ["parallel fsdp"]
    one = replace(died, config=RunConfig(batch_size=1))
    assert not any(way.startswith("parallel") for way in ways_to_fit(one))
