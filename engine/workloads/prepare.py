"""From a `RunConfig` to samples and a collator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.workloads.prepared import PreparedData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from engine.workloads.sources.hub_data import HubLike


def prepare(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    model_vocab_size: int | None = None,
    pad_token_id: int | None = None,
    hub: HubLike | None = None,
    report: Callable[[str], None] = lambda what: None,
    makes: bool = True,
) -> PreparedData:
    """Read or make the data of a run.

    `tokenizer` is the model's; without one, a vocabulary is trained where text is read. `model_vocab_size` is the
    number of rows of the model's embedding, None when unknown. `pad_token_id` is used where the tokenizer has none.
    `hub` says whether the Hugging Face hub can be asked for data sets; None: only files and its cache are looked at.
    `report` is told in a few words what takes time, the same words again and again while it lasts; it may raise to end
    the work.
    Raises `ConfigError` on data that cannot be trained on; without `makes`, `NotKeptError` where tokens would have to
    be made.
    """
    # datasets and transformers take seconds to import, and random tokens need neither
    if config.workload == "dummy":
        from engine.workloads.kinds.dummy import prepare_dummy

        return prepare_dummy(config, model_vocab_size=model_vocab_size, pad_token_id=pad_token_id, report=report)
    if config.workload == "instructions":
        from engine.workloads.kinds.instructions import prepare_instructions as prepare_words
    elif config.workload == "text" and config.task == "masked-lm":
        from engine.workloads.kinds.masked import prepare_masked as prepare_words
    elif config.workload == "text" and config.task == "seq2seq-lm":
        from engine.workloads.kinds.pairs import prepare_pairs as prepare_words
    elif config.workload == "text":
        from engine.workloads.kinds.text import prepare_text as prepare_words
    else:
        from engine.workloads.kinds.reviews import prepare_reviews as prepare_words
    return prepare_words(
        config,
        tokenizer=tokenizer,
        model_vocab_size=model_vocab_size,
        pad_token_id=pad_token_id,
        hub=hub,
        report=report,
        makes=makes,
    )
