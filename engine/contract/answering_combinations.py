"""Knobs of a run that answers that cannot go together: refusals that name the fix. Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.answering_knobs import AnsweringKnobs
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

    if (
        config.precision in ("fp16", "bf16")
        and config.weights in ("fp16", "bf16")
        and config.weights != config.precision
    ):
        raise ConfigError(
            "precision",
            f"--precision {config.precision} would cast {config.weights} weights anew for every token: use --weights "
            f"{config.precision}, or --precision fp32, which leaves them as they are.",
        )


_WRITING = (
    "kv_cache",
    "kv_dtype",
    "prefix_cache",
    "response_cache",
    "speculate",
    "batching",
    "temperature",
    "top_k",
    "top_p",
)
"""Knobs of how tokens are written."""


def _check_classifier(config: RunConfig) -> None:
    if config.task != "classification":
        if config.padding != "longest":
            raise ConfigError(
                "padding",
                f"--padding {config.padding} is for texts that are scored; prompts answered together are padded to "
                "the longest: use --padding longest, or --task classification.",
            )
        return
    for name in _WRITING:
        knob = AnsweringKnobs.__dataclass_fields__[name]
        if getattr(config, name) != knob.default:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                name,
                f"{flag} is about writing, and a classifier writes nothing: leave it out, or use --task causal-lm.",
            )
    if config.padding == "packed":
        raise ConfigError(
            "padding",
            "--padding packed puts several texts in a row, and a classifier reads one token per row: use --padding "
            "bucketed.",
        )


def _check_compile(config: RunConfig) -> None:
    if not config.torch_compile or config.task == "classification":
        return
    if config.kv_cache != "static":
        raise ConfigError(
            "kv_cache",
            f"--torch-compile would compile anew as --kv-cache {config.kv_cache} grows: use --kv-cache static, or "
            "--torch-compile off.",
        )
    if config.is_quantised:
        raise ConfigError(
            "torch_compile",
            f"--torch-compile does not follow bitsandbytes' products with {config.weights} weights: use "
            "--torch-compile off, or --weights bf16.",
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


_CHECKS = (_check_task, _check_device, _check_precision, _check_classifier, _check_compile, _check_speculation)
