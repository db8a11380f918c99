"""Answers against a baseline: what is better, by how much, and what each idea cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.compare.answers import costs, speculation
from engine.compare.compare import Quantity, Verdict, compare, explain, fold, row_of
from engine.contract.answers import AnswerFigures, AnswerShares, Percentiles
from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig
from engine.contract.knob import ANSWER
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.contract.speculation import break_even
from engine.gpus.units import MIB

CPU = DeviceInfo(name="Intel Xeon", kind="cpu", memory_label="RAM")
PLAIN = AnswerFigures(
    n_requests=8,
    planned_requests=8,
    new_tokens=1024,
    forwards=1024,
    tokens_per_forward=1.0,
    ttft=Percentiles(p50=0.0487, p90=0.05, p99=0.06),
    tpot=Percentiles(p50=0.00623, p90=0.007, p99=0.008),
    prompt_tokens_per_s=6000.0,
    prompt_spread=100.0,
    generation_tokens_per_s=152.4,
    generation_spread=2.0,
    kv_cache=3 * MIB,
    weights=4 * MIB,
)


def run(run_id: int, figures: dict[str, Any] | None = None, **knobs: Any) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        config=defaults_of(ANSWER).with_values(**knobs),
        outcome=Outcome.COMPLETED,
        device=CPU,
        peak_used=560 * MIB,
        train_runtime_s=8.0,
        answer=replace(PLAIN, **(figures or {})),
    )


def told(record: RunRecord, base: RunRecord | None = None) -> str:
    return explain(compare(row_of([record]), row_of([base or run(1)])))


def lookup(**figures: Any) -> RunRecord:
    guessed = {"tokens_per_forward": 2.84, "proposed": 442, "accepted": 83, "acceptance": 83 / 442, **figures}
    return run(2, guessed, speculate="lookup", speculate_tokens=10)


def test_speculation_that_pays_is_told_with_its_price() -> None:
    faster = lookup(generation_tokens_per_s=259.4, tpot=Percentiles(p50=0.00347, p90=0.004, p99=0.005))
    assert told(faster) == (
        "speculate lookup, guessed tokens 10: memory the same, 1.70 × the tokens/s (259 against 152), TTFT within "
        "noise, TPOT 6.23 → 3.47 ms, 2.84 tokens per forward at 19 % acceptance, 359 guesses wasted"
    )


def test_why_speculation_is_slower_although_guesses_are_accepted() -> None:
    shares = AnswerShares(prefill=0.5, decode=3.0, draft=5.5, sampling=1.0)
    sentence = told(lookup(generation_tokens_per_s=59.2, shares=shares))
    assert "2.57 × slower (59.2 against 152 tokens/s)" in sentence
    assert "slower, as guessing took 55 % of the time" in sentence
    assert "slower" not in told(lookup(generation_tokens_per_s=259.4, shares=shares))
    assert "nothing was guessed" in told(lookup(proposed=0, accepted=0, acceptance=None))


def guessing(decode: float, draft: float) -> tuple[AnswerFigures, AnswerFigures]:
    """1,000 forwards of 4 guesses and their checks, beside 1,000 forwards of 10 ms; both with 8 answers more."""
    before = replace(PLAIN, forwards=1008, shares=AnswerShares(prefill=1.0, decode=9.0, sampling=1.0))
    shares = AnswerShares(prefill=1.0, decode=decode - 2.0, draft=draft, sampling=2.0)
    return replace(before, forwards=1008, proposed=4000, accepted=1000, shares=shares), before


def test_what_guesses_cost_says_from_which_acceptance_on_they_pay() -> None:
    found = costs(*guessing(decode=12.0, draft=4.0))
    assert found is not None
    assert (found.guess, found.check, found.pays_from) == pytest.approx((0.1, 1.2, 0.15))
    assert found.pays_from == pytest.approx(break_even(4, 0.1, 1.2))
    now, before = guessing(decode=12.0, draft=40.0)
    slow = replace(now, generation_tokens_per_s=50.0, acceptance=0.25, tokens_per_forward=2.0)
    assert speculation(slow, before)[-1] == (
        "slower, as a guess takes 1.00 of a forward and a check 1.20: it would not pay if all guesses were right"
    )
    now, before = guessing(decode=12.0, draft=16.0)
    slow = replace(now, generation_tokens_per_s=100.0, acceptance=0.25, tokens_per_forward=2.0)
    assert speculation(slow, before)[-1].endswith("it pays from 45 % acceptance on")
    assert costs(replace(now, shares=None), before) is None
    assert costs(now, replace(before, shares=None)) is None


def test_answers_that_go_round_in_circles_are_said_to_be_easily_guessed() -> None:
    looping = told(lookup(generation_tokens_per_s=259.4, looped=0.934))
    assert looping.endswith("go round in circles (93 % of them came before), so guesses are easier than in other text")
    assert "circles" not in told(lookup(generation_tokens_per_s=259.4, looped=0.2))


def test_no_cache_is_told_by_its_time_and_memory() -> None:
    off = run(2, {"generation_tokens_per_s": 22.5, "kv_cache": 0}, kv_cache="off")
    assert "6.77 × slower (22.5 against 152 tokens/s)" in told(off)
    assert "KV cache 3.0 → 0.0 MiB" in told(off)


def test_quality_is_the_price_of_rounded_weights() -> None:
    rounded = {"weights": MIB, "agreement": 0.9731, "perplexity": 12.34, "own_perplexity": 12.0}
    sentence = told(run(2, rounded, weights="int8"))
    assert "weights 1.0 MiB, 25 % of 4.0" in sentence
    assert "the top token agrees on 97.3 %, perplexity 12.3 (own 12.0)" in sentence


def test_caches_are_told_by_hits_and_what_they_hold() -> None:
    hits = {"hits": 7, "hit_rate": 7 / 8, "held": 2 * MIB, "ttft": Percentiles(p50=0.01, p90=0.02, p99=0.06)}
    sentence = told(run(2, hits, prefix_cache=True))
    assert "TTFT 48.7 → 10.0 ms" in sentence
    assert "88 % of the requests hit a cache, 2.0 MiB held" in sentence


def test_tokens_that_are_not_those_of_plain_generate_are_said() -> None:
    assert "118 of 128 tokens compared are those of plain generate" in told(
        run(2, {"same_tokens": 118, "compared_tokens": 128}, batch_size=4)
    )


def test_a_difference_within_the_spread_of_the_batches_is_noise() -> None:
    near = compare(row_of([run(2, {"generation_tokens_per_s": 155.0})]), row_of([run(1)])).deltas
    assert near[Quantity.GENERATION].verdict is Verdict.SAME
    far = compare(row_of([run(2, {"generation_tokens_per_s": 157.0})]), row_of([run(1)])).deltas
    assert far[Quantity.GENERATION].verdict is Verdict.BETTER
    slow = compare(row_of([run(2, {"tpot": Percentiles(p50=0.0070, p90=0.01, p99=0.01)})]), row_of([run(1)])).deltas
    assert slow[Quantity.TPOT].verdict is Verdict.WORSE
    assert slow[Quantity.TPOT].difference == pytest.approx(0.77)
    alone = compare(row_of([run(2, {"generation_spread": None})]), row_of([run(1)])).deltas[Quantity.GENERATION]
    assert (alone.verdict, alone.why) == (Verdict.NOT_ENOUGH_DATA, "fewer than 2 batches")


def test_repeats_tell_their_own_noise() -> None:
    speeds = (150.0, 152.0, 154.0)
    one, other = (
        fold(
            run(first + at, {"generation_tokens_per_s": speed + more, "generation_spread": None}, kv_cache=cache)
            for at, speed in enumerate(speeds)
        )
        for first, more, cache in ((1, 0.0, "dynamic"), (4, 2.0, "static"))
    )
    delta = compare(other[0], one[0]).deltas[Quantity.GENERATION]
    assert (delta.value, delta.baseline, delta.verdict) == (154.0, 152.0, Verdict.SAME)


@pytest.mark.parametrize("swap", [False, True])
def test_jobs_are_not_compared(swap: bool) -> None:
    training = RunRecord(
        run_id=2,
        config=RunConfig(),
        outcome=Outcome.COMPLETED,
        device=CPU,
        peak_used=900 * MIB,
        samples_per_s=9.0,
        train_runtime_s=60.0,
    )
    one, other = (run(1), training) if swap else (training, run(1))
    comparison = compare(row_of([one]), row_of([other]))
    assert {delta.verdict for delta in comparison.deltas.values()} == {Verdict.NOT_COMPARABLE}
    expected = "run 1 is to answer, run 2 to train" if swap else "run 2 is to train, run 1 to answer"
    assert explain(comparison) == f"not comparable: {expected}"
