"""The experiments with answers as data, and the way through the search for the longest prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.answers import AnswerFigures
from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.plans.course import NAMED, SCALES, Course, Verdict, from_json, named_plan, scale_for, to_json, until_oom
from engine.plans.lecture import rows_of
from engine.plans.types import PlannedRun

ANSWERING = [name for name, plan in NAMED.items() if plan.job == "answer"]
GPU = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=7611 * 2**20)
ASKED = defaults_of("answer").with_values(model="run:7")


def ended(config: RunConfig, fits: bool = True, n_requests: int = 1) -> RunRecord:
    outcome = Outcome.COMPLETED if fits else Outcome.OUT_OF_MEMORY
    figures = AnswerFigures(n_requests=n_requests)
    return RunRecord(run_id=1, config=config, outcome=outcome, device=GPU, answer=figures)


@pytest.mark.parametrize("name", ANSWERING)
@pytest.mark.parametrize("scale", list(SCALES))
@pytest.mark.parametrize(
    "base", [RunConfig(seed=7), defaults_of("answer").with_values(seed=7)], ids=["train", "answer"]
)
def test_every_experiment_with_answers_at_every_scale(name: str, scale: str, base: RunConfig) -> None:
    plan = named_plan(name, base, scale, memory_total=80 * 2**30)
    runnable = [run for run in plan.runs if not run.skip]
    assert runnable
    assert all((run.config.job, run.config.seed, run.config.device) == ("answer", 7, "auto") for run in runnable)
    assert len({run.label for run in runnable}) == len(runnable)
    large = {run.config.model for run in runnable} == {"llama-3.2-1b"}
    assert large is (scale != "small")
    assert runnable[0].config.model in plan.sizes
    assert from_json(to_json(plan)) == plan


def test_an_experiment_of_training_begins_anywhere() -> None:
    base = defaults_of("answer").with_values(device="virtual:tesla-t4", kv_cache="off", prompt_len=64)
    plan = named_plan("batch-size", base, "small")
    assert plan.runs == named_plan("batch-size", RunConfig(device="virtual:tesla-t4"), "small").runs


IDEAS = ("no KV cache", "KV cache", "static KV cache", "prefix cache", "response cache", "int8 weights")
TURNED = ("kv_cache", "speculate", "prefix_cache", "response_cache", "weights")


def turned(run: PlannedRun, reference: PlannedRun) -> set[str]:
    """The knobs in which two rows differ."""
    return {name for name in KNOBS if getattr(run.config, name) != getattr(reference.config, name)}


@pytest.mark.parametrize("base", [RunConfig(), ASKED], ids=["random weights", "trained"])
def test_each_idea_turns_one_thing_and_all_are_asked_the_same(base: RunConfig) -> None:
    rows = {run.label: run for run in named_plan("three-ideas", base, "small").runs}
    cache = rows["KV cache"].config
    assert [getattr(cache, name) for name in TURNED] == ["dynamic", "off", False, False, "fp32"]
    assert 0 < cache.prefix_len < (cache.prompt_len or 0)
    assert cache.repeats > 0
    for label in IDEAS:
        if label != "KV cache":
            assert len(turned(rows[label], rows["KV cache"])) == 1, label
            assert turned(rows[label], rows["KV cache"]) < set(TURNED)
    assert turned(rows["drawn"], rows["KV cache"]) == {"temperature"}
    assert turned(rows["drawn, lookup"], rows["drawn"]) == {"speculate"}
    assert turned(rows["lookup"], rows.get("repeating", rows["KV cache"])) == {"speculate"}
    assert "--draft-model" in (rows["draft model"].skip or "")


def test_a_draft_model_that_is_given_guesses_in_its_row_alone() -> None:
    base = defaults_of("answer").with_values(draft_model="distilgpt2")
    plan = named_plan("three-ideas", base, "small", given={"draft_model"})
    assert not any(run.skip for run in plan.runs)
    assert [run.label for run in plan.runs if run.config.speculate == "draft"] == ["draft model"]


def test_a_model_that_was_trained_here_is_asked_whatever_the_scale() -> None:
    for name in ANSWERING:
        for scale in SCALES:
            runs = [run for run in named_plan(name, ASKED, scale).runs if not run.skip]
            assert {(run.config.model, run.config.weights) for run in runs if run.label != "int8 weights"} == {
                ("run:7", "fp32")
            }
    other = defaults_of("answer").with_values(model="llama-3.2-3b")
    assert named_plan("three-ideas", other, "small").runs[0].config.model == "llama-mini"
    given = named_plan("three-ideas", other, "small", given={"model"})
    assert given.runs[0].config.model == "llama-3.2-3b"


def test_the_model_that_guesses_for_it_is_asked_too() -> None:
    plan = named_plan("three-ideas", ASKED.with_values(speculate="draft", draft_model="run:3"), "small")
    [draft] = [run for run in plan.runs if run.label == "draft model"]
    assert (draft.skip, draft.config.speculate, draft.config.draft_model) == (None, "draft", "run:3")


def test_guesses_are_for_text_where_the_model_knows_some() -> None:
    plan = named_plan("three-ideas", ASKED, "small")
    rows = {run.label: run.config for run in plan.runs}
    assert {rows[label].prompts for label in (*IDEAS, "drawn", "drawn, lookup")} == {"dummy"}
    text = rows["repeating"]
    assert (text.prompts, text.prompt_len, text.prefix_len, text.ignore_eos) == ("repeating", None, 0, False)
    assert rows["lookup"] == text.with_values(speculate="lookup")
    assert plan.sizes.startswith(
        f"small: run:7, 8 prompts of 1,024 random tokens, 64 new tokens; guesses: {text.requests} of text to repeat"
    )
    few = named_plan("three-ideas", ASKED.with_values(requests=3), "small", given={"model", "requests"})
    assert {run.config.requests for run in few.runs if not run.skip} == {3}


@pytest.mark.parametrize("prompts", ["dummy", "questions.jsonl"])
def test_prompts_that_are_given_are_asked_in_every_row(prompts: str) -> None:
    plan = named_plan("three-ideas", ASKED.with_values(prompts=prompts), "small", given={"model", "prompts"})
    assert {run.config.prompts for run in plan.runs if not run.skip} == {prompts}
    assert "repeating" not in {run.label for run in plan.runs}


def test_a_folder_with_trained_weights_is_asked_as_the_run_is_that_made_it(tmp_path: Path) -> None:
    base = defaults_of("answer").with_values(model=str(tmp_path))
    assert named_plan("three-ideas", base, "small").runs[0].config.model == "llama-mini"
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    plan = named_plan("three-ideas", base, "small", given={"model"})  # somebody else's
    assert "repeating" in {run.label for run in plan.runs}
    (tmp_path / "traintop.json").touch()
    of_folder, of_run = (named_plan("three-ideas", each, "small") for each in (base, ASKED))
    assert [run.label for run in of_folder.runs] == [run.label for run in of_run.runs]
    assert {run.config.model for run in of_folder.runs if not run.skip} == {str(tmp_path)}
    assert of_folder.sizes == of_run.sizes.replace("run:7", tmp_path.name)


@pytest.mark.parametrize("device", ["auto", "cpu", "virtual:tesla-p4"])
@pytest.mark.parametrize("name", ANSWERING)
def test_what_is_short_on_a_cpu_is_asked_of_a_small_model(name: str, device: str) -> None:
    base = defaults_of("answer").with_values(device=device)
    short, small = (named_plan(name, base, scale).runs[0].config for scale in ("short", "small"))
    assert short.model == small.model
    assert short.device == small.device
    assert short.max_new_tokens == 4


def test_a_model_without_words_is_asked_random_tokens() -> None:
    plan = named_plan("three-ideas", RunConfig(), "small")
    assert "repeating" not in {run.label for run in plan.runs}
    assert {run.config.prompts for run in plan.runs if not run.skip} == {"dummy"}


def test_a_flag_of_training_has_no_place_in_an_experiment_with_answers() -> None:
    with pytest.raises(ConfigError, match="--epochs is for --job train"):
        named_plan("three-ideas", RunConfig(epochs=3), "small", given={"epochs"})


def test_larger_batches_are_full() -> None:
    for scale in SCALES:
        for run in named_plan("throughput-latency", RunConfig(), scale).runs:
            assert (run.config.requests or 0) >= run.config.batch_size
    sizes = [run.config.batch_size for run in named_plan("throughput-latency", RunConfig(), "small").runs]
    assert sizes == [1, 2, 4, 8, 16, 32, 64]


def prompts(fits: int, positions: int) -> tuple[Course, list[str]]:
    """A walk on a card that holds prompts of `fits` tokens, with a model of so many positions."""
    course, labels = Course(named_plan("prompt-length", RunConfig(), "small")), []
    while (step := course.next()) is not None:
        labels.append(step.label)
        length = step.config.prompt_len or 0
        refused = Verdict(why="--prompt-len is longer than the positions.")
        course.tell(step, refused if length > positions else Verdict(record=ended(step.config, length <= fits)))
    return course, labels


def test_the_prompt_is_doubled_until_out_of_memory() -> None:
    course, labels = prompts(fits=9_000, positions=131_072)
    assert course.total is None
    assert [label.rpartition(" ")[2] for label in labels[:5]] == ["512", "1024", "2048", "4096", "8192"]
    assert all(label.startswith("prompt length ") for label in labels)
    assert course.findings == ["longest prompt that fits: 8192 tokens (9216 does not; 9 tries)."]


def test_the_models_positions_may_end_it_first() -> None:
    course, _ = prompts(fits=9_000, positions=1_000)
    assert course.findings == ["longest prompt that fits: 960 tokens; the model has no positions for 1024 (5 tries)."]
    course, _ = prompts(fits=9_000, positions=100)
    assert course.findings[0].endswith("the search ended (1 try): --prompt-len is longer than the positions.")


def test_on_a_cpu_some_lengths_are_run() -> None:
    plan = named_plan("prompt-length", RunConfig(device="cpu"), scale_for("cpu"))
    assert [run.config.prompt_len for run in plan.runs] == [256, 512, 1024, 2048, 4096]
    assert not any(run.search for run in plan.runs)


def test_the_rows_of_a_search_are_what_it_tried() -> None:
    plan = named_plan("prompt-length", RunConfig(), "small")
    runs = [ended(plan.runs[0].config.with_values(prompt_len=length)) for length in (1024, 512, 2048)]
    other = ended(replace(plan.runs[0].config, max_new_tokens=99))
    rows = rows_of(plan, [*runs, other])
    assert [run.config.prompt_len for run, _ in rows] == [512, 1024, 2048]
    assert [[r.config.prompt_len for r in own] for _, own in rows] == [[512], [1024], [2048]]
    assert len({run.label for run, _ in rows}) == 3


def test_the_largest_batch_of_answers() -> None:
    base = defaults_of("answer").with_values(device="cuda")
    course = Course(until_oom(base))
    while (step := course.next()) is not None:
        size = step.config.batch_size
        course.tell(step, Verdict(record=ended(step.config, size <= 3, n_requests=size)))
    assert course.findings == ["largest batch size that fits: 3 (4 does not; 4 tries)."]
    course = Course(until_oom(base))
    while (step := course.next()) is not None:
        course.tell(step, Verdict(record=ended(step.config, n_requests=2)))
    assert "the data has too few samples for 3" in course.findings[0]


def test_no_batch_is_looked_for_where_one_prompt_is_answered_at_a_time() -> None:
    base = defaults_of("answer").with_values(device="cuda", speculate="lookup")
    with pytest.raises(ConfigError, match="transformers speculates for one prompt at a time"):
        until_oom(base)
    plan = until_oom(base.with_values(speculate="off"), {"speculate": ["off", "lookup"]})
    assert [bool(run.skip) for run in plan.runs] == [False, True]


def test_a_search_of_an_earlier_version_is_one_for_the_batch_size() -> None:
    plan = until_oom(RunConfig(device="cuda"))
    text = to_json(plan)
    assert from_json(text.replace('"search": "batch_size"', '"search": true')) == plan
    with pytest.raises(ValueError, match="not a search"):
        from_json(text.replace('"search": "batch_size"', '"search": "epochs"'))
