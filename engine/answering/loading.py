"""The model that answers, on the host: found, read or made, and refused where it cannot write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.contract.config import ConfigError, RunConfig
from engine.contract.presets import model_name
from engine.training import models
from engine.training.hub import Hub

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What answers, before it is built."""

    source: models.ModelSource
    tokenizer: PreTrainedTokenizerBase | None

    @property
    def vocab_size(self) -> int:
        """Rows of its embedding."""
        return int(self.source.config.get_text_config().vocab_size)


def find(config: RunConfig, hub: Hub) -> Found:
    """What the model's name stands for. Raises `ConfigError` where it cannot answer."""
    source = models.resolve(config.model, hub)
    _refuse_masked(source, config)
    models.check_head(source.config, config)
    return Found(source=source, tokenizer=source.tokenizer)


def _refuse_masked(source: models.ModelSource, config: RunConfig) -> None:
    """A model that fills in masks sees what follows: it has not learned to go on with a text."""
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


def build(found: Found, config: RunConfig, n_labels: int = 0) -> PreTrainedModel:
    """The model on the host, ready to answer. Raises `ConfigError`."""
    shaped = models.shape(found.source, config, n_labels=n_labels, vocab_size=None)
    model = models.build(found.source, shaped, config)
    model.eval()
    model.requires_grad_(False)
    return model


def check_length(found: Found, config: RunConfig, prompt_tokens: int) -> None:
    """Raise `ConfigError` where prompt and answer are longer than the model's positions."""
    limit = models.max_positions(found.source.config)
    if limit is None:
        return
    new, name = config.max_new_tokens, model_name(config.model)
    apart = bool(found.source.config.is_encoder_decoder)  # prompt and answer are texts of their own
    if not apart and prompt_tokens + new > limit:
        room = limit - new
        fix = (
            f"--prompt-len {room} or less" if room > 0 else f"--max-new-tokens {max(1, limit - prompt_tokens)} or less"
        )
        raise ConfigError(
            "prompt_len" if room > 0 else "max_new_tokens",
            f"A prompt of {prompt_tokens:,} tokens and {new:,} new ones are more than the {limit:,} positions of "
            f"{name}: use {fix} or less.",
        )
    if apart and prompt_tokens > limit:
        raise ConfigError(
            "prompt_len",
            f"A prompt of {prompt_tokens:,} tokens is longer than the {limit:,} positions of {name}: use --prompt-len "
            f"{limit} or less.",
        )
    if apart and new + 1 > limit:
        raise ConfigError(
            "max_new_tokens",
            f"{new:,} new tokens are more than the {limit:,} positions of {name}: use --max-new-tokens {limit - 1} or "
            "less.",
        )


def eos_of(found: Found, model: PreTrainedModel) -> frozenset[int]:
    """The tokens that end an answer, as the model's generation settings, its config or its tokenizer say."""
    for said in (
        getattr(model.generation_config, "eos_token_id", None),
        found.source.config.get_text_config().eos_token_id,
        getattr(found.tokenizer, "eos_token_id", None),
    ):
        if said is not None:
            return frozenset(said) if isinstance(said, (list, tuple)) else frozenset((int(said),))
    return frozenset()
