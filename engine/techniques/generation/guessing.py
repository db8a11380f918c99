"""Speculation: tokens that are guessed, and checked in one forward, by transformers' assisted generation.

How many tokens were guessed and accepted follows from what `generate` is listened to for anyway: the model reads the
guesses, and of what then comes all but one were guesses. Only when guessing begins and ends is private to transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from engine.contract.knob import ConfigError
from engine.techniques.generation.settings import is_seq2seq

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

    from engine.contract.config import RunConfig

LONGEST_MATCH = 2
"""Tokens at the end of a text that lookup looks for in it, else one fewer; transformers takes what followed them where
they stand first."""
MAKER, _GUESS = "_get_candidate_generator", "get_candidates"
"""Of a model: what makes the one who guesses for a `generate`; of that one: what guesses."""


class Listener(Protocol):
    """Who is told of guesses."""

    def guess(self, begins: bool) -> None:
        """Guessing begins, or ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """How `generate` is to guess."""

    settings: dict[str, Any] = field(default_factory=dict)
    """For `transformers.GenerationConfig`."""
    given: dict[str, Any] = field(default_factory=dict)
    """For `generate` itself."""


@contextmanager
def speculating(
    config: RunConfig, model: PreTrainedModel, draft: PreTrainedModel | None, listener: Listener
) -> Iterator[Speculation]:
    """Around a `generate` of `model`. `draft` is one that `prepare` was given."""
    if config.speculate == "off":
        yield Speculation()
        return
    with _listened(model, listener):
        if config.speculate == "lookup":
            settings = {"prompt_lookup_num_tokens": config.speculate_tokens, "max_matching_ngram_size": LONGEST_MATCH}
            yield Speculation(settings=settings)
        else:
            yield Speculation(given={"assistant_model": draft, **_mask(model)})


def _mask(model: PreTrainedModel) -> dict[str, Any]:
    """Without a mask over what is written, transformers has a seq2seq draft read it all again, on top of its cache."""
    if not is_seq2seq(model):
        return {}
    import torch

    return {"decoder_attention_mask": torch.ones((1, 1), dtype=torch.int64, device=model.device)}


def prepare(draft: PreTrainedModel, config: RunConfig, settings: GenerationConfig) -> None:
    """Have a draft model guess as many tokens each time as asked for: not fewer where it is unsure, nor ever more.

    `settings` become the model's own.
    """
    settings.num_assistant_tokens = config.speculate_tokens
    settings.num_assistant_tokens_schedule = "constant"
    settings.assistant_confidence_threshold = 0.0
    draft.generation_config = settings


def refuse_stateful(model: PreTrainedModel, knob: str, name: str) -> None:
    """Raise `ConfigError` where what a rejected guess left in a model's state cannot be taken back."""
    if getattr(model, "_is_stateful", False):
        fix = "use another one, or --speculate off" if knob == "draft_model" else "use --speculate off"
        raise ConfigError(
            knob,
            f"{name} ({model.config.model_type}) keeps one state for all that it has read, from which a rejected guess "
            f"cannot be taken back: {fix}.",
        )


def note(model: PreTrainedModel) -> str | None:
    """What is not known of the guesses for this model, in a sentence."""
    from transformers import generation

    if hasattr(model, MAKER) and hasattr(getattr(generation, "CandidateGenerator", None), _GUESS):
        return None
    return "This version of transformers does not show when it guesses: that time counts as sampling."


@contextmanager
def _listened(model: PreTrainedModel, listener: Listener) -> Iterator[None]:
    """Inside, `listener` is told when a `generate` of this model guesses. Other models are left alone."""
    maker = getattr(model, MAKER, None)
    if maker is None:
        yield
        return

    def make(*args: Any, **kwargs: Any) -> Any:
        guesser = maker(*args, **kwargs)
        if (guess := getattr(guesser, _GUESS, None)) is not None:
            vars(guesser)[_GUESS] = _timed(guess, listener)
        return guesser

    vars(model)[MAKER] = make
    try:
        yield
    finally:
        del vars(model)[MAKER]


def _timed(guess: Callable[..., Any], listener: Listener) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        listener.guess(True)
        try:
            return guess(*args, **kwargs)
        finally:
            listener.guess(False)

    return timed
