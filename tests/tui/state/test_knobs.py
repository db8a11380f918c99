"""Turning, typing, refusing and undoing knobs."""

from __future__ import annotations

import pytest

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, RunConfig, Value
from engine.contract.knob import ANSWER, JOBS, TRAIN
from engine.contract.presets import PRESETS
from tui.state.knob_list import ORDER
from tui.state.knobs import KnobEditor, bounds, changed_knobs, said, shown, stepped, turned


@pytest.fixture
def editor() -> KnobEditor:
    return KnobEditor(RunConfig())


def undone(editor: KnobEditor) -> list[str]:
    """Undo; the names of the knobs that had been turned."""
    return [row.knob for row in editor.undo()]


def test_numbers_follow_their_steps_and_stop(editor: KnobEditor) -> None:
    assert editor.step("batch_size", 1)
    assert editor.config.batch_size == 16
    editor.set_value("batch_size", 12)
    editor.step("batch_size", 1)
    assert editor.config.batch_size == 16
    editor.set_value("batch_size", 12)
    editor.step("batch_size", -1)
    assert editor.config.batch_size == 8
    editor.set_value("batch_size", 1)
    assert not editor.step("batch_size", -1)
    assert editor.problem is not None
    assert "Enter" in editor.problem.message


def test_choices_go_round_both_ways(editor: KnobEditor) -> None:
    seen = []
    for _ in range(4):
        editor.step("precision", 1)
        seen.append(editor.config.precision)
    assert seen == ["tf32", "fp16", "bf16", "fp32"]
    editor.step("precision", -1)
    assert editor.config.precision == "bf16"


def test_models_go_round_the_presets_also_from_a_name_of_ones_own(editor: KnobEditor) -> None:
    editor.set_value("model", "someone/their-model")
    editor.step("model", 1)
    assert editor.config.model == next(iter(PRESETS))


def test_workers_go_round_with_their_one_key(editor: KnobEditor) -> None:
    editor.set_value("dataloader_num_workers", 8)
    assert editor.step("dataloader_num_workers", 1, wrap=True)
    assert editor.config.dataloader_num_workers == 0


def test_whoever_names_gpus_takes_them_all_and_one_undo_brings_both_back(editor: KnobEditor) -> None:
    assert editor.type("device", "cuda:0,2,3")
    assert editor.config.gpus == 3
    assert editor.set_value("device", "cuda:1")
    assert editor.config.gpus == 1
    assert undone(editor) == ["gpus", "device"]
    assert editor.config.gpus == 3
    assert editor.type("gpus", "2")  # two of the three
    assert editor.set_value("device", "cuda")
    assert editor.config.gpus == 2


def test_switches_turn(editor: KnobEditor) -> None:
    editor.step("dropout", 1)
    assert editor.config.dropout is False


@pytest.mark.parametrize(("job", "name"), [(job, name) for job in JOBS for name in ORDER[job]])
@pytest.mark.parametrize("direction", [1, -1])
def test_every_knob_turns_or_says_why_not(job: str, name: str, direction: int) -> None:
    editor = KnobEditor(defaults_of(job))
    before = editor.config
    if editor.step(name, direction):
        assert editor.config != before or len(KNOBS[name].choices) == 1
    else:
        assert editor.problem is not None
        assert editor.problem.message.endswith(".")
        assert editor.config == before


def test_what_is_typed_is_taken_or_refused(editor: KnobEditor) -> None:
    assert editor.type("batch_size", " 24 ")
    assert editor.config.batch_size == 24
    assert not editor.type("batch_size", "lots")
    assert editor.problem is not None
    assert editor.problem.knob == "batch_size"
    assert not editor.type("batch_size", "0")
    assert "out of bounds" in editor.problem.message
    assert editor.config.batch_size == 24


def test_an_optional_knob_is_unset_by_an_empty_line(editor: KnobEditor) -> None:
    editor.type("data", "/tmp/reviews.csv")
    assert editor.config.data == "/tmp/reviews.csv"
    assert editor.type("data", "")
    assert editor.config.data is None


def test_a_combination_that_makes_no_sense_names_its_knob(editor: KnobEditor) -> None:
    editor.set_value("task", "causal-lm")
    assert not editor.set_value("workload", "reviews")
    assert editor.problem is not None
    assert editor.config.workload == "dummy"


def test_undo_goes_back_one_by_one(editor: KnobEditor) -> None:
    editor.step("batch_size", 1)
    editor.step("precision", 1)
    assert undone(editor) == ["precision"]
    assert editor.config.precision == "fp32"
    assert undone(editor) == ["batch_size"]
    assert editor.config == RunConfig()
    assert undone(editor) == []


def test_setting_the_same_value_is_not_a_change(editor: KnobEditor) -> None:
    editor.set_value("batch_size", 8)
    assert undone(editor) == []


def test_a_good_turn_takes_the_refusal_away(editor: KnobEditor) -> None:
    editor.refuse("precision", "fp16 needs a GPU.")
    assert editor.selected == "precision"
    editor.step("precision", -1)
    assert editor.problem is None


def test_changed_knobs() -> None:
    assert changed_knobs(None, RunConfig()) == []
    assert changed_knobs(RunConfig(), RunConfig(batch_size=16, seed=1)) == ["batch_size", "seed"]


def test_every_turn_is_told_or_the_rest_counted() -> None:
    after = RunConfig(batch_size=16, seed=1, learning_rate=1e-4, vram_limit=4000)
    assert turned(RunConfig(), RunConfig()) == ""
    told = "batch size 8 → 16, seed 42 → 1, learning rate 5e-05 → 0.0001, VRAM limit – → 4000"
    assert turned(RunConfig(), after) == told
    assert turned(RunConfig(), after, 1) == "batch size 8 → 16, 3 more"


def test_what_a_person_chose_is_loaded_with_the_cursor_on_its_first_turn(editor: KnobEditor) -> None:
    editor.refuse("precision", "fp16 needs a GPU.")
    editor.load(RunConfig(optimizer="sgd", padding="max_length"))
    assert editor.problem is None
    assert editor.selected == "padding"
    assert undone(editor) == ["padding", "optimizer"]
    assert editor.config == RunConfig()


def test_seeds_count_and_stay_in_bounds() -> None:
    assert stepped(KNOBS["seed"], 42, 1) == 43
    assert stepped(KNOBS["seed"], 0, -1) is None


def test_values_as_the_screen_writes_them() -> None:
    assert shown(KNOBS["data"], None) == "–"
    assert shown(KNOBS["dropout"], False) == "off"
    assert shown(KNOBS["learning_rate"], 5e-5) == "5e-05"
    assert shown(KNOBS["samples"], 100_000) == "100,000"
    assert shown(KNOBS["model"], "google-bert/bert-base-uncased") == "bert-base"
    assert "\x1b" not in shown(KNOBS["model"], "evil\x1b[2J")


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_says_what_may_be_typed(name: str) -> None:
    assert bounds(KNOBS[name]) or KNOBS[name].kind is str
    assert KNOBS[name].none in bounds(KNOBS[name])


def test_each_job_has_its_knobs_back_when_one_turns_to_it_again(editor: KnobEditor) -> None:
    editor.type("batch_size", "24")
    editor.type("learning_rate", "1e-4")
    editor.type("device", "cpu")
    assert editor.step("job", 1)
    assert editor.config == defaults_of(ANSWER).with_values(device="cpu")
    assert editor.selected == "job"
    editor.type("speculate", "lookup")
    assert editor.type("device", "virtual:tesla-p4")
    assert editor.take_job(TRAIN)
    assert editor.config == RunConfig(batch_size=24, learning_rate=1e-4, device="virtual:tesla-p4")
    assert editor.take_job(ANSWER)
    assert editor.config.speculate == "lookup"
    assert "job" in undone(editor)
    assert editor.config.job == TRAIN


def test_a_language_model_goes_along_to_the_other_job(editor: KnobEditor) -> None:
    editor.replace(RunConfig(model="gpt2", task="causal-lm"))
    editor.take_job(ANSWER)
    assert (editor.config.model, editor.config.task) == ("gpt2", "causal-lm")


@pytest.mark.parametrize(
    ("turned_to", "words"),
    [({}, "256"), ({"prompts": "generated"}, "whole"), ({"prompt": "why"}, "whole"), ({"prompt_len": 64}, "64")],
)
def test_a_prompt_length_that_is_not_set_says_what_it_means(turned_to: dict[str, Value], words: str) -> None:
    assert said(defaults_of(ANSWER).with_values(**turned_to), "prompt_len") == words


@pytest.mark.parametrize(("direction", "tokens"), [(1, 512), (-1, 128)])
def test_a_prompt_length_is_turned_from_what_it_means(direction: int, tokens: int) -> None:
    editor = KnobEditor(defaults_of(ANSWER))
    assert editor.step("prompt_len", direction)
    assert editor.config.prompt_len == tokens
