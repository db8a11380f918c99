"""Where requests come from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.answering.loading import Found
from engine.answering.reading import read, reader
from engine.answering.repeats import repeated
from engine.answering.requests import Request
from engine.answering.sources import find_prompts
from engine.contract.answering_knobs import DEFAULT_PROMPT_LEN, DEFAULT_REQUESTS
from engine.contract.config import RunConfig
from engine.training.hub import Hub

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


def prepare_prompts(config: RunConfig, found: Found, hub: Hub, report: Callable[[str], None]) -> Prompts:
    """The run's requests. `report` is told what takes time. Raises `ConfigError` where there are none to be had."""
    if config.has_dummy_prompts:
        prompts = _dummy(config, found.vocab_size)
    else:
        how = reader(config, found)
        asked = find_prompts(config, found, hub, report)
        requests, notes = read(asked, how)
        prompts = Prompts(requests=requests, warmup=replace(requests[0], number=0), notes=(*asked.notes, *notes))
    return replace(prompts, requests=repeated(prompts.requests, config.repeats, config.seed))


def _dummy(config: RunConfig, vocab_size: int) -> Prompts:
    """Random tokens, the same for the same seed; the first `prefix_len` of each prompt are the same.

    A classifier's texts have lengths from an eighth of the prompt length to all of it, whatever pads them.
    """
    length, n = config.prompt_len or DEFAULT_PROMPT_LEN, config.requests or DEFAULT_REQUESTS
    low, high = min(_FIRST, vocab_size // 2), min(_LAST, vocab_size)
    source = random.Random(config.seed)
    prefix = [source.randrange(low, high) for _ in range(min(config.prefix_len, length - 1))]

    def draw(number: int) -> Request:
        tokens = source.randint(max(1, length // 8), length) if config.task == "classification" else length
        own = (source.randrange(low, high) for _ in range(max(1, tokens - len(prefix))))
        return Request(number=number, input_ids=(*prefix, *own))

    drawn = [draw(number) for number in (*range(1, n + 1), 0)]
    return Prompts(requests=drawn[:-1], warmup=drawn[-1])
