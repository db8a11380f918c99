"""Knobs that change nothing as others are, told in words."""

from __future__ import annotations

import pytest

from engine.contract.config import KNOBS, RunConfig, Value
from engine.contract.idle import _RULES, idle


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ()),
        (
            {"lora_targets": "q_proj", "lora_alpha": 16, "lora_dropout": 0.1},
            ("--lora-targets, --lora-alpha and --lora-dropout change nothing without --lora-rank.",),
        ),
        ({"lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.1}, ()),
        (
            {"lora_rank": 8, "lora_dropout": 0.1, "dropout": False},
            ("--lora-dropout changes nothing with --dropout off.",),
        ),
        (
            {"optimizer": "adafactor", "optimizer_implementation": "loop"},
            ("--optimizer-implementation changes nothing with an optimizer that has one of its own.",),
        ),
        ({"workload": "reviews", "eval_steps": 5, "early_stopping_patience": 2, "early_stopping_threshold": 0.1}, ()),
        (
            {"eval_steps": 5, "save_total_limit": 3},
            (
                "--save-total-limit changes nothing without --save-steps.",
                "--eval-steps changes nothing with --workload dummy, which reads nothing and holds nothing out.",
            ),
        ),
        ({"completion_only_loss": False}, ("--completion-only-loss changes nothing without --workload instructions.",)),
    ],
)
def test_what_changes_nothing_is_told(changes: dict[str, Value], told: tuple[str, ...]) -> None:
    assert idle(RunConfig(**changes)) == told  # type: ignore[arg-type]


def test_the_flags_that_the_sentences_name_exist() -> None:
    flags = {knob.flag for knob in KNOBS.values()}
    words = {word.strip(",.") for _, _, why in _RULES for word in why.split() if word.startswith("--")}
    assert words <= flags
    assert {name for _, names, _ in _RULES for name in names} <= set(KNOBS)
