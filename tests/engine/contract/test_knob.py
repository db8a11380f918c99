"""A knob's value as text: for people, and for the command line."""

from __future__ import annotations

import pytest

from engine.contract.config import KNOBS, RunConfig, Value, coerce
from engine.contract.knob import shown, typed


@pytest.mark.parametrize(
    ("name", "value", "people", "command_line"),
    [
        ("torch_compile", True, "on", "on"),
        ("torch_compile", False, "off", "off"),
        ("vram_limit", None, "–", "none"),
        ("learning_rate", 5e-5, "5e-05", "5e-05"),
        ("learning_rate", 0.1 + 0.2, "0.3", "0.30000000000000004"),
        ("max_grad_norm", 1.0, "1", "1.0"),
        ("samples", 9999, "9999", "9999"),
        ("samples", 65_536, "65,536", "65536"),
        ("seed", 12_345, "12345", "12345"),
        ("gradient_checkpointing", "every-second", "every-second", "every-second"),
        ("data", "a\n\x1b[2Jb.csv", "a \ufffd[2Jb.csv", "a\n\x1b[2Jb.csv"),
    ],
)
def test_a_value_for_people_and_for_the_command_line(name: str, value: Value, people: str, command_line: str) -> None:
    assert shown(KNOBS[name], value) == people
    assert typed(value) == command_line
    assert coerce(KNOBS[name], typed(value)) == value


def test_a_sentence_says_that_a_value_is_not_set() -> None:
    assert shown(KNOBS["vram_limit"], None, "not set") == "not set"


@pytest.mark.parametrize("name", KNOBS)
def test_every_default_is_read_back(name: str) -> None:
    value = getattr(RunConfig(), name)
    assert coerce(KNOBS[name], typed(value)) == value
