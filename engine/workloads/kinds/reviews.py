"""Labelled text to classify: rows, vocabulary and tokens, made once and kept for the next run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from transformers import PreTrainedTokenizerBase

from engine.contract.config import RunConfig
from engine.workloads.collate import PaddingCollate, Samples
from engine.workloads.prepared import PreparedData
from engine.workloads.sources.columns import nul_notes
from engine.workloads.sources.hub_data import HubLike
from engine.workloads.sources.rows import choose_rows
from engine.workloads.sources.source import Source, find_source
from engine.workloads.standalone.first_texts import MAX_TRAINED_ON
from engine.workloads.tokens.token_cache import Tokenised, remembered, tokenizer_fingerprint
from engine.workloads.tokens.vocabulary import check_ids, pad_token_id_of, tokenise, train_wordpiece, vocabulary_note

Report = Callable[[str], None]


def prepare_reviews(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    hub: HubLike | None = None,
    report: Report = lambda what: None,
    makes: bool = True,
) -> PreparedData:
    """Rows of `config.data`, tokenised once with the model's tokenizer or one trained here.

    Raises `ConfigError` on data, a column or a vocabulary that cannot be trained on; `NotKeptError` where the tokens
    are not in the cache and not `makes`.
    """
    source = find_source(config, hub, report)
    settings = {
        "workload": "reviews",
        "source": [source.name, source.fingerprint],
        "columns": [config.text_column, config.label_column],
        "tokenizer": None if tokenizer is None else tokenizer_fingerprint(tokenizer),
        "model": [model_vocab_size, pad_token_id],
        "sizes": [config.seq_len, config.samples, config.eval_samples, config.seed],
    }
    made = remembered(
        settings, lambda: _make(config, source, tokenizer, model_vocab_size, pad_token_id, report), makes=makes
    )
    chosen = tokenizer if tokenizer is not None else made.tokenizer
    assert chosen is not None
    pad_id = pad_token_id_of(chosen, pad_token_id)
    width = config.seq_len if config.padding == "max_length" else None
    return PreparedData(
        train=made.train,
        evaluation=made.evaluation,
        collate=PaddingCollate(pad_id, width, {"token_type_ids": getattr(chosen, "pad_token_type_id", 0)}),
        n_labels=len(made.label_names),
        label_names=made.label_names,
        tokenizer=chosen,
        vocab_size=len(chosen) if tokenizer is None else None,
        pad_token_id=pad_id,
        notes=made.notes,
    )


def _make(
    config: RunConfig,
    source: Source,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    model_pad_id: int | None,
    report: Report,
) -> Tokenised:
    warnings: list[str] = []
    report(f"reading {source.name}")
    parts = choose_rows(source.open(warnings.append), source, config)
    trained = None
    if tokenizer is None:
        report("training a vocabulary")
        texts_to_learn = [text for text in parts.pool.texts(MAX_TRAINED_ON) if text]
        tokenizer = trained = train_wordpiece(texts_to_learn, model_vocab_size)
    pad_id = pad_token_id_of(tokenizer, model_pad_id)
    told = f"tokenising {len(parts.train) + len(parts.held_out):,} texts"
    report(told)
    texts = [rows.texts() for rows in (parts.train, parts.held_out)]
    tokens = [tokenise(part, tokenizer, config.seq_len, pad_id, lambda: report(told)) for part in texts]
    check_ids([part.sequences["input_ids"] for part in tokens], None if trained else model_vocab_size)
    train, held_out = (
        Samples(part.sequences, part.offsets, {"labels": rows.classes})
        for part, rows in zip(tokens, (parts.train, parts.held_out), strict=True)
    )
    return Tokenised(
        train=train,
        evaluation=held_out,
        label_names=parts.label_names,
        tokenizer=trained,
        notes=(
            *parts.notes,
            *source.notes,
            *_text_notes(texts[0], texts[1], sum(part.n_cut for part in tokens), config.seq_len),
            vocabulary_note(tokenizer, "WordPiece" if trained else None),
            *warnings,
        ),
    )


def _text_notes(train: list[str], held_out: list[str], n_cut: int, seq_len: int) -> list[str]:
    notes = nul_notes(chain(train, held_out))
    if n_cut:
        share = n_cut / (len(train) + len(held_out))
        part = f"{share * 100:.1f} %" if share >= 0.0005 else f"{n_cut:,}"
        notes.append(f"{part} of the texts are longer than {seq_len:,} tokens and were cut there.")
    seen = set(train)
    if repeated := sum(text in seen for text in held_out):
        share = repeated / len(held_out)
        notes.append(f"{share * 100:.1f} % of the held-out texts also occur in training, which flatters the accuracy.")
    return notes
