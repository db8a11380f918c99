"""Sweeps, repeats and searches over a user's own script."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.contract.knob import SCRIPT
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_combinations import script_values
from engine.plans.course import Course, Verdict, from_json, repeat_plan, sweep, to_json, until_oom
from tests.engine.lecture_runs import CPU, run

LOOP = RunConfig(job=SCRIPT, command="python train.py --b={batch_size} --n={width=64,128} {precision:bf16=--amp,fp32=}")
TRAINER = RunConfig(job=SCRIPT, command="python run.py", command_flags="transformers")


def passed(config: RunConfig) -> str:
    assert config.script is not None
    return " ".join(config.script.filled(script_values(config))[2:])


def test_knobs_of_both_kinds_are_swept_over() -> None:
    plan = sweep(LOOP, {"batch_size": ["8", "16"], "width": ["64", "128", "64"]})
    assert plan.title == "Sweep over batch size × width"
    assert [(run.label, passed(run.config)) for run in plan.runs] == [
        ("batch size 8, width 64", "--b=8 --n=64"),
        ("batch size 8, width 128", "--b=8 --n=128"),
        ("batch size 16, width 64", "--b=16 --n=64"),
        ("batch size 16, width 128", "--b=16 --n=128"),
    ]
    assert from_json(to_json(plan)) == plan


def test_what_has_no_word_is_skipped_and_what_is_not_carried_refused() -> None:
    plan = sweep(LOOP, {"precision": ["bf16", "fp16"]})
    assert [run.skip and run.skip[:42] for run in plan.runs] == [None, "The command has no word for precision fp16"]
    with pytest.raises(ConfigError, match=r"put \{seed\} where its value belongs"):
        sweep(LOOP, {"seed": ["1", "2"]})


def test_transformers_flags_are_swept_over_without_a_placeholder() -> None:
    plan = sweep(TRAINER, {"precision": ["fp32", "bf16"]})
    assert [passed(run.config) for run in plan.runs] == [
        "--bf16=False --fp16=False --tf32=False",
        "--bf16=True --fp16=False",
    ]


def test_repeats_have_other_seeds_where_the_command_takes_one() -> None:
    assert [passed(run.config) for run in repeat_plan(sweep(TRAINER, {}, repeat=1), 2).runs] == ["", "--seed=43"]
    carried = replace(LOOP, command=f"{LOOP.command} --seed={{seed}}")
    assert [run.config.seed for run in sweep(carried, {}, repeat=3).runs] == [42, 43, 44]
    assert len({run.config for run in sweep(LOOP, {}, repeat=3).runs}) == 1


def ended(config: RunConfig, fits: bool) -> RunRecord:
    return replace(
        run(1, config), updates=10 if fits else 1, outcome=Outcome.COMPLETED if fits else Outcome.OUT_OF_MEMORY
    )


def test_the_largest_batch_of_a_script_is_found() -> None:
    course = Course(until_oom(LOOP.with_values(batch_size=1), {"width": ["64", "128"]}))
    tried = []
    while (step := course.next()) is not None:
        tried.append((passed(step.config), step.config.max_updates))
        limit = 6 if step.config.command_values is None else 3
        course.tell(step, Verdict(record=ended(step.config, step.config.batch_size <= limit)))
    assert tried[0] == ("--b=1 --n=64", 10)
    assert course.findings == [
        "width 64: largest batch size that fits: 6 (7 does not; 6 tries).",
        "width 128: largest batch size that fits: 3 (4 does not; 4 tries).",
    ]


def test_a_cpu_has_nothing_to_run_out_of_but_a_script_that_says_so_is_believed() -> None:
    with pytest.raises(ConfigError, match="use a CUDA GPU"):
        until_oom(LOOP.with_values(device="cpu"))
    course = Course(until_oom(LOOP))
    step = course.next()
    assert step is not None
    course.tell(step, Verdict(record=replace(ended(step.config, False), device=CPU)))
    step = course.next()
    assert step is not None
    assert step.tries == 4
    course.tell(step, Verdict(record=replace(ended(step.config, True), device=CPU)))
    assert course.next() is None
    assert "a CPU has no VRAM to run out of: use a CUDA GPU" in course.findings[0]
