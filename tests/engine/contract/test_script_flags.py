"""Knobs as the flags of a user's own script: turned, read back, and what is told of them."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import Any, get_args, get_type_hints

import pytest

from engine.contract import script_entries
from engine.contract.config import KNOBS, ConfigError, RunConfig, Value
from engine.contract.knob import SCRIPT, TRAIN
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_combinations import script_values
from engine.contract.script_flags import (
    DEFAULTS,
    ENTRIES,
    all_turned,
    bare,
    is_turnable,
    numbered,
    taken_in,
    told,
    turned,
    with_knobs,
)
from engine.export.hand_over import command_line

OWN = RunConfig(job=SCRIPT, command="python train.py --b={batch_size} --n={width=64,128} {amp=,--amp}")
TRAINER = RunConfig(job=SCRIPT, command="python run.py --do_train", command_flags="transformers")


def filled(config: RunConfig) -> list[str]:
    assert config.script is not None
    return config.script.filled(script_values(config))


def test_the_table_has_the_names_and_the_words_of_training_arguments() -> None:
    """Of the transformers that is installed: every flag is a field, and takes every value that is passed."""
    training_args = pytest.importorskip("transformers.training_args")
    trainer_utils = pytest.importorskip("transformers.trainer_utils")
    arguments = training_args.TrainingArguments
    kinds = get_type_hints(arguments)
    words = {
        "optim": {each.value for each in training_args.OptimizerNames},
        "lr_scheduler_type": {each.value for each in trainer_utils.SchedulerType},
        "eval_strategy": {each.value for each in trainer_utils.IntervalStrategy},
        "save_strategy": {each.value for each in trainer_utils.SaveStrategy},
    }
    fields = {field.name: field for field in dataclasses.fields(arguments)}
    for entry in ENTRIES:
        for values in values_of(entry.knobs):
            try:
                passed = entry.flags(values)
            except ConfigError:  # there is no word for it
                continue
            for flag, text in passed.items():
                kind = kinds[flag]
                if flag in words:
                    assert text in words[flag]
                elif bool in (kind, *get_args(kind)):
                    assert text in ("True", "False")
                elif int in (kind, *get_args(kind)):
                    assert re.fullmatch("[0-9]+", text), flag
                elif float in (kind, *get_args(kind)):
                    float(text)
    for flag, text in DEFAULTS.items():
        default = fields[flag].default
        assert text in (str(default), getattr(default, "value", ""))


def values_of(names: tuple[str, ...]) -> list[dict[str, Value]]:
    """Every value of one knob beside the others' defaults, and some of the two that are one flag."""
    base = {name: KNOBS[name].default for name in names}
    made = []
    for name in names:
        knob = KNOBS[name]
        options: list[Any] = [*knob.choices, *knob.steps, knob.default]
        options += [True, False] if knob.kind is bool else [None] if knob.optional else []
        made += [{**base, name: option} for option in options]
    return made


@pytest.mark.parametrize("name", sorted({name for entry in ENTRIES for name in entry.knobs}))
def test_a_knob_that_is_turned_is_added_once_and_holds(name: str) -> None:
    knob = KNOBS[name]
    assert is_turnable(TRAINER, name)
    passed: list[list[str]] = []
    for option in [*knob.choices, *knob.steps[:3], "on", "off", "4", "5", "0.5", "elsewhere"]:
        try:
            config = turned(TRAINER, name, option)
        except ConfigError:
            continue
        again = turned(config, name, getattr(config, name))
        assert again == config
        assert told(config, name) == getattr(config, name)
        assert bare(config) == TRAINER.command
        words = filled(config)
        assert words[:3] == ["python", "run.py", "--do_train"]
        passed.append(words[3:])
        # what was passed is read back, were it typed
        text, values = taken_in(shlex.join(words), 2)
        if values:  # fp32 is not told from a precision that is not said
            assert values[name] == getattr(config, name)
            assert filled(config.with_values(command=text, **values)) == words
    assert len({tuple(words) for words in passed}) > 1


@pytest.mark.parametrize(
    ("typed", "values", "passed"),
    [
        ("--per_device_train_batch_size 32", {"batch_size": 32}, "--per_device_train_batch_size=32"),
        ("--per-device-train-batch-size=32 --x", {"batch_size": 32}, "--per_device_train_batch_size=32 --x"),
        ("--bf16 --tf32", {}, "--bf16 --tf32"),  # both: no knob says that
        ("--bf16 --x 1", {"precision": "bf16"}, "--bf16=True --fp16=False --x 1"),
        ("--tf32 yes", {"precision": "tf32"}, "--bf16=False --fp16=False --tf32=True"),
        ("--fp16 False", {}, "--fp16 False"),
        ("--no_dataloader_pin_memory", {"dataloader_pin_memory": False}, "--dataloader_pin_memory=False"),
        ("--num_train_epochs 3.0", {"epochs": 3}, "--num_train_epochs=3"),
        ("--num_train_epochs 0.5", {}, "--num_train_epochs 0.5"),
        ("--optim adamw_torch", {"optimizer": "adamw", "optimizer_implementation": "foreach"}, "--optim=adamw_torch"),
        ("--optim lion_32bit", {}, "--optim lion_32bit"),
        ("--save_strategy no", {"save_steps": 0}, "--save_strategy=no"),
        ("--save_steps 50", {"save_steps": 50}, "--save_strategy=steps --save_steps=50"),
        ("--save_strategy epoch --save_steps 50", {}, "--save_strategy epoch --save_steps 50"),
        ("--seed 1 --seed 2", {"seed": 2}, "--seed=2"),
        ("--warmup_steps 100", {"warmup_steps": 100.0}, "--warmup_steps=100"),
        ("--learning_rate", {}, "--learning_rate"),
        ("--seed={seed}", {}, "--seed=42"),
    ],
)
def test_flags_that_were_typed_are_read_and_pass_what_they_did(
    typed: str, values: dict[str, Value], passed: str
) -> None:
    text, found = taken_in(f"python run.py {typed}", 2)
    assert found == values
    config = RunConfig(job=SCRIPT, command=text, command_flags="transformers", **found)  # type: ignore[arg-type]
    assert filled(config)[2:] == passed.split()


def test_flags_of_a_launcher_are_not_the_scripts() -> None:
    text, found = taken_in("accelerate launch --gradient_accumulation_steps 4 run.py --seed 3", 5)
    assert found == {"seed": 3}
    assert "--gradient_accumulation_steps 4" in text


def test_a_value_that_no_flag_has_is_refused_and_what_is_not_carried_says_how() -> None:
    for config, name, value, says in (
        (TRAINER, "gradient_checkpointing", "selective", "no word for gradient_checkpointing selective: use on, off"),
        (TRAINER, "optimizer", "adam", r"no word for optimizer\+optimizer_implementation adam\+fused"),
        (TRAINER, "lora_rank", 8, "--lora-rank is not in the command: put {lora_rank} where its value belongs"),
        (OWN, "precision", "bf16", "--precision is not in the command: put {precision}"),
        (OWN, "gpus", 2, r"--nproc_per_node=\{gpus\} train.py, or leave --gpus out"),
        (OWN, "batch_size", "many", "--batch-size needs a whole number"),
        (OWN, "depth", "2", "depth is no knob, and the command has none of that name"),
        (RunConfig(job=SCRIPT), "batch_size", 2, "There is no command"),
    ):
        with pytest.raises(ConfigError, match=says):
            turned(config, name, value)


def test_two_scripts_are_told_apart_by_what_no_knob_fills() -> None:
    other = RunConfig(job=SCRIPT, command="python train.py --b={batch_size} {precision:bf16=--amp,*=}", batch_size=4)
    assert bare(OWN) == bare(other) == "python train.py"
    assert told(other, "batch_size") == 4
    assert told(OWN, "precision") is None
    assert told(other, "precision") == "fp32"
    assert (told(OWN, "width"), told(other, "width")) == ("64", None)
    assert told(RunConfig(), "width") is None
    assert RunConfig().job == TRAIN
    assert told(RunConfig(), "batch_size") == 8


def test_knobs_of_the_scripts_own_are_turned_and_go_back_to_their_first() -> None:
    config = all_turned(OWN, {"width": "128", "amp": "--amp", "batch_size": "16"})
    assert filled(config)[2:] == ["--b=16", "--n=128", "--amp"]
    assert config.command_values == "width=128 amp=--amp"
    assert turned(config, "width", None).command_values == "amp=--amp"
    assert turned(config, "width", "64") == turned(config, "width", None)
    assert filled(with_knobs(config, {"width": "a b", "amp": ""}))[2:] == ["--b=16", "--n=a b"]
    assert with_knobs(RunConfig(), {"batch_size": "4"}) == RunConfig(batch_size=4)


def test_a_run_is_shown_with_its_number_and_done_again_with_the_braces() -> None:
    command = "python train.py --output_dir={output_dir} --log={log=log.txt,run.txt}"
    config = RunConfig(job="script", command=command, output_dir="out/{run}", command_values="log=logs/{run}.txt")
    shown = numbered(config, 7)
    assert (shown.output_dir, shown.command_values) == ("out/7", "log=logs/7.txt")
    assert shown.command == config.command
    assert config.output_dir == "out/{run}"
    record = RunRecord(run_id=7, config=config, outcome=Outcome.COMPLETED)
    assert [entry.of(record) for entry in script_entries.knobs([record])[::2]] == ["logs/7.txt", "out/7"]
    assert "--output-dir 'out/{run}'" in command_line(config)


@pytest.mark.parametrize("typed", ["--activation_checkpointing", "--activation_checkpointing True"])
def test_the_newer_name_of_checkpointing_is_read_and_turned_where_it_was_typed(typed: str) -> None:
    text, values = taken_in(f"python run.py {typed} --gradient_checkpointing False", 2)
    assert values == {"gradient_checkpointing": "on"}  # as transformers has it, where both stand
    config = RunConfig(job=SCRIPT, command=text, command_flags="transformers", gradient_checkpointing="on")
    off = turned(config, "gradient_checkpointing", "off")
    assert filled(off)[2:] == ["--activation_checkpointing=False", "--gradient_checkpointing", "False"]
