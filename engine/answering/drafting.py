"""The draft model: found, refused where it cannot guess for the one that answers, and built beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.answering import loading
from engine.contract.config import ConfigError, RunConfig
from engine.contract.own_models import of_draft_model
from engine.contract.presets import model_name
from engine.techniques.generation import guessing
from engine.techniques.generation.settings import own_settings
from engine.training import answerers
from engine.training.hub import Hub
from engine.training.own_models import Find

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def find(config: RunConfig, hub: Hub, answers: loading.Found, own_model: Find) -> loading.Found | None:
    """What the draft model's name stands for; None where none is asked. Raises `ConfigError` where it cannot guess."""
    if config.speculate != "draft":
        return None
    with of_draft_model():
        found = loading.find(_alone(config), hub, own_model)
    _refuse_other_tokens(config, found, answers)
    return found


def build(found: loading.Found, config: RunConfig) -> PreTrainedModel:
    """The draft model on the host, its weights stored as those of the one that answers. Raises `ConfigError`."""
    with of_draft_model():
        draft = loading.build(found, _alone(config))
    guessing.refuse_stateful(draft, "draft_model", model_name(found.source.name))
    guessing.prepare(draft, config, own_settings(draft))
    return draft


def check_length(found: loading.Found, config: RunConfig, prompt_tokens: int) -> None:
    """Raise `ConfigError` where prompt and answer are longer than the draft model's positions."""
    answerers.check_length(found.source, _alone(config), prompt_tokens)


def note(found: loading.Found | None, answers: loading.Found) -> str | None:
    """What should be known of its guesses, in a sentence."""
    if found is None or (found.source.has_weights and answers.source.has_weights):
        return None
    return "Speculation with random weights: how many guesses are accepted says nothing."


def _alone(config: RunConfig) -> RunConfig:
    """As if the draft model answered."""
    assert config.draft_model is not None
    return config.with_values(model=config.draft_model, speculate="off", draft_model=None)


def _refuse_other_tokens(config: RunConfig, found: loading.Found, answers: loading.Found) -> None:
    name, own = model_name(config.draft_model or ""), model_name(config.model)
    if found.vocab_size != answers.vocab_size:
        raise ConfigError(
            "draft_model",
            f"--draft-model {name} knows {found.vocab_size:,} tokens and {own} {answers.vocab_size:,}: guesses are "
            "checked token by token, use a draft model with the same ones, such as a smaller one of the same family.",
        )
    if found.tokenizer is None or answers.tokenizer is None:
        return
    ours, theirs = answers.tokenizer.get_vocab(), found.tokenizer.get_vocab()
    if ours != theirs:
        n = sum(1 for token, number in ours.items() if theirs.get(token) != number)
        raise ConfigError(
            "draft_model",
            f"--draft-model {name} has another tokenizer: {n:,} of the {len(ours):,} tokens of {own} have other "
            "numbers in it. Guesses are checked token by token: use a draft model with the same tokenizer.",
        )
