"""Knobs that change nothing as others are, told in words."""

from __future__ import annotations

import pytest

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, RunConfig, Value
from engine.contract.idle import _ANSWERING, _RULES, _TRAINING, idle
from engine.contract.knob import ANSWER


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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ()),
        ({"prefix_len": 64, "prefix_cache": True, "response_cache": True, "repeats": 0.5}, ()),
        (
            {"prefix_cache": True, "response_cache": True},
            (
                "--prefix-cache changes nothing where no two prompts begin alike, as without --prefix-len.",
                "--response-cache changes nothing where nothing is asked again, as without --repeats.",
            ),
        ),
        ({"prompts": "asked.jsonl", "prefix_cache": True, "response_cache": True}, ()),
        (
            {"prompts": "asked.jsonl", "prefix_len": 64},
            ("--prefix-len changes nothing without --prompts dummy, as others begin as they do.",),
        ),
        (
            {"prompt": "Why?", "requests": 4, "repeats": 0.5},
            ("--requests and --repeats change nothing with --prompt, which is asked once.",),
        ),
        (
            {"speculate_tokens": 8, "draft_model": "gpt2-tiny"},
            (
                "--speculate-tokens changes nothing without --speculate.",
                "--draft-model changes nothing without --speculate draft.",
            ),
        ),
        ({"speculate": "draft", "speculate_tokens": 8, "draft_model": "gpt2-tiny"}, ()),
        (
            {"top_k": 5, "top_p": 0.9},
            ("--top-k and --top-p change nothing without --temperature, as the likeliest token wins.",),
        ),
        ({"temperature": 0.7, "top_k": 5}, ()),
        (
            {"held_out_tokens": 256},
            ("--held-out-tokens changes nothing where nothing is rounded, as without --weights or --kv-dtype int8.",),
        ),
        ({"held_out_tokens": 256, "kv_dtype": "int8"}, ()),
        ({"batching": "continuous"}, ("--batching changes nothing with --batch-size 1.",)),
        ({"batching": "continuous", "batch_size": 4}, ()),
    ],
)
def test_what_changes_nothing_of_answers_is_told(changes: dict[str, Value], told: tuple[str, ...]) -> None:
    assert idle(defaults_of(ANSWER).with_values(**changes)) == told


def test_every_rule_is_about_knobs_of_its_job() -> None:
    for job, rules in _RULES.items():
        assert all(job in KNOBS[name].jobs for _, names, _ in rules for name in names)


def test_the_flags_that_the_sentences_name_exist() -> None:
    flags = {knob.flag for knob in KNOBS.values()}
    words = {
        word.strip(",.") for _, _, why in (*_TRAINING, *_ANSWERING) for word in why.split() if word.startswith("--")
    }
    assert words <= flags
