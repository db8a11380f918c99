"""Knobs of a run that answers that cannot go together: refusals that name the fix. Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.answering_knobs import DEFAULT_PROMPT_LEN, AnsweringKnobs
from engine.contract.device_name import read_device
from engine.contract.knob import ConfigError

if TYPE_CHECKING:
    from engine.contract.config import RunConfig

WRITING_TASKS = ("causal-lm", "seq2seq-lm")
"""Of models that can be asked."""
ANSWERING_TASKS = (*WRITING_TASKS, "classification")


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


def check_device(config: RunConfig) -> None:
    """Of either job."""
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
    if {config.precision, config.weights} == {"fp16", "bf16"}:
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


def _check_caches(config: RunConfig) -> None:
    seq2seq, continuous = config.task == "seq2seq-lm", config.batching == "continuous"
    obstacles = (
        (
            config.kv_dtype == "int8" and config.kv_cache == "off",
            "kv_dtype",
            "--kv-dtype int8 rounds what is kept, and --kv-cache off keeps nothing: use --kv-cache dynamic, or "
            "--kv-dtype model",
        ),
        (
            config.kv_dtype == "int8" and config.kv_cache == "static",
            "kv_dtype",
            "--kv-dtype int8 grows with the text, and --kv-cache static does not: use --kv-cache dynamic, or "
            "--kv-dtype model",
        ),
        (
            config.kv_dtype == "int8" and seq2seq,
            "kv_dtype",
            "--kv-dtype int8 is for one text that goes on, and a seq2seq model also keeps what it reads: use "
            "--kv-dtype model",
        ),
        (
            config.prefix_cache and config.kv_cache == "off",
            "prefix_cache",
            "--prefix-cache keeps keys and values, and --kv-cache off keeps none: use --kv-cache dynamic, or "
            "--prefix-cache off",
        ),
        (
            config.prefix_cache and seq2seq,
            "prefix_cache",
            "--prefix-cache keeps what prompts begin with, and a seq2seq model reads a prompt as a whole, so that its "
            "beginning depends on its end: use --prefix-cache off",
        ),
        (
            config.response_cache and config.temperature > 0,
            "response_cache",
            "--response-cache gives the answer of before, and with --temperature each is to be another: use "
            "--temperature 0, or --response-cache off",
        ),
        (
            continuous and seq2seq,
            "batching",
            "transformers' continuous batching is for one text that goes on, not for seq2seq models: use --batching "
            "static",
        ),
        (
            continuous and config.kv_cache != "dynamic",
            "batching",
            "--batching continuous keeps keys and values in pages of its own: use --kv-cache dynamic, or --batching "
            "static",
        ),
        (
            continuous and config.kv_dtype != "model",
            "batching",
            "--batching continuous keeps keys and values in pages of its own, in the model's type: use --kv-dtype "
            "model, or --batching static",
        ),
        (
            continuous and (config.prefix_cache or config.response_cache),
            "batching",
            "--batching continuous takes prompts as places become free, and the prefix and the response cache fill "
            "whole batches: use --batching static, or no cache",
        ),
        (
            continuous and config.attention == "flash",
            "attention",
            "--batching continuous needs a mask, which --attention flash does not know: use --attention sdpa, or "
            "--batching static",
        ),
        (
            continuous and config.torch_compile,
            "torch_compile",
            "--torch-compile needs keys and values at a fixed place, and --batching continuous gives them pages: use "
            "--torch-compile off, or --batching static",
        ),
    )
    for applies, knob, sentence in obstacles:
        if applies:
            raise ConfigError(knob, f"{sentence}.")


def _check_prefix(config: RunConfig) -> None:
    length = config.prompt_len or DEFAULT_PROMPT_LEN
    if config.has_dummy_prompts and config.prefix_len >= length:
        raise ConfigError(
            "prefix_len",
            f"--prefix-len {config.prefix_len} leaves no token of its own to a prompt of {length}: use --prefix-len "
            f"{length - 1} or less, or --prompt-len {config.prefix_len + 1} or more.",
        )


_CHECKS = (
    _check_task,
    check_device,
    _check_precision,
    _check_classifier,
    _check_compile,
    _check_speculation,
    _check_caches,
    _check_prefix,
)
