"""Workloads: what is trained on, how it is batched, how it is scored.

`prepare` turns a `RunConfig` into samples and a collator. Only the engine thread imports this package, and
data-loader workers do to unpickle the collator: nothing heavier than torch is imported with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.config import RunConfig
from engine.workloads.collate import Collate, Samples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from engine.workloads.hub_data import HubLike


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """What the trainer needs to know about the data of a run."""

    train: Samples
    """The training samples, in the order in which the file was shuffled; the trainer orders each epoch."""
    evaluation: Samples | None
    """The held-out samples; None where nothing is held out."""
    collate: Collate
    """Samples to a batch of int64 tensors. Can be pickled, as data-loader workers need."""
    n_labels: int
    """Classes of a classification task; 2 where the task has none."""
    label_names: tuple[str, ...]
    """The classes' names by index, printable; empty for language models."""
    tokenizer: PreTrainedTokenizerBase | None
    vocab_size: int | None
    """Rows that the embedding must have, where a vocabulary was trained here; None leaves the model's alone."""
    pad_token_id: int
    notes: tuple[str, ...]
    """Sentences for the transcript: where the data came from, split sizes, majority class, vocabulary, truncation."""


def prepare(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    model_vocab_size: int | None = None,
    pad_token_id: int | None = None,
    hub: HubLike | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> PreparedData:
    """Read or make the data of a run.

    `tokenizer` is the model's; without one, a vocabulary is trained where text is read. `model_vocab_size` is the
    number of rows of the model's embedding, None when unknown. `pad_token_id` is used where the tokenizer has none.
    `hub` says whether the Hugging Face hub can be asked for data sets; None: only files and its cache are looked at.
    `report` is told in a few words what takes time.
    Raises `ConfigError` on data that cannot be trained on.
    """
    # datasets and transformers take seconds to import, and random tokens need neither
    if config.workload == "dummy":
        from engine.workloads.dummy import prepare_dummy

        return prepare_dummy(config, model_vocab_size=model_vocab_size, pad_token_id=pad_token_id, report=report)
    if config.workload == "text":
        from engine.workloads.text import prepare_text as prepare_words
    else:
        from engine.workloads.reviews import prepare_reviews as prepare_words
    return prepare_words(
        config,
        tokenizer=tokenizer,
        model_vocab_size=model_vocab_size,
        pad_token_id=pad_token_id,
        hub=hub,
        report=report,
    )
