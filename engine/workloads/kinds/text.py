"""A causal language model's data: text cut into blocks, or whole documents packed into rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from engine.contract.config import ConfigError, RunConfig
from engine.contract.numbers import n_of
from engine.workloads.collate import Samples, stack
from engine.workloads.prepared import PreparedData
from engine.workloads.sources.documents import TextSource, find_documents
from engine.workloads.sources.hub_data import HubLike
from engine.workloads.standalone.packing import assign, pack
from engine.workloads.tokens.byte_bpe import tokenise_documents, train_byte_bpe
from engine.workloads.tokens.token_cache import Tokenised, remembered, tokenizer_fingerprint
from engine.workloads.tokens.vocabulary import check_ids, pad_token_id_of, vocabulary_note

Report = Callable[[str], None]
Tokens1D = npt.NDArray[np.int32]


def prepare_text(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    hub: HubLike | None = None,
    report: Report = lambda what: None,
    makes: bool = True,
) -> PreparedData:
    """Rows of `seq_len` tokens to predict one by one; 10 % of the text are held out.

    `padding` packed keeps documents whole and apart; else they run on, parted by the end-of-text token, and are cut
    into full blocks. Raises `ConfigError` on text that is missing or too short; `NotKeptError` where the tokens are
    not in the cache and not `makes`.
    """
    source = find_documents(config, hub, report)
    packed = config.padding == "packed"
    settings = {
        "workload": "text",
        "source": [source.name, source.fingerprint],
        "columns": [config.text_column, config.label_column],
        "tokenizer": None if tokenizer is None else tokenizer_fingerprint(tokenizer),
        "model": [model_vocab_size, pad_token_id],
        "sizes": [config.seq_len, config.samples, config.eval_samples, config.seed],
        "packed": packed,
    }
    made = remembered(
        settings, lambda: _make(config, source, tokenizer, model_vocab_size, pad_token_id, report), makes=makes
    )
    chosen = tokenizer if tokenizer is not None else made.tokenizer
    assert chosen is not None
    return PreparedData(
        train=made.train,
        evaluation=made.evaluation,
        collate=stack,
        n_labels=2,
        label_names=(),
        tokenizer=chosen,
        vocab_size=len(chosen) if tokenizer is None else None,
        pad_token_id=pad_token_id_of(chosen, pad_token_id),
        notes=made.notes,
    )


def _make(
    config: RunConfig,
    source: TextSource,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    model_pad_id: int | None,
    report: Report,
) -> Tokenised:
    report(f"reading {source.name}")
    documents = source.open()
    trained = None
    if tokenizer is None:
        report("training a vocabulary")
        tokenizer = trained = train_byte_bpe(documents.train, model_vocab_size)
    end = end_of_text(tokenizer)
    report("tokenising the text")
    packed, pad_id = config.padding == "packed", pad_token_id_of(tokenizer, model_pad_id)
    parts, layouts = [], []
    for texts, wanted in ((documents.train, config.samples), (documents.held_out, config.eval_samples)):
        tokens = tokenise_documents(
            texts,
            tokenizer,
            end,
            at_most=None if wanted is None else wanted * config.seq_len,
            ask=lambda: report("tokenising the text"),
        )
        rows, layout = (_packed if packed else _blocks)(tokens, config.seq_len, wanted, pad_id)
        parts.append(rows)
        layouts.append(layout)
    _check(parts, config.seq_len, source.name, packed)
    check_ids([part.sequences["input_ids"] for part in parts], None if trained else model_vocab_size)
    return Tokenised(
        train=parts[0],
        evaluation=parts[1],
        label_names=(),
        tokenizer=trained,
        notes=(
            *documents.notes,
            f"Trains on {layouts[0]}; holds out {layouts[1]}; scored by the loss per token and perplexity = exp(loss).",
            vocabulary_note(tokenizer, "byte-level BPE" if trained else None),
        ),
    )


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token behind every document; None where the tokenizer has none for it."""
    known = (tokenizer.eos_token_id, tokenizer.sep_token_id)
    return next((int(token) for token in known if token is not None), None)


def _blocks(documents: Sequence[Tokens1D], width: int, wanted: int | None, pad_id: int) -> tuple[Samples, str]:
    """Full blocks of the documents run together; one short block where there is not a full one."""
    flat = np.concatenate(documents) if documents else np.zeros(0, dtype=np.int32)
    n = len(flat) // width if wanted is None else min(wanted, len(flat) // width)
    if n:
        flat = flat[: n * width]
        offsets = np.arange(n + 1, dtype=np.int64) * width
    else:
        offsets = np.array([0, len(flat)], dtype=np.int64)
    told = f"{n_of(n, 'block')} of {width:,} tokens" if n else f"one block of {len(flat):,} tokens"
    return Samples({"input_ids": flat, "labels": flat}, offsets), told


def _packed(documents: Sequence[Tokens1D], width: int, wanted: int | None, pad_id: int) -> tuple[Samples, str]:
    """Whole documents packed into rows; those longer than a row are cut into pieces of it."""
    pieces = list(chain.from_iterable((d[i : i + width] for i in range(0, len(d), width)) for d in documents))
    pieces = [piece for piece in pieces if len(piece) > 1]  # one token alone predicts nothing
    rows = assign([len(piece) for piece in pieces], width)[:wanted]
    sequences = {name: table.ravel() for name, table in pack(pieces, rows, width, pad_id).items()}
    samples = Samples(sequences, np.arange(len(rows) + 1, dtype=np.int64) * width)
    n_pieces = sum(map(len, rows))
    n_tokens = sum(len(pieces[i]) for row in rows for i in row)
    padding = 1 - n_tokens / max(1, len(rows) * width)
    return (
        samples,
        f"{n_of(n_pieces, 'document')} packed in {n_of(len(rows), 'row')} of {width:,} tokens, "
        f"{padding * 100:.1f} % padding",
    )


def _check(parts: Sequence[Samples], width: int, name: str, packed: bool) -> None:
    train, held_out = parts
    if not len(train) or (not packed and train.offsets[-1] < width):
        raise ConfigError(
            "seq_len",
            f"{name} has only {int(train.offsets[-1]):,} tokens to train on, less than one block of {width:,}: "
            "use a smaller --seq-len or more text.",
        )
    if not len(held_out) or held_out.offsets[-1] < 2:
        raise ConfigError("data", f"{name} is too short to hold a tenth of it out: give more text.")
