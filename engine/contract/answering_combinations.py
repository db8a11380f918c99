"""Knobs of a run that answers that cannot go together: refusals that name the fix. Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.device_name import read_device
from engine.contract.knob import ConfigError

if TYPE_CHECKING:
    from engine.contract.config import RunConfig

ANSWERING_TASKS = ("causal-lm", "seq2seq-lm", "classification")


def check_answering(config: RunConfig) -> None:
    """Raise `ConfigError` where values that are good alone cannot go together."""
    for check in _CHECKS:
        check(config)


def _check_task(config: RunConfig) -> None:
    if config.task not in ANSWERING_TASKS:
        *most, last = ANSWERING_TASKS
        raise ConfigError(
            "task", f"--task {config.task} writes nothing and gives no class: use --task {', '.join(most)} or {last}."
        )


def _check_device(config: RunConfig) -> None:
    if read_device(config.device).kind == "cpu" and config.vram_limit is not None:
        raise ConfigError(
            "vram_limit", "--vram-limit needs a GPU: use --device virtual:tesla-p4 (or another GPU) instead of cpu."
        )


def _check_precision(config: RunConfig) -> None:
    if config.precision in ("fp16", "bf16") and config.weights == "fp32":
        raise ConfigError(
            "precision",
            f"--precision {config.precision} would cast fp32 weights anew for every token: use --weights "
            f"{config.precision}, which are stored so.",
        )


def _check_speculation(config: RunConfig) -> None:
    if config.speculate == "off":
        return
    obstacles = (
        (
            config.batch_size > 1,
            "batch_size",
            "transformers speculates for one prompt at a time: use --batch-size 1",
        ),
        (
            config.kv_cache == "off",
            "kv_cache",
            "guesses are checked against keys and values that are kept: use --kv-cache dynamic",
        ),
        (
            config.kv_cache == "static",
            "kv_cache",
            "a static cache cannot give back what a rejected guess left in it: use --kv-cache dynamic",
        ),
        (
            config.batching == "continuous",
            "batching",
            "transformers' continuous batching does not speculate: use --batching static",
        ),
        (
            config.prefix_cache,
            "prefix_cache",
            "transformers checks the first guesses with the whole prompt, of which a prefix cache has a part already: "
            "use --prefix-cache off",
        ),
        (
            config.speculate == "draft" and config.draft_model is None,
            "draft_model",
            "--speculate draft needs a smaller model with the same tokens: use --draft-model, or --speculate lookup",
        ),
        (
            config.speculate == "lookup" and config.task == "seq2seq-lm",
            "speculate",
            "--speculate lookup guesses from the prompt what follows in the answer, which seq2seq models keep apart: "
            "use --speculate off",
        ),
    )
    for applies, knob, sentence in obstacles:
        if applies:
            raise ConfigError(knob, f"{sentence}, or --speculate off." if knob != "speculate" else f"{sentence}.")


_CHECKS = (_check_task, _check_device, _check_precision, _check_speculation)
