"""Placeholders of the user's own command: read, filled, refused."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pytest

from engine.contract import command as commands
from engine.contract.command import Command
from engine.contract.config import KNOBS, ConfigError


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
    ],
)
def test_what_cannot_be_read_is_refused_with_the_way_out(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_command(words)
    assert says in refused.value.message
    assert refused.value.knob == "command"


def test_a_value_without_a_word_is_refused() -> None:
    command = read_command(["--dtype={precision:bf16=bfloat16}"])
    with pytest.raises(ConfigError, match="no word for precision fp16: use bf16, or add it"):
        command.filled({"precision": "fp16"})
