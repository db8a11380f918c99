"""The closing sentences of the experiments with answers, to the letter, from rows as a history holds them."""

from __future__ import annotations

from dataclasses import replace

from engine.compare.closing import closing
from engine.contract.answers import AnswerFigures, Percentiles
from engine.contract.conditions import Conditions, Neighbour
from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord
from engine.plans.course import Plan, PlannedRun, named_plan

MIB = 2**20
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
        row(rows["lookup"], 6, 225.0, acceptance=0.19),
        row(rows["int8 weights"], 7, 120.0, weights=27 * MIB, agreement=0.991),
    ]


def test_the_three_ideas() -> None:
    plan, records = ideas()
    assert closing(plan, records) == (
        "space for computation: the KV cache 6.0 × the tokens/s of none for 3.0 MiB, static 0.90 × with 4.0 MiB; "
        "the common case: the prefix cache divides the time to first token by 4.0 for 2.0 MiB, the response cache "
        "answers 25 % at once, int8 weights 0.80 ×, 0.27 of the bytes, the same top token 99.1 %; "
        "speculation: lookup 1.50 × (19 % accepted)"
    )


def test_what_did_not_pay_is_told_and_what_did_not_run_is_left_out() -> None:
    plan, records = ideas()
    slow = row(of(plan)["lookup"], 6, 75.0, acceptance=0.0)
    assert closing(plan, [records[1], slow]) == "speculation: lookup 0.50 × (0 % accepted)"
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
    assert closing(plan, [records[1], *thrice]) == "speculation: lookup 1.00 ×"


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
