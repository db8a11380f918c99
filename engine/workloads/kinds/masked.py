"""A masked language model's data: texts in samples of their own or run together, whose words are hidden as they are
read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.collate import Collate, PaddingCollate, Samples, stack
from engine.workloads.kinds.text import Report
from engine.workloads.prepared import PreparedData
from engine.workloads.sources.documents import TextSource, find_documents
from engine.workloads.sources.hub_data import HubLike
from engine.workloads.standalone.first_texts import MAX_TRAINED_ON
from engine.workloads.standalone.masked_rows import masked_rows, special_tokens_around
from engine.workloads.standalone.masking import HIDDEN, NO_LABEL, REPLACED, SHARE, Masking
from engine.workloads.tokens.byte_bpe import tokenise_documents
from engine.workloads.tokens.token_cache import Tokenised, remembered, tokenizer_fingerprint
from engine.workloads.tokens.vocabulary import check_ids, pad_token_id_of, train_wordpiece, vocabulary_note

Tokens1D = npt.NDArray[np.int32]


def prepare_masked(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    hub: HubLike | None = None,
    report: Report = lambda what: None,
    makes: bool = True,
) -> PreparedData:
    """Samples of at most `seq_len` tokens with the tokenizer's special ones; 10 % of the text are held out.

    Each text is a sample, a long one several. `padding` packed runs them together in full rows, where they see each
    other, as RoBERTa and transformers' run_mlm do. Raises `ConfigError` on text that is missing or too short and on a
    tokenizer without a mask token; `NotKeptError` where the tokens are not in the cache and not `makes`.
    """
    if tokenizer is not None and tokenizer.mask_token_id is None:
        raise ConfigError(
            "task",
            f"--task masked-lm hides words behind a mask token, and the tokenizer of {config.model} has none: "
            "use --task causal-lm, or a model of BERT's kind.",
        )
    source = find_documents(config, hub, report)
    packed = config.padding == "packed"
    settings = {
        "workload": "text, masked",
        "source": [source.name, source.fingerprint],
        "columns": [config.text_column, config.label_column],
        "tokenizer": None if tokenizer is None else tokenizer_fingerprint(tokenizer),
        "model": [model_vocab_size, pad_token_id],
        "sizes": [config.seq_len, config.samples, config.eval_samples, config.seed],
        "packed": packed,
    }
    made = remembered(settings, lambda: _make(config, source, tokenizer, model_vocab_size, report), makes=makes)
    chosen = tokenizer if tokenizer is not None else made.tokenizer
    assert chosen is not None
    pad_id = pad_token_id_of(chosen, pad_token_id)
    masking = masking_of(chosen, config.seed, None if tokenizer is None else model_vocab_size)
    width = config.seq_len if config.padding == "max_length" else None
    collate: Collate = stack if packed else PaddingCollate(pad_id, width, {"labels": NO_LABEL})
    return PreparedData(
        train=Samples(made.train.sequences, made.train.offsets, masking=masking),
        evaluation=Samples(made.evaluation.sequences, made.evaluation.offsets, masking=masking),
        collate=collate,
        n_labels=2,
        label_names=(),
        tokenizer=chosen,
        vocab_size=len(chosen) if tokenizer is None else None,
        pad_token_id=pad_id,
        notes=made.notes,
    )


def masking_of(tokenizer: PreTrainedTokenizerBase, seed: int, model_vocab_size: int | None) -> Masking:
    """How words of this tokenizer, which has a mask token, are hidden."""
    assert tokenizer.mask_token_id is not None
    return Masking(
        seed=seed,
        mask_id=int(tokenizer.mask_token_id),
        n_words=min(len(tokenizer), model_vocab_size or len(tokenizer)),
        special=tuple(sorted(tokenizer.all_special_ids)),
    )


def _make(
    config: RunConfig,
    source: TextSource,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    report: Report,
) -> Tokenised:
    report(f"reading {source.name}")
    documents = source.open()
    trained = None
    if tokenizer is None:
        report("training a vocabulary")
        tokenizer = trained = train_wordpiece(documents.train[:MAX_TRAINED_ON], model_vocab_size)
    before, after = special_tokens_around(tokenizer)
    inner, packed = config.seq_len - len(before) - len(after), config.padding == "packed"
    if inner < 1:
        raise ConfigError(
            "seq_len", f"--seq-len {config.seq_len} has no room beside the special tokens: use a larger one."
        )
    parts = []
    for texts, wanted in ((documents.train, config.samples), (documents.held_out, config.eval_samples)):
        tokens = tokenise_documents(
            texts,
            tokenizer,
            None,
            at_most=None if wanted is None else wanted * config.seq_len,
            ask=lambda: report("tokenising the text"),
        )
        rows = masked_rows(tokens, before, after, config.seq_len, packed=packed)[:wanted]
        parts.append(_samples(rows))
    train, held_out = parts
    if not len(train) or not len(held_out):
        raise ConfigError("data", f"{source.name} is too short to hold a tenth of it out: give more text.")
    check_ids([part.sequences["input_ids"] for part in parts], None if trained else model_vocab_size)
    what = f"full rows of {config.seq_len:,} tokens, in which texts see each other" if packed else "each a text"
    hidden, replaced = (f"{share * 100:.0f} %" for share in (HIDDEN, REPLACED))
    told = f"{SHARE * 100:.0f} % of the words are to be told, {hidden} of those hidden and {replaced} replaced"
    return Tokenised(
        train=train,
        evaluation=held_out,
        label_names=(),
        tokenizer=trained,
        notes=(
            *documents.notes,
            f"Trains on {len(train):,} samples and holds out {len(held_out):,} ({what}); {told}, anew in each epoch; "
            "scored by the loss per word to be told.",
            vocabulary_note(tokenizer, "WordPiece" if trained else None),
        ),
    )


def _samples(rows: Sequence[Tokens1D]) -> Samples:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Samples({"input_ids": np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)}, offsets)
