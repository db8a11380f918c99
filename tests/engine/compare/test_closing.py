"""The closing sentences of the lecture's experiments, to the letter, from runs as a history holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.compare.closing import closing
from engine.contract.conditions import Conditions, Neighbour
from engine.contract.config import RunConfig
from engine.contract.forecast_types import Foretold
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.export.closings import closings
from engine.export.export import to_latex, to_markdown
from engine.history.history import History
from engine.history.plans import COMPLETED
from engine.plans.course import NAMED, Plan, PlannedRun, named_plan, sweep

MIB = 2**20
P4 = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=7611 * MIB)
CARD = DeviceInfo(name="Tesla P4", kind="cuda", memory_total=7611 * MIB)
CPU = DeviceInfo(name="EPYC", kind="cpu", memory_label="RAM")

Values = dict[str, object]


def told(memory: int, speed: float | None, phase: str | None = None, gpu: str = "Tesla P4") -> Foretold:
    return Foretold(
        gpu=gpu,
        limit=7611 * MIB,
        peak_used=memory * MIB,
        fits=phase is None,
        near_limit=False,
        failing_phase=phase,
        samples_per_s=speed,
    )


def done(run: PlannedRun, number: int, memory: int, speed: float, **values: object) -> RunRecord:
    """A completed run whose speed is known of the whole training alone."""
    record = RunRecord(
        run_id=number,
        config=run.config,
        outcome=Outcome.COMPLETED,
        device=P4,
        peak_used=memory * MIB,
        samples_per_s=speed,
        updates=run.config.samples // run.config.batch_size // run.config.gradient_accumulation_steps,
    )
    return replace(record, **values)  # type: ignore[arg-type]


def ran(name: str, *rows: tuple[int, float, Values], device: DeviceInfo = P4) -> tuple[Plan, list[RunRecord]]:
    """An experiment at its small sizes, and the runs of its first rows that are run."""
    plan = named_plan(name, RunConfig(), "small")
    runs = [run for run in plan.runs if not run.skip]
    records = [
        done(run, number, memory, speed, device=device, **values)
        for number, (run, (memory, speed, values)) in enumerate(zip(runs, rows, strict=False), 1)
    ]
    return plan, records


def test_checkpointing() -> None:
    rows = [(1353, 8.0, 107.5), (1045, 6.0, 89.5), (945, 4.0, 76.0), (1161, 4.1, 80.7)]
    plan, records = ran("checkpointing", *((m, s, {"forecast_samples_per_s": card}) for m, s, card in rows))
    assert closing(plan, records) == (
        "checkpointing: −30 % memory, +100 % time here, +41 % on the Tesla P4 by forecast; the lecture saw −49 %, +40 %"
    )
    assert closing(plan, [replace(record, device=CARD, forecast_samples_per_s=None) for record in records]) == (
        "checkpointing: −30 % memory, +100 % time here; the lecture saw −49 %, +40 %"
    )
    met = Conditions(neighbours=(Neighbour(pid=7),))
    shared = [replace(record, conditions=met if record.run_id == 3 else None) for record in records]
    assert "+100 % time here (run 3 was contended), +41 % on the Tesla P4" in (closing(plan, shared) or "")
    assert (closing(plan, [replace(r, device=CPU, forecast_samples_per_s=None) for r in records]) or "").startswith(
        "checkpointing: −30 % RAM, "
    )


def test_batch_size() -> None:
    rows = [(603, 10.0, 100.0), (607, 12.0, 190.0), (637, 14.0, 330.0), (751, 15.0, 530.0), (1021, 16.0, 700.0)]
    plan, records = ran("batch-size", *((m, s, {"forecast_samples_per_s": card}) for m, s, card in rows))
    out = done(plan.runs[5], 6, 1099, 0.0, outcome=Outcome.OUT_OF_MEMORY, samples_per_s=None)
    assert closing(plan, [*records, out]) == (
        "batch size 1 → 16: +60 % samples/s here, +600 % on the Tesla P4 by forecast, +69 % memory and 32 is out of "
        "memory; the lecture, 1 → 8, saw +64 %, +115 %, and 9 was out of memory"
    )


def test_accumulation() -> None:
    rows = [(773, 20.0, 400.0, 0.585), *[(801, 22.0, 420.0, 0.6)] * 4, (805, 25.0, 440.0, 0.701)]
    values: list[tuple[int, float, Values]] = [
        (m, s, {"forecast_samples_per_s": card, "train_loss": loss}) for m, s, card, loss in rows
    ]
    plan, records = ran("accumulation", *values)
    assert closing(plan, records) == (
        "accumulation 1 → 32: 32 → 1 updates, loss 0.585 → 0.701, +4 % memory, −20 % time here, −9 % on the Tesla "
        "P4 by forecast; the lecture, 1 → 128, saw loss 0.029 → 0.435, −6 % memory, −6 % time"
    )
    assert (closing(plan, records[:5]) or "").endswith(
        "; the lecture saw loss 0.029 → 0.447, +6 % memory, −6 % time"
    )  # two updates


def test_accuracy() -> None:
    accuracies = (0.601, 0.53, 0.4, 0.2, 0.2)
    updates = (750, 96, 48, 24, 3)
    rows: list[tuple[int, float, Values]] = [
        (569, 100.0, {"eval_accuracy": accuracy, "updates": n, "n_eval": 1000})
        for accuracy, n in zip(accuracies, updates, strict=True)
    ]
    plan, records = ran("accuracy", *rows)
    assert closing(plan, records) == (
        "accumulation 1 → 1024: 750 → 3 updates, accuracy 0.601 → 0.200, ±0 % time here; the lecture saw 0.621 → 0.222"
    )
    assert closing(plan, records[:2]) == (
        "accumulation 1 → 8: 750 → 96 updates, accuracy 0.601 → 0.530, ±0 % time here; the lecture saw 0.621 → 0.554"
    )


def test_precision_is_the_cards_by_forecast_and_says_why() -> None:
    plan, records = ran("precision", (7702, 0.2, {"forecast_samples_per_s": 34.0}))
    halved = tuple(
        replace(run, foretold=told(6486, 102.0, gpu="NVIDIA A100")) if run.skip else run for run in plan.runs
    )
    assert [run.skip for run in plan.runs] == [
        None,
        "a CPU has no tf32",
        *["a CPU is slower in 16 bits, not faster as the card"] * 2,
    ]
    assert closing(replace(plan, runs=halved), records) == (
        "bf16 for fp32: −16 % memory by forecast, −67 % time on the NVIDIA A100 by forecast (a CPU is slower in 16 "
        "bits, not faster as the card); the lecture names it, without numbers"
    )


def test_preloading() -> None:
    steady = {"steady_samples_per_s": 30.0, "steady_spread": 1.0, "planned_updates": 32}
    plan, records = ran("preloading", (773, 20.0, {}), (773, 25.0, {}), (773, 22.0, {}))
    assert closing(plan, records) == (
        "preloading: −20 % time here with 1 worker, the best of them, against none; the lecture names it, without "
        "numbers"
    )
    same = [replace(record, **steady) for record in records]  # type: ignore[arg-type]
    assert closing(plan, same) == (
        "preloading: time within noise here with 1 worker, the best of them, against none; the lecture names it, "
        "without numbers"
    )


def test_bert_large_dies_as_in_the_lecture_and_is_solved() -> None:
    plan, records = ran("bert-large", (7069, 0.1, {}), (6245, 0.1, {}), (5825, 0.1, {}), (6121, 0.1, {}))
    runs = tuple(replace(run, foretold=told(8263, 1.5, "optimizer")) if run.stack else run for run in plan.runs)
    assert closing(replace(plan, runs=runs), records) == (
        "batch 1 under the lecture's PyTorch 2.0: out of memory in optimizer by forecast (8,263 of 7,611 MiB), as the "
        "lecture's run was in the optimizer; today fused AdamW fits in 6,245 MiB and fused + checkpointing, batch 4 "
        "fits in 6,121 MiB"
    )


@pytest.mark.parametrize("name", list(NAMED))
def test_where_the_runs_that_it_needs_did_not_complete_it_says_so(name: str) -> None:
    assert closing(named_plan(name, RunConfig(), "small"), []) == (
        "No comparison: a run that it needs did not come to its end."
    )


def test_a_sweep_has_no_lecture() -> None:
    assert closing(sweep(RunConfig(), {"batch_size": ["1", "2"]}), []) is None


def test_what_the_history_holds_gives_the_sentence_to_every_export(tmp_path: Path) -> None:
    plan, records = ran("preloading", (773, 20.0, {}), (773, 25.0, {}), (773, 22.0, {}))
    with History(tmp_path / "history.sqlite3") as history:
        plan_id = history.plans.begin(plan)
        for item, record in enumerate(records):
            history.writer.begin_run(record.config, P4, 1.0)
            history.plans.record_step(plan_id, (item, 0), run_id=record.run_id)
            history.writer.finish_run(record)
        assert closings(history.plans.newest(), history.runs()) == ()  # it did not come to its end yet
        history.plans.finish(plan_id, COMPLETED)
        plans, runs = history.plans.newest(), history.runs()
    (sentence,) = closings(plans, runs)
    assert sentence == closing(plan, records)
    assert closings(plans, runs[1:]) == ()  # a part of it has no sentence
    writers: list[Callable[..., str]] = [to_markdown, to_latex]
    for write in writers:
        assert "preloading: " in write(runs, closings=[sentence])
        assert "preloading: " not in write(runs)


def test_several_gpus_tell_each_way_to_divide_the_work_and_the_largest_forecast() -> None:
    plan = named_plan("gpus", RunConfig(), "small")
    foretold = {4: told(1000, 1000.0), 8: told(900, 1800.0)}
    runs = tuple(
        replace(run, skip="fewer here", by_forecast=True, foretold=foretold[run.config.gpus])
        if (run.config.gpus or 0) > 2
        else run
        for run in plan.runs
    )
    plan = replace(plan, runs=runs)
    figures = ((1000, 10.0, 300.0), (1100, 12.0, 550.0), (1050, 11.0, 500.0), (900, 9.0, 450.0))
    records = [
        done(run, number, memory, speed, forecast_samples_per_s=card)
        for number, (run, (memory, speed, card)) in enumerate(zip(runs, figures, strict=False), 1)
    ]
    assert closing(plan, records) == (
        "1 → 2 GPUs (memory of each): ddp +10 % memory, +20 % samples/s here, +83 % on the Tesla P4 by forecast; "
        "zero1 +5 % memory, +10 % samples/s here, +67 % on the Tesla P4 by forecast; "
        "fsdp −10 % memory, −10 % samples/s here, +50 % on the Tesla P4 by forecast; "
        "8 × fsdp by forecast 900 MiB per GPU, 6.0 × the samples/s of one; the lecture names it, without numbers"
    )
    alone = closing(plan, records[:1])
    assert alone is not None
    assert alone.startswith(
        "1 → 4 GPUs (memory of each): ddp ±0 % memory by forecast, +233 % samples/s on the Tesla P4"
    )
