"""Where requests come from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answering.requests import Request
from engine.contract.answering_knobs import DEFAULT_PROMPT_LEN, DEFAULT_REQUESTS, DUMMY_PROMPTS
from engine.contract.config import ConfigError, RunConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST, _LAST = 100, 30_000
"""Dummy tokens are of this range, as those that are trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What is asked."""

    requests: Sequence[Request]
    warmup: Request
    """Number 0."""
    notes: tuple[str, ...] = ()
    """Sentences that should be known about them."""


def prepare_prompts(config: RunConfig, tokenizer: PreTrainedTokenizerBase | None, vocab_size: int) -> Prompts:
    """The run's requests. Raises `ConfigError` where there are none to be had."""
    if config.prompt is None and config.prompts == DUMMY_PROMPTS:
        return _dummy(config, vocab_size)
    raise ConfigError("prompts", "--prompts other than dummy cannot be read yet: use --prompts dummy.")


def _dummy(config: RunConfig, vocab_size: int) -> Prompts:
    """Random tokens, the same for the same seed; the first `prefix_len` of each prompt are the same."""
    length, n = config.prompt_len or DEFAULT_PROMPT_LEN, config.requests or DEFAULT_REQUESTS
    low, high = min(_FIRST, vocab_size // 2), min(_LAST, vocab_size)
    source = random.Random(config.seed)
    prefix = [source.randrange(low, high) for _ in range(min(config.prefix_len, length - 1))]
    drawn = [
        Request(number=number, input_ids=(*prefix, *(source.randrange(low, high) for _ in range(length - len(prefix)))))
        for number in (*range(1, n + 1), 0)
    ]
    return Prompts(requests=drawn[:-1], warmup=drawn[-1])
