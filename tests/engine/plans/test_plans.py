"""Plans as data: grids, repeats, the lecture's experiments, and the way through one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.forecast_types import Foretold
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.plans.course import (
    NAMED,
    SCALES,
    Course,
    Plan,
    PlannedRun,
    Verdict,
    from_json,
    grid,
    named_plan,
    repeat_plan,
    scale_for,
    sweep,
    to_json,
    until_oom,
)
from engine.plans.lecture import CONFIG, MEMORY_MIB, TABLES, beside, same_memory
from engine.plans.search import TRY_UPDATES

GPU = DeviceInfo(name="Tesla P4", kind="cuda", memory_total=7611 * 2**20)


def record(config: RunConfig, outcome: Outcome = Outcome.COMPLETED, **values: object) -> RunRecord:
    run = RunRecord(run_id=1, config=config, outcome=outcome, device=GPU, updates=TRY_UPDATES)
    return replace(run, **values)  # type: ignore[arg-type]


def walk(course: Course, fits: int) -> list[tuple[str, str | None]]:
    """Label and reason of every step, on a GPU that holds `fits` samples."""
    steps = []
    while (step := course.next()) is not None:
        assert course.next() is step
        steps.append((step.label, step.skip))
        outcome = Outcome.COMPLETED if step.config.batch_size <= fits else Outcome.OUT_OF_MEMORY
        ended = Verdict(why=step.skip, skipped=True) if step.skip else Verdict(record=record(step.config, outcome))
        course.tell(step, ended)
    return steps


def test_a_grid_is_every_combination_of_what_was_typed() -> None:
    runs = grid(RunConfig(), {"batch_size": ["1", "2", "2"], "gradient_checkpointing": ["off", "true"]})
    assert [run.label for run in runs] == [
        "batch size 1, checkpointing off",
        "batch size 1, checkpointing on",
        "batch size 2, checkpointing off",
        "batch size 2, checkpointing on",
    ]
    assert [(run.config.batch_size, run.config.gradient_checkpointing) for run in runs][-1] == (2, "on")


def test_an_impossible_combination_is_there_with_its_reason() -> None:
    base = RunConfig(max_grad_norm=0.0)
    runs = grid(base, {"optimizer_in_backward": ["off", "on"], "gradient_accumulation_steps": ["1", "4"]})
    skipped = [run for run in runs if run.skip]
    assert [run.label for run in skipped] == ["in backward on, accumulation 4"]
    assert "--gradient-accumulation-steps 1" in (skipped[0].skip or "")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch_size": ["1", "x"]}, "--batch-size needs a whole number, not 'x'"),
        ({"batch_size": ["1", "0"]}, "--batch-size 0 is out of bounds"),
        ({"precision": ["fp32", "fp8"]}, "--precision 'fp8' is not known"),
        ({"batch": ["1"]}, "'batch' is not a knob"),
        ({"batch_size": range(1, 201), "seq_len": range(2, 102)}, "20,000 runs"),
    ],
)
def test_what_no_run_can_have_is_refused_at_once(values: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("'", ".")):
        grid(RunConfig(), values)


def test_a_sweep_of_impossible_runs_is_refused() -> None:
    with pytest.raises(ConfigError, match="None of these combinations"):
        sweep(RunConfig(), {"optimizer_in_backward": ["on"]})


def test_repeats_come_in_rounds_with_the_next_seed() -> None:
    plan = sweep(RunConfig(seed=2**31 - 1), {"batch_size": ["1", "2"]}, repeat=2)
    assert [(run.config.batch_size, run.repeat, run.config.seed) for run in plan.runs] == [
        (1, 1, 2**31 - 1),
        (2, 1, 2**31 - 1),
        (1, 2, 0),
        (2, 2, 0),
    ]
    with pytest.raises(ConfigError, match="more than 10,000"):
        repeat_plan(plan, 6_000)


def test_a_plan_survives_the_history() -> None:
    told = Foretold(
        gpu="Tesla P4", limit=7, peak_used=8, fits=False, near_limit=True, failing_phase="forward", samples_per_s=None
    )
    large = named_plan("bert-large", RunConfig(), "small")
    forecast = replace(large, runs=tuple(replace(run, foretold=told) for run in large.runs))
    for plan in (sweep(RunConfig(), {"batch_size": ["1", "2"]}, repeat=2), until_oom(RunConfig()), forecast):
        assert from_json(to_json(plan)) == plan
    for other in ('"gpu": 4', '"card": "x"', '"gpu": null'):  # as another version may keep it
        assert from_json(to_json(forecast).replace('"gpu": "Tesla P4"', other)) == large


def test_a_plan_of_another_version_loses_only_what_cannot_be_run() -> None:
    text = to_json(sweep(RunConfig(), {"precision": ["fp32", "bf16"]}))
    plan = from_json(text.replace('"bf16"', '"fp4"').replace('"seed": 42', '"seed": 42, "unheard_of": 1'))
    assert plan.runs[0].skip is None
    assert "'fp4' is not known" in (plan.runs[1].skip or "")
    for broken in ("", "[]", "{}", '{"name": "x"}', '{"name": 1, "title": 2, "sizes": "", "runs": [3]}'):
        with pytest.raises(ValueError):  # noqa: PT011 (JSON's own, or ours)
            from_json(broken)


def test_a_course_runs_everything_whatever_fails() -> None:
    plan = sweep(RunConfig(), {"batch_size": ["1", "2", "4"]})
    course = Course(plan)
    outcomes = [Outcome.FAILED, Outcome.OUT_OF_MEMORY, Outcome.COMPLETED]
    for outcome in outcomes:
        step = course.next()
        assert step is not None
        course.tell(step, Verdict(record=record(step.config, outcome)))
    assert course.next() is None


def test_the_run_after_a_step_passes_over_what_cannot_be_run_and_is_unknown_in_a_search() -> None:
    values = {"optimizer_in_backward": ["off", "on"], "gradient_accumulation_steps": ["2", "1"]}
    plan = sweep(RunConfig(max_grad_norm=0.0), values)
    course, labels = Course(plan), []
    while (step := course.next()) is not None:
        following = course.upcoming(step)
        labels.append(following.label if following is not None else None)
        course.tell(step, Verdict(record=record(step.config, Outcome.COMPLETED)))
    off, last = "in backward off, accumulation 1", "in backward on, accumulation 1"
    assert labels == [off, last, last, None]  # the third, in backward with accumulation 2, is not run
    search = Course(until_oom(RunConfig(batch_size=2, device="cuda"), {"gradient_checkpointing": ["off", "on"]}))
    step = search.next()
    assert step is not None
    assert search.upcoming(step) is None


def test_a_search_for_every_combination() -> None:
    course = Course(until_oom(RunConfig(batch_size=2, device="cuda"), {"gradient_checkpointing": ["off", "on"]}))
    steps = walk(course, fits=3)
    assert steps[0] == ("checkpointing off, batch size 2", None)
    assert course.findings == [
        "checkpointing off: largest batch size that fits: 3 (4 does not; 3 tries).",
        "checkpointing on: largest batch size that fits: 3 (4 does not; 3 tries).",
    ]


def test_the_forecast_saves_hopeless_tries_and_says_so() -> None:
    asked: list[int] = []

    def hopeless(config: RunConfig) -> str | None:
        asked.append(config.batch_size)
        return "the forecast is 9000 of 7611 MiB" if config.batch_size >= 10 else None

    course = Course(until_oom(RunConfig(batch_size=1, device="cuda")), hopeless)
    steps = walk(course, fits=8)
    assert [label for label, skip in steps if skip is None] == [f"batch size {n}" for n in (1, 2, 4, 8, 9)]
    assert [skip for _, skip in steps if skip] == ["the forecast is 9000 of 7611 MiB"] * 3
    assert len(asked) == len(steps)
    assert "fits: 8 (9 does not" in course.findings[0]


def test_a_forecast_rules_out_no_text_that_may_be_shorter() -> None:
    for padding, tries in (("longest", 8), ("max_length", 4)):
        base = RunConfig(batch_size=1, device="cuda", workload="reviews", padding=padding)
        steps = walk(Course(until_oom(base), lambda config: "no" if config.batch_size > 8 else None), fits=8)
        assert sum(skip is None for _, skip in steps) == tries


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Verdict(why="--seq-len 512 is too long."), "--seq-len 512 is too long."),
        (Verdict(record=record(RunConfig(), Outcome.FAILED, message="It broke.")), "It broke."),
        (Verdict(record=record(RunConfig(), Outcome.STOPPED, message=None)), "stopped"),
        (Verdict(record=record(RunConfig(), device=DeviceInfo(name="x", kind="cpu"))), "no VRAM to run out of"),
        (Verdict(record=record(RunConfig(), updates=1)), "no batch size fits; the data has too few samples for 1"),
    ],
)
def test_a_try_that_tells_nothing_about_memory_ends_the_search(ended: Verdict, words: str) -> None:
    course = Course(until_oom(RunConfig(batch_size=1, device="cuda")))
    step = course.next()
    assert step is not None
    course.tell(step, ended)
    assert course.next() is None
    assert words in course.findings[0]


def test_a_cpu_has_no_largest_batch() -> None:
    with pytest.raises(ConfigError, match="virtual:tesla-p4"):
        until_oom(RunConfig(device="cpu"))
    with pytest.raises(ConfigError, match="chooses the batch size"):
        until_oom(RunConfig(), {"batch_size": ["1", "2"]})


AS_IN_2023 = ["as the lecture: PyTorch 2.0 AdamW", "the same + checkpointing"]


@pytest.mark.parametrize("name", [name for name, plan in NAMED.items() if plan.job == "train"])
@pytest.mark.parametrize("scale", list(SCALES))
def test_every_experiment_at_every_scale(name: str, scale: str) -> None:
    plan = named_plan(name, RunConfig(seed=7), scale, memory_total=80 * 2**30)
    runnable = [run for run in plan.runs if not run.skip]
    assert len(runnable) > 1
    assert [run.label for run in plan.runs if run.skip] == (AS_IN_2023 if name == "bert-large" else [])
    assert all(run.config.device == "auto" for run in runnable)
    assert len({run.label for run in runnable}) == len(runnable)
    assert all(run.config.seed == 7 for run in runnable)
    lecture = all(run.config.model.startswith("bert-") and run.config.model.endswith("-uncased") for run in runnable)
    assert lecture is (scale != "small" or name in ("bert-large", "precision"))
    assert runnable[0].config.model in plan.sizes


@pytest.mark.parametrize("name", list(TABLES))
def test_at_the_lectures_scale_every_row_of_its_table_is_run(name: str) -> None:
    plan = named_plan(name, RunConfig(), "lecture")
    pairs = beside(plan, [record(run.config) for run in plan.runs if not run.skip])
    assert all(pair.run is not None and len(pair.records) == (not pair.run.skip) for pair in pairs)
    assert [pair.lecture for pair in pairs if pair.lecture] == list(TABLES[name].rows)
    fixed = {"samples", "seq_len", "model", "epochs", "attention", "padding", "precision"}
    for run in plan.runs:
        assert {n: getattr(run.config, n) for n in fixed} == {n: getattr(TABLES[name].config, n) for n in fixed}
        assert same_memory(run.config, TABLES[name])


def test_what_is_given_expressly_wins_over_the_sizes_but_not_over_the_rows() -> None:
    base = RunConfig(model="bert-mini", batch_size=3, samples=10)
    plan = named_plan("batch-size", base, "small", given={"model", "batch_size"})
    assert {run.config.model for run in plan.runs} == {"bert-mini"}
    assert [run.config.batch_size for run in plan.runs] == [1, 2, 4, 8, 16, 32]
    assert {run.config.samples for run in plan.runs} != {10}
    assert not same_memory(plan.runs[0].config, TABLES["batch-size"])


def test_bert_large_is_held_to_the_lectures_card() -> None:
    def devices(**of: object) -> set[tuple[str, int | None]]:
        plan = named_plan("bert-large", RunConfig(device=str(of.pop("device", "auto"))), **of)  # type: ignore[arg-type]
        return {(run.config.device, run.config.vram_limit) for run in plan.runs if run.stack is None}

    assert devices(scale="lecture", memory_total=80 * 2**30) == {("auto", 7611)}
    assert devices(scale="lecture", memory_total=7611 * 2**20) == {("auto", None)}
    assert devices(scale="short", memory_total=80 * 2**30) == {("auto", 7611)}
    assert devices(scale="small", device="cpu") == {("virtual:tesla-p4", None)}
    assert devices(scale="small", device="virtual:tesla-t4", given={"device"}) == {("virtual:tesla-t4", None)}


def test_what_a_cpu_cannot_show_in_minutes_is_there_by_forecast() -> None:
    unrun = [run for run in named_plan("bert-large", RunConfig(), "small").runs if run.skip]
    assert [run.label for run in unrun] == [*AS_IN_2023, "8-bit AdamW + checkpointing"]
    assert all(run.by_forecast for run in unrun)
    emulated = [run for run in named_plan("precision", RunConfig(), "small").runs if run.skip]
    assert [run.config.precision for run in emulated] == ["tf32", "bf16", "fp16"]
    assert all(run.by_forecast and run.skip and "a CPU" in run.skip for run in emulated)
    on_cpu = [run for run in named_plan("precision", RunConfig(device="cpu"), "small").runs if run.skip]
    assert len(on_cpu) == 3
    assert all("leave --device cpu out" in (run.skip or "") and not run.by_forecast for run in on_cpu)
    assert not any(run.skip for run in named_plan("precision", RunConfig(), "lecture", memory_total=2**36).runs)


@pytest.mark.parametrize("memory_total", [None, 80 * 2**30])
def test_the_lectures_own_deaths_come_first_on_its_card_and_under_its_software(memory_total: int | None) -> None:
    for scale in SCALES:
        first, second, third, *_ = named_plan("bert-large", RunConfig(), scale, memory_total=memory_total).runs
        assert [first.config.gradient_checkpointing, second.config.gradient_checkpointing] == ["off", "on"]
        for run in (first, second):
            assert (run.stack, run.by_forecast, run.skip) == (
                "lecture-2023",
                True,
                "the software of 2023 does not run here",
            )
            assert (run.config.device, run.config.vram_limit) == ("virtual:tesla-p4", None)
        assert third.label == "today's foreach AdamW"
        assert (third.stack, third.skip) == (None, None)
        pairs = beside(named_plan("bert-large", RunConfig(), scale), [])
        assert [pair.run and pair.run.label for pair in pairs if pair.lecture] == AS_IN_2023


def test_no_two_small_accumulations_are_the_same_run() -> None:
    runs = named_plan("accumulation", RunConfig(), "small").runs
    windows = [
        -(-run.config.samples // run.config.batch_size // run.config.gradient_accumulation_steps) for run in runs
    ]
    assert windows == [32, 16, 8, 4, 2, 1]


def test_without_a_gpu_the_virtual_one_is_sized_to_what_a_plan_shows() -> None:
    def on(name: str, device: str = "auto", **of: object) -> set[tuple[str, int | None]]:
        plan = named_plan(name, RunConfig(device=device), "small", **of)  # type: ignore[arg-type]
        return {(run.config.device, run.config.vram_limit) for run in plan.runs}

    assert on("batch-size") == {("auto", 1100)}
    sizes = named_plan("batch-size", RunConfig(), "small").sizes
    assert "the card held to 1,100 MiB" in sizes
    assert "so that batch 16 of a small model fills it" in sizes
    assert on("precision") == {("virtual:a100-40gb", None)}
    assert "the lecture's P4 has neither tf32 nor bf16" in named_plan("precision", RunConfig(), "small").sizes
    for name in ("batch-size", "precision"):
        assert on(name, memory_total=80 * 2**30) == {("auto", None)}
        assert on(name, "cpu") == {("cpu", None)}
        assert on(name, "virtual:tesla-t4") == {("virtual:tesla-t4", None)}


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="use batch-size, accumulation"):
        named_plan("batchsize", RunConfig(), "small")
    with pytest.raises(ConfigError, match="use small, short, lecture"):
        named_plan("batch-size", RunConfig(), "huge")
    assert (scale_for("cuda"), scale_for("cpu"), scale_for("virtual")) == ("lecture", "small", "small")


def test_the_lectures_tables_hold_together() -> None:
    """Samples/s × seconds is the number of samples; the printed percentages are of 7,611 MiB."""
    for table in TABLES.values():
        n_samples = table.config.samples * table.config.epochs
        for row in table.rows:
            assert set(row.knobs) <= set(KNOBS)
            assert row.train_loss is None or 0 < row.train_loss < 1
            if row.time_s is not None and row.samples_per_s is not None:
                assert row.time_s * row.samples_per_s == pytest.approx(n_samples, rel=0.01)
    sizes = [row.memory_mib for row in TABLES["batch-size"].rows]
    assert [round(100 * size / MEMORY_MIB, 1) for size in sizes if size is not None] == [43.1, 44.6, 60.6, 92.9]


def test_runs_that_the_lecture_lacks_come_after_its_rows() -> None:
    plan = replace(sweep(CONFIG, {"batch_size": ["1", "16"]}), name="batch-size")
    runs = [record(run.config) for run in plan.runs]
    pairs = beside(plan, runs)
    assert [pair.knobs["batch_size"] for pair in pairs] == [1, 2, 4, 8, 9, 16]
    assert [len(pair.records) for pair in pairs] == [1, 0, 0, 0, 0, 1]
    assert beside(replace(plan, name="sweep"), runs) == []


def test_a_planned_run_may_be_known_impossible() -> None:
    plan = Plan(name="x", title="X", runs=(PlannedRun(config=RunConfig(), label="a", skip="It cannot."),))
    assert walk(Course(plan), fits=9) == [("a", "It cannot.")]


def test_the_plan_of_several_gpus_has_one_and_every_way_to_divide_the_work_over_more() -> None:
    plan = named_plan("gpus", RunConfig(), "small")
    assert [run.label for run in plan.runs] == [
        "1 GPU",
        *(f"{n} × {parallel}" for n in (2, 4, 8) for parallel in ("ddp", "zero1", "fsdp")),
    ]
    assert [run.config.gpus for run in plan.runs] == [1, *[2] * 3, *[4] * 3, *[8] * 3]
    assert len({run.config.batch_size for run in plan.runs}) == 1  # per GPU
    two = named_plan("gpus", RunConfig(device="virtual:tesla-t4×2", gpus=2), "small", given={"device", "gpus"})
    assert {run.config.device for run in two.runs} == {"virtual:tesla-t4"}
    assert not any(run.skip for run in two.runs)
    named = named_plan("gpus", RunConfig(device="cuda:0,1"), "lecture", given={"device"})
    assert [run.config.gpus for run in named.runs if run.is_possible] == [1, 2, 2, 2]
