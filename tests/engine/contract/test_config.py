"""RunConfig: bounds, refusals, reading values, and what every knob says about itself."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.answering_knobs import AnsweringKnobs
from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, ConfigError, Knob, RunConfig, coerce
from engine.contract.knob import ANSWER, about_group

NUMBERS = [(job, knob) for knob in KNOBS.values() if knob.kind in (int, float) for job in knob.jobs]
"""With each job that they mean something for."""
CHOICES = [knob for knob in KNOBS.values() if knob.choices]


def _refusal(**values: Any) -> ConfigError:
    with pytest.raises(ConfigError) as refusal:
        RunConfig(**values)
    return refusal.value


def test_every_field_is_a_knob_in_the_same_order_and_those_of_answering_come_last() -> None:
    answering = [field.name for field in fields(AnsweringKnobs)]
    own = [field.name for field in fields(RunConfig) if field.name not in answering]
    assert list(KNOBS) == own + answering


@pytest.mark.parametrize("knob", KNOBS.values(), ids=lambda knob: knob.name)
def test_every_knob_explains_itself_in_one_line(knob: Knob) -> None:
    assert knob.flag == "--" + knob.name.replace("_", "-")
    assert knob.label
    assert "\n" not in knob.label
    assert 10 < len(knob.why) <= 120
    assert knob.why.endswith(".")
    assert knob.kind in (int, float, bool, str)
    assert all(knob.minimum <= step <= knob.maximum for step in knob.steps)  # type: ignore[operator]


@pytest.mark.parametrize("knob", [knob for knob in KNOBS.values() if ANSWER in knob.jobs], ids=lambda knob: knob.name)
def test_what_a_knob_does_to_answers_is_not_told_as_of_a_training(knob: Knob) -> None:
    said = f"{knob.why_in(ANSWER)} {about_group(knob.group, ANSWER)}".replace("the model's training", "")
    assert len(knob.why_in(ANSWER)) <= 120
    for word in ("gradient", "update", "backward", "training", "trained", "learns", "dropout", "samples"):
        assert word not in said


NEEDS: dict[str, dict[str, Any]] = {
    "early_stopping_patience": {"workload": "reviews"},
    "target_len": {"task": "seq2seq-lm"},
    "momentum": {"optimizer": "sgd"},
    "prefix_len": {"prompts": "asked.jsonl"},
    "top_k": {"temperature": 1.0},
    "top_p": {"temperature": 1.0},
    "speculate_tokens": {"speculate": "lookup"},
}
"""What a knob means nothing without, and so is refused without."""


@pytest.mark.parametrize(("job", "knob"), NUMBERS, ids=lambda part: getattr(part, "name", part))
def test_numbers_have_bounds_that_hold_at_both_ends(job: str, knob: Knob) -> None:
    assert knob.minimum is not None
    assert knob.maximum is not None
    base = {name: value for name, value in defaults_of(job).to_dict().items() if value is not None}
    for bound in (knob.minimum, knob.maximum):
        value = knob.kind(bound)
        assert getattr(RunConfig(**{**base, knob.name: value, **NEEDS.get(knob.name, {})}), knob.name) == value
    for outside in (knob.minimum - 1, knob.maximum * 2 + 1):
        error = _refusal(**{**base, knob.name: knob.kind(outside)})
        assert error.knob == knob.name
        assert knob.flag in error.message
        assert f"use {knob.minimum:,.10g} to {knob.maximum:,.10g}" in error.message


@pytest.mark.parametrize("knob", CHOICES, ids=lambda knob: knob.name)
def test_a_choice_that_does_not_exist_is_answered_with_those_that_do(knob: Knob) -> None:
    error = _refusal(**{knob.name: "nonsense"})
    assert error.knob == knob.name
    assert "'nonsense'" in error.message
    assert all(choice in error.message for choice in knob.choices)


@pytest.mark.parametrize("knob", KNOBS.values(), ids=lambda knob: knob.name)
def test_values_of_a_wrong_type_are_refused_by_name(knob: Knob) -> None:
    wrong: list[Any] = [[], {}, b"8", object(), True if knob.kind is not bool else 1]
    if not knob.optional:
        wrong.append(None)
    for value in wrong:
        error = _refusal(**{knob.name: value})
        assert error.knob == knob.name
        assert knob.flag in error.message


def test_numbers_that_are_not_numbers_are_refused() -> None:
    for value in (math.nan, math.inf, -math.inf):
        assert _refusal(learning_rate=value).knob == "learning_rate"
    assert _refusal(batch_size=8.0).knob == "batch_size"


@pytest.mark.parametrize("text", ["", "   ", "\t\n"])
def test_an_empty_name_is_refused(text: str) -> None:
    assert _refusal(model=text).knob == "model"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:17", "virtual:tesla-p4"])
def test_devices_that_can_be_asked_for(device: str) -> None:
    assert RunConfig(device=device).device == device


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:x", "cuda:-1", "cpu:0", "auto:0", "CUDA", "tpu:0", "virtual", "virtual:", "virtual:abacus"]
)
def test_devices_that_do_not_exist(device: str) -> None:
    error = _refusal(device=device)
    assert error.knob == "device"
    assert f"--device {device!r} is not known" in error.message


def test_combinations_that_cannot_run_are_refused_with_the_way_out() -> None:
    assert "--device virtual:" in _refusal(device="cpu", vram_limit=4000).message
    assert RunConfig(device="virtual:tesla-p4", vram_limit=4000).vram_limit == 4000
    error = _refusal(optimizer_in_backward=True, gradient_accumulation_steps=2, max_grad_norm=0.0)
    assert error.knob == "optimizer_in_backward"
    assert "--gradient-accumulation-steps 1" in error.message


@pytest.mark.parametrize(
    ("device", "way_out"),
    [
        ("virtual:tesla-p4x2", "(2 GPUs): use --gpus 2, or --device virtual:tesla-p4."),
        ("cuda:0,3", "(2 GPUs): use --gpus 2, or --device cuda."),
        ("cuda:1", "(one GPU): use --gpus 1, or --device cuda."),
        ("free:2", "(2 GPUs): use --gpus 2, or --device free."),
    ],
)
def test_more_gpus_than_a_device_names_are_refused_with_one_that_has_them(device: str, way_out: str) -> None:
    error = _refusal(gpus=4, device=device)
    assert error.message == f"--gpus 4 is more than --device {device} names {way_out}"
    assert RunConfig(gpus=4, device=way_out.rpartition(" ")[2][:-1]).gpus == 4


def test_reviews_can_only_be_classified() -> None:
    error = _refusal(workload="reviews", task="causal-lm")
    assert error.knob == "task"
    assert "--task classification" in error.message


def test_a_configuration_is_frozen_and_a_change_makes_another() -> None:
    config = RunConfig()
    with pytest.raises(FrozenInstanceError):
        config.batch_size = 4  # type: ignore[misc]
    changed = config.with_values(batch_size=4, gradient_accumulation_steps=3)
    assert (config.batch_size, changed.batch_size, changed.effective_batch_size) == (8, 4, 12)
    with pytest.raises(ConfigError):
        config.with_values(batch_size=0)


def test_plain_values_go_through_json_and_back() -> None:
    config = RunConfig(workload="reviews", data="a.csv", dropout=False, learning_rate=1e-3)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_names_are_refused_unless_another_version_wrote_them() -> None:
    values = {"batch_size": 4, "from_the_future": 1}
    with pytest.raises(ConfigError, match="from_the_future") as refusal:
        RunConfig.from_dict(values)
    assert refusal.value.knob == "from_the_future"
    assert RunConfig.from_dict(values, lenient=True) == RunConfig(batch_size=4)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", "16", 16),
        ("batch_size", " 16 ", 16),
        ("samples", "10_000", 10_000),
        ("learning_rate", "5e-5", 5e-5),
        ("learning_rate", 1, 1.0),
        ("dropout", "on", True),
        ("dropout", "OFF", False),
        ("dropout", "no", False),
        ("gradient_checkpointing", True, "on"),
        ("gradient_checkpointing", "true", "on"),
        ("gradient_checkpointing", False, "off"),
        ("gradient_checkpointing", "every-second", "every-second"),
        ("data", "none", None),
        ("data", "", None),
        ("data", "reviews.csv", "reviews.csv"),
        ("model", "none", "none"),
    ],
)
def test_what_people_and_files_write_is_read(name: str, text: object, value: object) -> None:
    read = coerce(KNOBS[name], text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text"), [("batch_size", "eight"), ("batch_size", "8.5"), ("learning_rate", "fast"), ("dropout", "maybe")]
)
def test_what_cannot_be_read_is_refused_with_what_was_written(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=repr(text)) as refusal:
        coerce(KNOBS[name], text)
    assert refusal.value.knob == name


@given(name=st.sampled_from(list(KNOBS)), text=st.text(max_size=20))
def test_no_text_makes_anything_but_a_configuration_or_a_refusal(name: str, text: str) -> None:
    refused = None
    try:
        config = RunConfig.from_dict({name: text})
    except ConfigError as error:
        refused = error
    if refused is not None:
        assert refused.knob in KNOBS
        assert refused.message
    else:
        assert RunConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("name", sorted({knob.name for _, knob in NUMBERS}))
def test_absurdly_large_numbers_are_refused_too(name: str) -> None:
    for text in ("9" * 400, "-" + "9" * 400, "9" * 5000):
        with pytest.raises(ConfigError):
            RunConfig.from_dict({name: text})


def test_a_target_length_belongs_to_what_has_a_target() -> None:
    error = _refusal(target_len=8, task="causal-lm")
    assert error.knob == "target_len"
    assert "use --seq-len alone, or --task seq2seq-lm" in error.message
    assert RunConfig(task="seq2seq-lm", seq_len=64).target_tokens == 64
    assert RunConfig(task="seq2seq-lm", seq_len=64, target_len=8).target_tokens == 8
    assert RunConfig(task="causal-lm").target_tokens == 0


def test_the_length_of_training_samples_is_none_of_answers() -> None:
    error = _refusal(job="answer", task="classification", seq_len=6)
    assert error.knob == "seq_len"
    assert "--seq-len is for --job train" in error.message
