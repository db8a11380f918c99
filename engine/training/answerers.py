"""Models that cannot answer what they are asked: refusals that a run and its forecast share."""

from __future__ import annotations

from engine.contract.config import ConfigError, RunConfig
from engine.contract.numbers import n_of
from engine.contract.presets import model_name
from engine.training import models


def refuse_masked(source: models.ModelSource, config: RunConfig) -> None:
    """Raise `ConfigError` for a model that fills in masks: it sees what follows, and has not learned to go on."""
    text = source.config.get_text_config()
    if config.task != "causal-lm" or getattr(text, "is_decoder", True):
        return
    there = models.tasks_of(source.config)
    if "masked-lm" not in there and "seq2seq-lm" not in there:
        return
    fix = "--task seq2seq-lm, or " if "seq2seq-lm" in there else ""
    does = "reads one text and writes another" if fix else "fills in masks and cannot go on with a text"
    raise ConfigError(
        "model",
        f"--model {model_name(config.model)} ({text.model_type}) {does}: use {fix}a model such as --model gpt2-tiny.",
    )


def check_length(source: models.ModelSource, config: RunConfig, prompt_tokens: int) -> None:
    """Raise `ConfigError` where prompt and answer are longer than the model's positions."""
    limit = models.max_positions(source.config)
    if limit is None:
        return
    classifies = config.task == "classification"
    new, name = 0 if classifies else config.max_new_tokens, model_name(config.model)
    if config.speculate == "lookup":  # what follows a match is read to its end, whatever room is left
        prompt_tokens += max(0, config.speculate_tokens - 2)
    apart = classifies or bool(source.config.is_encoder_decoder)  # prompt and answer are texts of their own
    if not apart and prompt_tokens + new > limit:
        room = limit - new
        fix = f"--prompt-len {room}" if room > 0 else f"--max-new-tokens {max(1, limit - prompt_tokens)}"
        raise ConfigError(
            "prompt_len" if room > 0 else "max_new_tokens",
            f"A prompt of {n_of(prompt_tokens, 'token')} and {new:,} new ones are more than the {limit:,} positions of "
            f"{name}: use {fix} or less.",
        )
    if apart and prompt_tokens > limit:
        raise ConfigError(
            "prompt_len",
            f"A prompt of {n_of(prompt_tokens, 'token')} is longer than the {limit:,} positions of {name}: use "
            f"--prompt-len {limit} or less.",
        )
    if apart and new and new + 1 > limit:
        raise ConfigError(
            "max_new_tokens",
            f"{new:,} new tokens are more than the {limit:,} positions of {name}: use --max-new-tokens {limit - 1} or "
            "less.",
        )
