"""What another batch would need, beside what it does need: of real runs on a virtual GPU, and of forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from engine.contract.config import RunConfig, Value
from engine.contract.estimate import Measured, estimate, measured, of_run
from engine.contract.events import Event
from engine.contract.knob import SCRIPT
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.contract.script_figures import ScriptFigures
from engine.devices.open import open_device
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.gpus.units import MIB
from engine.training.hub import Hub
from engine.training.run import Run


def at(batch_size: int, allocated: int, **more: int | bool | None) -> Measured:
    """100 MiB of weights and states, and 20 of gradients."""
    values = {"fixed": 100 * MIB, "gradients": 20 * MIB, "accumulates": False, "reserved": allocated * MIB}
    return Measured(batch_size=batch_size, allocated=allocated * MIB, **{**values, "used": None, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "knobs"),
    [
        ("bert-tiny", {"task": "classification"}),
        pytest.param("bert-tiny", {"task": "classification", "gradient_checkpointing": "on"}, marks=pytest.mark.slow),
        pytest.param(
            "bert-tiny",
            {"task": "classification", "gradient_accumulation_steps": 2, "optimizer": "sgd"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "llama-micro", {"task": "causal-lm", "optimizer_implementation": "foreach"}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_real_run_at_twice_the_batch_needs_what_was_estimated(model: str, knobs: Mapping[str, Value]) -> None:
    config = RunConfig(model=model, seq_len=64, device="virtual:tesla-p4").with_values(**knobs)
    record, held = run(config.with_values(batch_size=8))
    truth = run(config.with_values(batch_size=16))[0].peak_used
    assert truth is not None
    made = estimate([of_events(record, held)], 16, record.memory_total)
    assert made.least <= truth <= made.most
    assert abs(made.need / truth - 1) < 0.08
    assert made.largest_batch is not None
    assert made.largest_batch > 16


def run(config: RunConfig) -> tuple[RunRecord, dict[str, int]]:
    """Three updates, and the most that each category had, as a script's process tells it."""
    torch.set_num_threads(1)
    config = config.with_values(samples=3 * config.effective_batch_size)
    told: list[Event] = []
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    hub = Hub(answers=False)
    done = Run(
        record=record, device=open_device(config), hub=hub, emit=told.append, should_stop=lambda: False
    ).execute()
    assert done.outcome is Outcome.COMPLETED
    held: dict[str, int] = {}
    for event in told:
        memory = getattr(event, "memory", None)
        for name, size in ((memory.by_category if memory else None) or {}).items():
            held[name] = max(held.get(name, 0), size)
    return done, held


def of_events(record: RunRecord, held: Mapping[str, int]) -> Measured:
    seen = ScriptFigures(
        batch_size=record.config.batch_size,
        gradient_accumulation_steps=record.config.gradient_accumulation_steps,
        held={name: held.get(name, 0) for name in ("weights", "gradients", "optimizer")},
    )
    made = measured(replace(record, script=seen))
    assert made is not None
    return made


@pytest.mark.slow
def test_the_bounds_hold_for_nine_in_ten_of_models_and_techniques() -> None:
    forecaster, gpu = Forecaster(Hub(answers=False)), find("a100-40gb")
    within = []
    for model, task, length in (
        ("bert-base-uncased", "classification", 128),
        ("gpt2", "causal-lm", 256),
        ("t5-small", "seq2seq-lm", 128),
    ):
        for knobs in (
            {},
            {"gradient_checkpointing": "on"},
            {"gradient_accumulation_steps": 4},
            {"precision": "bf16"},
            {"optimizer_implementation": "foreach"},
            {"optimizer": "adafactor"},
            {"lora_rank": 16},
        ):
            plain = RunConfig(model=model, task=task, seq_len=length, device="virtual:a100-40gb")
            config = plain.with_values(**knobs)
            one, truth = (forecaster.forecast(config.with_values(batch_size=n), gpu) for n in (8, 16))
            held = {name: max(p.by_category.get(name, 0) for p in one.timeline) for name in one.timeline[0].by_category}
            made = estimate(
                [
                    Measured(
                        batch_size=8,
                        fixed=held["weights"] + held["optimizer"],
                        gradients=held["gradients"],
                        accumulates=config.gradient_accumulation_steps > 1,
                        allocated=one.peak_allocated,
                        reserved=one.peak_reserved,
                        used=one.peak_used,
                    )
                ],
                16,
            )
            within.append(made.least <= truth.peak_used <= made.most)
    assert sum(within) >= 0.9 * len(within)


def test_two_batch_sizes_make_a_line() -> None:
    points = [at(4, 400), at(8, 600)]
    made = estimate(points, 16, 3000 * MIB)
    assert made.need == 1000 * MIB
    assert made.measured_at == (4, 8)
    assert made.least == round(920 * MIB)
    # 2.9 MiB a sample more than the last, and the margin of one doubling and a bit
    assert made.largest_batch is not None
    assert estimate(points, made.largest_batch).most <= 3000 * MIB < estimate(points, made.largest_batch + 1).most


def test_what_does_not_depend_on_the_batch_stays() -> None:
    outside = at(8, 300, reserved=330 * MIB, used=830 * MIB)
    made = estimate([outside], 16)
    assert made.need == pytest.approx(500 * MIB + 1.1 * (100 + 390) * MIB, rel=1e-6)  # between 380 and 400 MiB
    assert estimate([at(8, 300, accumulates=True)], 16).need == 480 * MIB  # gradients are there throughout
    step = estimate([at(8, 140)], 16)  # perhaps the optimizer's step, which no batch changes
    assert step.least < 140 * MIB


RECORD = RunRecord(
    run_id=3,
    config=RunConfig(job=SCRIPT, command="python train.py --bs={batch_size}", batch_size=8),
    outcome=Outcome.COMPLETED,
    device=DeviceInfo(name="Tesla P4", kind="cuda", memory_total=8000 * MIB),
    updates=2,
    peak_allocated=600 * MIB,
    peak_reserved=700 * MIB,
    peak_used=1200 * MIB,
    memory_total=8000 * MIB,
    script=ScriptFigures(batch_size=8, held={"weights": 50 * MIB, "optimizer": 100 * MIB, "gradients": 50 * MIB}),
)


def test_a_record_tells_what_twice_its_batch_would_need() -> None:
    made = of_run(RECORD)
    assert made is not None
    assert made.batch_size == 16
    assert made.sentence.startswith("batch 16 would need about 1696 MiB (1533 to 1863), ")
    assert made.sentence.endswith(f"an estimate from batch 8; up to batch {made.largest_batch} fits")
    assert made.to_json()["measured_at"] == [8]


def test_runs_that_differ_in_the_batch_alone_are_measured_too() -> None:
    other = replace(RECORD, run_id=2, config=RECORD.config.with_values(batch_size=4), peak_used=900 * MIB)
    made = of_run(RECORD, [RECORD, other])
    assert made is not None
    assert (made.measured_at, made.need) == ((4, 8), 1800 * MIB)
    assert of_run(RECORD, [other], batch_size=4) is None  # it ran: no estimate is wanted
    longer = replace(other, script=replace(other.script or ScriptFigures(), seq_len=512))
    alone = of_run(RECORD, [longer])
    assert alone is not None
    assert alone.measured_at == (8,)


@pytest.mark.parametrize(
    "changes",
    [
        {"updates": 1},
        {"outcome": Outcome.OUT_OF_MEMORY},
        {"peak_allocated": None},
        {"script": None},
        {"script": ScriptFigures(batch_size=8)},
    ],
)
def test_before_the_peak_and_without_figures_there_is_none(changes: dict[str, object]) -> None:
    assert of_run(replace(RECORD, **changes)) is None  # type: ignore[arg-type]
