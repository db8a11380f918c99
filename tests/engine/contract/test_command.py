"""Placeholders of the user's own command: read, filled, refused."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pytest

from engine.contract import command as commands
from engine.contract.command import Command
from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.knob import SCRIPT
from engine.contract.script_combinations import script_values


def read_command(words: Sequence[str]) -> Command:
    return commands.read_command(shlex.join(words), KNOBS)


def test_a_command_without_placeholders_stays_as_it_is() -> None:
    words = ["python", "train.py", "--json", '{"a": {"b": 1}}', "x={}"]
    command = read_command(words)
    assert command.filled({}) == words
    assert command.knobs == ()


def test_values_stand_where_their_placeholders_are() -> None:
    command = read_command(
        [
            "python",
            "train.py",
            "--batch_size={batch-size}",
            "{batch_size}x",
            "--dtype={precision:bf16=bfloat16,fp32=float32}",
        ]
    )
    assert command.knobs == ("batch_size", "precision")
    assert command.filled({"batch_size": 16, "precision": "bf16"})[2:] == ["--batch_size=16", "16x", "--dtype=bfloat16"]


def test_a_knob_of_the_scripts_own_has_its_values_and_begins_with_the_first() -> None:
    command = read_command(["train", "--block_size={block_size=256,512,1024}"])
    assert command.own["block_size"] == ("256", "512", "1024")
    assert command.knobs == ()
    assert command.filled({}) == ["train", "--block_size=256"]
    assert command.filled({"block_size": "1024"}) == ["train", "--block_size=1024"]


def test_switches_are_written_as_words() -> None:
    command = read_command(["train", "--compile={torch_compile:on=True,off=False}", "{{torch_compile}}"])
    assert command.filled({"torch_compile": True}) == ["train", "--compile=True", "{torch_compile}"]


def test_a_word_of_placeholders_alone_is_left_out_where_it_is_empty() -> None:
    command = read_command(["train", "{precision:bf16=--amp,*=}", "{size=,--large}", "--name={size}", ""])
    assert command.own == {"size": ("", "--large")}
    assert command.filled({"precision": "fp32"}) == ["train", "--name=", ""]
    assert command.filled({"precision": "bf16", "size": "--large"}) == [
        "train",
        "--amp",
        "--large",
        "--name=--large",
        "",
    ]


def test_any_other_value_has_a_word_and_may_stand_in_it() -> None:
    command = read_command(["--save={save_steps:0=no,*=steps}", "{save_steps:0=,*=--every=*}"])
    assert command.filled({"save_steps": 0}) == ["--save=no"]
    assert command.filled({"save_steps": 50}) == ["--save=steps", "--every=50"]


def test_each_place_has_words_of_its_own_and_one_without_takes_the_first() -> None:
    command = read_command(
        ["--bf16={precision:bf16=True,*=False}", "--fp16={precision:fp16=True,*=False}", "{precision}"]
    )
    assert command.knobs == ("precision",)
    assert command.filled({"precision": "fp16"}) == ["--bf16=False", "--fp16=True", "False"]


def test_two_knobs_may_be_one_word() -> None:
    command = read_command(["--optim={optimizer+optimizer_implementation:adamw+fused=a_f,adamw+*=a,sgd+*=s}"])
    assert command.knobs == ("optimizer", "optimizer_implementation")
    assert command.filled({"optimizer": "adamw", "optimizer_implementation": "loop"}) == ["--optim=a"]
    assert command.filled({"optimizer": "sgd", "optimizer_implementation": "fused"}) == ["--optim=s"]
    with pytest.raises(ConfigError, match=r"no word for optimizer\+optimizer_implementation adafactor\+fused"):
        command.filled({"optimizer": "adafactor", "optimizer_implementation": "fused"})


def test_words_are_for_values_however_they_are_typed_and_updates_are_whole() -> None:
    command = read_command(["{learning_rate:1e-4=low,0.001=high}", "{warmup_steps}", "{weight_decay}"])
    assert command.filled({"learning_rate": 0.0001, "warmup_steps": 500.0, "weight_decay": 1.0}) == [
        "low",
        "500",
        "1.0",
    ]
    assert command.filled({"learning_rate": 1e-3, "warmup_steps": 0.1, "weight_decay": 0.0})[:2] == ["high", "0.1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "There is no command after --"),
        (["{batchsize}"], "did you mean {batch_size}?"),
        (["{zzz}"], "A knob of your own needs its values, {zzz=1,2,4}"),
        (["{batch_size=1,2}"], "batch_size is a knob and has its values"),
        (["{precision:bf16}"], "use {precision:VALUE=WORD,VALUE=WORD}"),
        (["{n=1,2}", "{n=1,3}"], "stands twice with different values"),
        (["{kv_cache}"], "is no knob"),
        (["{n=}"], "A knob of your own needs its values"),
        (
            ["{precision:half=--half}"],
            "{precision:half=…}: --precision 'half' is not known: use fp32, tf32, fp16 or bf16",
        ),
        (["{optimizer+precision}"], "use {optimizer+precision:VALUE+VALUE=WORD}"),
        (["{optimizer+precision:sgd=x}"], "use {optimizer+precision:VALUE+VALUE=WORD,VALUE+VALUE=WORD}"),
        (["--device={device}"], "as in {device:cpu=cpu,*=cuda}"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_way_out(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_command(words)
    assert says in refused.value.message
    assert refused.value.knob == "command"


def test_a_knob_that_is_not_set_has_no_value_to_pass() -> None:
    command = read_command(["--out={output_dir}", "{eval_steps:none=,*=--eval=*}"])
    with pytest.raises(ConfigError, match="--output-dir is not set, and the command has a place for it"):
        command.filled({"output_dir": None, "eval_steps": 10})
    assert command.filled({"output_dir": "x", "eval_steps": None}) == ["--out=x"]


def test_the_runs_number_keeps_what_runs_write_apart() -> None:
    config = RunConfig(job=SCRIPT, command="train --out=out/{run} --dir={output_dir}", output_dir="mine-{run}")
    assert config.script is not None
    assert config.script.knobs == ("output_dir",)
    assert config.script.filled(script_values(config, 7)) == ["train", "--out=out/7", "--dir=mine-7"]
    assert config.script.filled(script_values(config)) == ["train", "--out=out/{run}", "--dir=mine-{run}"]
    own = RunConfig(job=SCRIPT, command="train {run=a,b}", command_values="run=b")
    assert own.script is not None
    assert own.script.filled(script_values(own, 7)) == ["train", "b"]


def test_a_value_without_a_word_is_refused() -> None:
    command = read_command(["--dtype={precision:bf16=bfloat16}"])
    with pytest.raises(ConfigError, match="no word for precision fp16: use bf16, or add it"):
        command.filled({"precision": "fp16"})
