"""A seq2seq model's data: texts to read, each with the text to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import datasets
from transformers import PreTrainedTokenizerBase

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.collate import PaddingCollate, Samples, Targets
from engine.workloads.files.plain_files import quoted
from engine.workloads.kinds.text import Report
from engine.workloads.prepared import PreparedData
from engine.workloads.sources.columns import is_missing, nul_notes
from engine.workloads.sources.hub_data import HubLike
from engine.workloads.sources.pair_columns import find_pair, flat
from engine.workloads.sources.source import Source, Tables, find_source
from engine.workloads.sources.split import Places, split_rows
from engine.workloads.standalone.packing import IGNORED
from engine.workloads.tokens.byte_bpe import train_ending_bpe
from engine.workloads.tokens.token_cache import Tokenised, remembered, tokenizer_fingerprint
from engine.workloads.tokens.vocabulary import Tokens, check_ids, pad_token_id_of, tokenise, vocabulary_note


def prepare_pairs(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    hub: HubLike | None = None,
    report: Report = lambda what: None,
    makes: bool = True,
) -> PreparedData:
    """Pairs of a source of at most `seq_len` tokens and a target of at most `target_len`; 10 % are held out.

    Labels are padded with -100; the decoder's inputs the model makes of them. Raises `ConfigError` on data, a column
    or a vocabulary that cannot be trained on; `NotKeptError` where the tokens are not in the cache and not `makes`.
    """
    source = find_source(config, hub, report)
    settings = {
        "workload": "text, pairs",
        "source": [source.name, source.fingerprint],
        "columns": [config.text_column, config.target_column],
        "tokenizer": None if tokenizer is None else tokenizer_fingerprint(tokenizer),
        "model": [model_vocab_size, pad_token_id],
        "sizes": [config.seq_len, config.target_tokens, config.samples, config.eval_samples, config.seed],
    }
    made = remembered(
        settings, lambda: _make(config, source, tokenizer, model_vocab_size, pad_token_id, report), makes=makes
    )
    chosen = tokenizer if tokenizer is not None else made.tokenizer
    assert chosen is not None
    pad_id = pad_token_id_of(chosen, pad_token_id)
    padded = config.padding == "max_length"
    return PreparedData(
        train=made.train,
        evaluation=made.evaluation,
        collate=PaddingCollate(
            pad_id,
            config.seq_len if padded else None,
            {"labels": IGNORED},
            own_width="labels",
            target_length=config.target_tokens if padded else None,
        ),
        n_labels=2,
        label_names=(),
        tokenizer=chosen,
        vocab_size=len(chosen) if tokenizer is None else None,
        pad_token_id=pad_id,
        notes=made.notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The pairs of a run in the order in which they are taken, and which columns they are from."""

    pool: list[tuple[str, str]]
    """All that could train."""
    held_out: list[tuple[str, str]]
    columns: tuple[str, str]
    notes: tuple[str, ...]


def choose_pairs(tables: Tables, source: Source, config: RunConfig) -> Pairs:
    """Source and target of each row that has both, those to train on and those held out. Raises `ConfigError`."""
    tables = Tables(train=flat(tables.train), evaluation=None if tables.evaluation is None else flat(tables.evaluation))
    columns = find_pair(tables.train, source.name, config.text_column, config.target_column)
    train, held_out, how = split_rows(tables, source, config)
    pool = _complete(tables.train, columns, train)
    scored = _complete(tables.evaluation or tables.train, columns, held_out)
    if not pool or not scored:
        where = f"Columns {quoted(columns[0])} and {quoted(columns[1])} of {source.name}"
        raise ConfigError("data", f"{where} have too few rows with both texts: name others, or fill them in.")
    notes = [
        f"Data: {source.name}, source in column {quoted(columns[0])}, target in column {quoted(columns[1])}; {how}.",
    ]
    if left_out := len(train) + len(held_out) - len(pool) - len(scored):
        notes.append(f"{left_out:,} of {len(train) + len(held_out):,} rows lack one of the two, and were left out.")
    notes += nul_notes(text for pair in pool for text in pair)
    return Pairs(pool=pool, held_out=scored[: config.eval_samples], columns=columns, notes=tuple(notes))


def _complete(table: datasets.Dataset, columns: tuple[str, str], places: Places) -> list[tuple[str, str]]:
    chosen = table.select_columns(list(columns)).select(places)[:]
    pairs = zip(chosen[columns[0]], chosen[columns[1]], strict=True)
    return [(text, target) for text, target in pairs if not is_missing(text) and not is_missing(target)]


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
    pairs = choose_pairs(source.open(warnings.append), source, config)
    trained = None
    if tokenizer is None:
        report("training a vocabulary")
        tokenizer = trained = train_ending_bpe([text for pair in pairs.pool for text in pair], model_vocab_size)
    pad_id = pad_token_id_of(tokenizer, model_pad_id)
    chosen = pairs.pool[: config.samples], pairs.held_out
    told = f"tokenising {sum(map(len, chosen)):,} pairs"
    report(told)
    both = [_tokens(part, tokenizer, config, pad_id, lambda: report(told)) for part in chosen]
    flats = [tokens.sequences["input_ids"] for part in both for tokens in part]
    check_ids(flats, None if trained else model_vocab_size)
    train, held_out = (
        Samples(
            {"input_ids": sources.sequences["input_ids"]},
            sources.offsets,
            targets=Targets(labels=targets.sequences["input_ids"], offsets=targets.offsets),
        )
        for sources, targets in both
    )
    return Tokenised(
        train=train,
        evaluation=held_out,
        label_names=(),
        tokenizer=trained,
        notes=(
            *pairs.notes,
            *source.notes,
            f"Trains on {len(train):,} pairs and holds out {len(held_out):,}; scored by the loss per target token.",
            *_cut_notes(both, config, len(train) + len(held_out)),
            vocabulary_note(tokenizer, "byte-level BPE" if trained else None),
            *warnings,
        ),
    )


def _tokens(
    pairs: list[tuple[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    config: RunConfig,
    pad_id: int,
    ask: Callable[[], None],
) -> tuple[Tokens, Tokens]:
    sources = tokenise([text for text, _ in pairs], tokenizer, config.seq_len, pad_id, ask)
    targets = [target for _, target in pairs]
    return sources, tokenise(targets, tokenizer, config.target_tokens, pad_id, ask, is_target=True)


def _cut_notes(both: list[tuple[Tokens, Tokens]], config: RunConfig, n: int) -> list[str]:
    counts = [sum(part[i].n_cut for part in both) for i in (0, 1)]
    limits = (config.seq_len, config.target_tokens)
    return [
        f"{count:,} of {n:,} {what} {'is' if count == 1 else 'are'} longer than {limit:,} tokens and cut ({flag})."
        for count, limit, what, flag in zip(
            counts, limits, ("sources", "targets"), ("--seq-len", "--target-len"), strict=True
        )
        if count
    ]
