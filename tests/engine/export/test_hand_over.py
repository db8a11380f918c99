"""A run as a command line: read back by the one who must understand it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.by_job import defaults_of
from engine.contract.command import as_text
from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.script_combinations import script_values
from engine.contract.script_flags import with_knobs
from engine.export.hand_over import command_line
from engine.knobs.scripts import run_of
from tui.command_line.flags import Parser, add_knobs, config_of


def obeyed(line: str) -> RunConfig:
    """The configuration that the command line makes of the words."""
    program, command, *words = shlex.split(line)
    assert program == "traintop"
    assert command in ("run", "answer")
    parser = Parser(prog=f"traintop {command}", description="")
    add_knobs(parser, ANSWER if command == "answer" else TRAIN)
    if command == "run":
        parser.take_command("")
    return config_of(parser.read(words))


def test_defaults_need_no_flag() -> None:
    assert command_line(RunConfig()) == "traintop run"


def test_an_answering_run_has_a_command_of_its_own() -> None:
    config = defaults_of(ANSWER)
    assert command_line(config) == "traintop answer"
    assert obeyed("traintop answer") == config
    turned = config.with_values(model="gpt2", kv_cache="off", batch_size=4)
    assert command_line(turned) == "traintop answer --model gpt2 --batch-size 4 --kv-cache off"


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("asked", [{"prompt": "Who are you?"}, {"prompts": "questions.jsonl"}, {}])
def test_where_answers_end_comes_back_also_where_it_goes_without_saying(asked: dict[str, Any], ends: bool) -> None:
    config = defaults_of(ANSWER).with_values(**asked, ignore_eos=not ends)
    assert obeyed(command_line(config)) == config
    assert ("--ignore-eos" in command_line(config)) is (ends != bool(asked))


WORDS = (
    "a b",
    "it's",
    "$HOME",
    "`x`",
    "ü→",
    '{"a": {"b": 1}}',
    "{{batch_size}}",
    "--b={batch_size}",
    "--x={precision:bf16=--amp --fast,*=}",
    "{width=64,128}",
    "*",
    "--",
    "",
)


def test_a_scripts_command_comes_back_word_by_word_with_what_was_turned() -> None:
    # bash reads the line in the next test; here, who knows no $'…'
    config = run_of(
        {"command": as_text(["python", "nowhere/train.py", *WORDS]), "batch_size": "16", "precision": "bf16"}
    )
    turned = with_knobs(config, {"width": "128", "device": "cuda:1", "max_updates": 20})
    for each in (config, turned):
        assert obeyed(command_line(each)) == each
    assert list(turned.script.words[2:]) == list(WORDS)
    filled = turned.script.filled(script_values(turned))
    assert filled[-6:] == ["--b=16", "--x=--amp --fast", "128", "*", "--", ""]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_reads_a_scripts_command_as_it_was_typed() -> None:
    typed = ["python", "nowhere/train.py", "new\nline", "\x1b[2J", *WORDS]
    line = command_line(run_of({"command": as_text(typed)}))
    assert line.isprintable()
    words = line.partition(" -- ")[2]
    said = subprocess.run(["bash", "-c", f"printf '%s\\0' {words}"], capture_output=True, check=True).stdout
    assert said.decode().split("\0")[:-1] == typed


def test_only_what_differs_is_said() -> None:
    config = RunConfig(batch_size=16, gradient_checkpointing="on", dropout=False, learning_rate=1e-3)
    wanted = "traintop run --batch-size 16 --gradient-checkpointing on --learning-rate 0.001 --dropout off"
    assert command_line(config) == wanted


@pytest.mark.parametrize("workload", ["dummy", "reviews"])
def test_a_file_does_not_change_the_workload(workload: str) -> None:
    config = RunConfig(data="reviews.csv", workload=workload)
    assert obeyed(command_line(config)) == config


@pytest.mark.parametrize("text", ["a b", "it's; rm -rf $HOME", "-starts-with-a-dash.csv", "ü$(x)`y`"])
def test_text_is_quoted(text: str) -> None:
    config = RunConfig(workload="reviews", data=text, text_column=text)
    assert obeyed(command_line(config)) == config


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("text", ["new\nline", "\x1b[2J\x03", "quote'\t\\", "caf\udce9", "‮abc"])
def test_what_a_terminal_obeys_is_escaped(text: str) -> None:
    line = command_line(RunConfig(model=text))
    assert line.isprintable()
    script = line.replace("traintop run --model", "printf %s", 1)
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert said == text.encode("utf-8", "surrogateescape")


def test_what_no_argument_can_hold_is_replaced() -> None:
    assert "\0" not in command_line(RunConfig(model="a\0b"))
    assert command_line(RunConfig(model="\ud800\x01")).isascii()


def a_value(name: str) -> st.SearchStrategy[Any]:
    knob = KNOBS[name]
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.steps:
        return st.sampled_from(knob.steps)
    return st.just(getattr(RunConfig(), name)) if knob.kind is not bool else st.booleans()


def values_of(job: str) -> st.SearchStrategy[dict[str, Any]]:
    own = {name: a_value(name) for name, knob in KNOBS.items() if job in knob.jobs}
    return st.fixed_dictionaries({**own, "job": st.just(job)})


@settings(max_examples=100)
@given(st.sampled_from((TRAIN, ANSWER)).flatmap(values_of))
def test_every_configuration_comes_back(values: dict[str, Any]) -> None:
    try:
        config = RunConfig(**values)
    except ConfigError:
        return
    assert obeyed(command_line(config)) == config


OTHER_VALUES: dict[str, Any] = {
    "model": "some-org/some-model",
    "workload": "reviews",
    "data": "other.csv",
    "text_column": "body",
    "label_column": "stars",
    "target_column": "answer",
    "vram_limit": 4096,
    "seed": 1,
    "device": "cuda:1",
    "max_grad_norm": 0.0,
    "lora_targets": "query",
    "output_dir": "elsewhere",
    "prompts": "questions.jsonl",
    "prompt": "Who are you?",
    "draft_model": "some-org/smaller",
    "command": "python other.py --n={n=1,2}",
    "command_values": "n=2",
}
SCRIPTED = RunConfig(job=SCRIPT, command="python train.py --n={n=1,2}")
NEEDS: dict[str, dict[str, Any]] = {
    "momentum": {"optimizer": "sgd"},
    "cross_entropy": {"workload": "text", "task": "causal-lm"},
    "target_len": {"workload": "text", "task": "seq2seq-lm"},
    "top_k": {"temperature": 1.0},
    "top_p": {"temperature": 1.0},
}
"""What a knob means nothing without, and so is refused without."""


@pytest.mark.parametrize("name", [name for name in KNOBS if name != "job"])
def test_no_knob_is_forgotten(name: str) -> None:
    """Turning any knob changes the command."""
    base = RunConfig(workload="reviews", data="reviews.csv", device="cuda", dataloader_num_workers=1, max_grad_norm=0.5)
    if name in ("optimizer_in_backward", "task"):
        base = replace(base, max_grad_norm=0.0, workload="dummy", data=None)
    if name == "workload":
        base = replace(base, workload="dummy")
    if KNOBS[name].jobs == (SCRIPT,):
        base = SCRIPTED
    elif TRAIN not in KNOBS[name].jobs:
        base = defaults_of(ANSWER)
    base = replace(base, **NEEDS.get(name, {}))
    knob, now = KNOBS[name], getattr(base, name)
    options = (OTHER_VALUES[name],) if name in OTHER_VALUES else (*knob.choices, *knob.steps, not now)
    other = base.with_values(**{name: next(option for option in options if option != now)})
    assert command_line(base) != command_line(other)
