"""The closing sentences of the experiments with answers, to the letter, from rows as a history holds them."""

from __future__ import annotations

from dataclasses import replace

from engine.compare.closing import closing
from engine.contract.answers import AnswerFigures, AnswerShares, Percentiles
from engine.contract.by_job import defaults_of
from engine.contract.conditions import Conditions, Neighbour
from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord
from engine.plans.course import Plan, PlannedRun, named_plan

MIB = 2**20
NO_DRAFT = (
    "no draft model: there is no model to guess with: --draft-model names one that knows the same tokens and takes a "
    "twentieth of the time"
)
CPU = DeviceInfo(name="EPYC", kind="cpu", memory_label="RAM")


def ms(value: float) -> Percentiles:
    return Percentiles(p50=value / 1000, p90=2 * value / 1000, p99=3 * value / 1000)


def row(run: PlannedRun, number: int, speed: float, ttft: float = 40.0, **figures: object) -> RunRecord:
    made = AnswerFigures(generation_tokens_per_s=speed, ttft=ms(ttft), tpot=ms(1000 / speed), kv_cache=3 * MIB)
    answer = replace(made, **figures)  # type: ignore[arg-type]
    return RunRecord(run_id=number, config=run.config, outcome=Outcome.COMPLETED, device=CPU, answer=answer)


def of(plan: Plan) -> dict[str, PlannedRun]:
    return {run.label: run for run in plan.runs}


def ideas() -> tuple[Plan, list[RunRecord]]:
    plan = named_plan("three-ideas", RunConfig(), "small")
    rows = of(plan)
    return plan, [
        row(rows["no KV cache"], 1, 25.0, kv_cache=0),
        row(rows["KV cache"], 2, 150.0, weights=100 * MIB),
        row(rows["static KV cache"], 3, 135.0, kv_cache=4 * MIB),
        row(rows["prefix cache"], 4, 151.0, ttft=10.0, held=2 * MIB),
        row(rows["response cache"], 5, 150.0, hit_rate=0.25),
        row(rows["lookup"], 6, 225.0, acceptance=0.19, looped=0.8),
        row(rows["int8 weights"], 7, 120.0, weights=27 * MIB, agreement=0.991),
        row(rows["drawn"], 8, 150.0, looped=0.1),
        row(rows["drawn, lookup"], 9, 100.0, acceptance=0.04, looped=0.1),
    ]


def test_the_three_ideas() -> None:
    plan, records = ideas()
    assert closing(plan, records) == (
        "space for computation: the KV cache 6.0 × as fast as none for 3.0 MiB, static 1.11 × slower with 4.0 MiB; "
        "the common case: the first token 4.0 × as fast with a prefix cache for 2.0 MiB, the response cache "
        "answers 25 % at once, int8 weights 1.25 × slower, 0.27 of the bytes, the same top token 99.1 %; "
        "speculation: lookup 1.50 × as fast (19 % accepted, the answers go round in circles (80 % of them came "
        "before), so guesses are easier than in other text), lookup on random text 1.50 × slower "
        f"(4 % accepted), {NO_DRAFT}"
    )


def test_an_idea_that_made_it_slower_is_told_so() -> None:
    plan, records = ideas()
    cold = replace(records[3], answer=replace(records[3].answer, ttft=ms(44.0)))  # type: ignore[type-var]
    assert "the first token 1.10 × slower with a prefix cache for 2.0 MiB" in (closing(plan, [records[1], cold]) or "")


def test_text_that_a_model_was_trained_on_is_compared_with_itself() -> None:
    asked = defaults_of("answer").with_values(model="run:7", draft_model="run:6")
    plan = named_plan("three-ideas", asked, "small", given={"model", "draft_model"})
    rows = of(plan)
    shares = AnswerShares(prefill=1.0, decode=9.0, sampling=1.0)
    slower = AnswerShares(prefill=1.0, decode=10.0, draft=16.0, sampling=2.0)
    counted = {"n_requests": 8, "forwards": 1008}
    records = [
        row(rows["KV cache"], 1, 150.0),
        row(rows["repeating"], 2, 100.0, shares=shares, **counted),
        row(rows["lookup"], 3, 140.0, acceptance=0.3, looped=0.02),
        row(rows["draft model"], 4, 50.0, acceptance=0.25, proposed=4000, accepted=1000, shares=slower, **counted),
    ]
    assert closing(plan, records) == (
        "speculation: lookup 1.40 × as fast (30 % accepted), draft model 2.0 × slower (25 % accepted, a guess takes "
        "0.40 of a forward, it pays from 45 %)"
    )


def test_what_did_not_pay_is_told_and_what_did_not_run_is_left_out() -> None:
    plan, records = ideas()
    slow = row(of(plan)["lookup"], 6, 75.0, acceptance=0.0)
    assert closing(plan, [records[1], slow]) == f"speculation: lookup 2.0 × slower (0 % accepted), {NO_DRAFT}"
    assert closing(plan, records[2:]) == "No comparison: a run that it needs did not come to its end."
    failed = replace(records[1], outcome=Outcome.FAILED)
    assert (closing(plan, [failed, slow]) or "").startswith("No comparison")
    met = Conditions(neighbours=(Neighbour(pid=7),))
    assert (closing(plan, [records[1], replace(slow, conditions=met)]) or "").endswith("(run 6 was contended)")


def test_repeats_count_by_their_median() -> None:
    plan, records = ideas()
    lookup = of(plan)["lookup"]
    seeds = [replace(lookup, config=lookup.config.with_values(seed=seed)) for seed in (42, 43, 44)]
    thrice = [row(run, 9 + i, speed) for i, (run, speed) in enumerate(zip(seeds, (300.0, 10.0, 150.0), strict=True))]
    assert closing(plan, [records[1], *thrice]) == f"speculation: lookup 1.00 × as fast, {NO_DRAFT}"


def test_throughput_against_latency() -> None:
    plan = named_plan("throughput-latency", RunConfig(), "small")
    rows = of(plan)
    speeds = {1: 100.0, 2: 180.0, 4: 320.0, 8: 500.0, 16: 640.0, 32: 600.0}
    records = [
        row(rows[f"batch {size}"], size, speed, ttft=5.0 * size, kv_cache=size * MIB, tpot=ms(1000 * size / speed))
        for size, speed in speeds.items()
    ]
    dead = RunRecord(run_id=64, config=rows["batch 64"].config, outcome=Outcome.OUT_OF_MEMORY, device=CPU)
    assert closing(plan, [*records, dead]) == (
        "batch 1 → 32: 6.0 × the tokens/s, time to first token 5.0 → 160 ms, time per output token 10 → 53 ms, "
        "KV cache 1.0 → 32.0 MiB, batch 64 is out of memory, most tokens/s at 16: 640"
    )
    assert (closing(plan, records[:1]) or "").startswith("No comparison")


def test_the_length_of_the_prompt() -> None:
    plan = named_plan("prompt-length", RunConfig(), "small")
    first = plan.runs[0]

    def tried(length: int) -> PlannedRun:
        return replace(first, config=first.config.with_values(prompt_len=length))

    records = [
        row(tried(length), length, 100.0, ttft=length / 50, kv_cache=length * 4096) for length in (512, 1024, 2048)
    ]
    dead = RunRecord(
        run_id=9, config=tried(4096).config, outcome=Outcome.OUT_OF_MEMORY, device=CPU, failed_phase=Phase.PREFILL
    )
    assert closing(plan, [dead, *reversed(records)]) == (
        "prompt 512 → 2,048 tokens: time to first token 10 → 41 ms, time per output token 10 → 10 ms, "
        "KV cache 2.0 → 8.0 MiB, 4,096 tokens are out of memory in prefill"
    )
    assert (closing(plan, records[:1]) or "").startswith("No comparison")
