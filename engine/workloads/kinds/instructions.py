"""Instruction data: conversations in a chat template, learned by their answers or whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from engine.contract.config import ConfigError, RunConfig
from engine.contract.numbers import n_of
from engine.workloads.collate import Collate, PaddingCollate, Samples, stack
from engine.workloads.files.plain_files import printable, quoted
from engine.workloads.kinds.text import Report
from engine.workloads.prepared import PreparedData
from engine.workloads.sources.chat_columns import find_chat_columns
from engine.workloads.sources.chat_lines import bad_row
from engine.workloads.sources.columns import holds_messages, nul_notes
from engine.workloads.sources.hub_data import HubLike
from engine.workloads.sources.source import Source, Tables, find_source
from engine.workloads.sources.split import split_rows
from engine.workloads.standalone.chat_tokens import (
    PLAIN_TEMPLATE,
    WITHOUT_LABEL,
    Conversation,
    Encoded,
    TemplateError,
    encode,
    with_template,
)
from engine.workloads.standalone.chats import ChatColumns, Message, messages_of
from engine.workloads.standalone.packing import assign, pack
from engine.workloads.tokens.byte_bpe import train_byte_bpe
from engine.workloads.tokens.token_cache import Tokenised, remembered, tokenizer_fingerprint
from engine.workloads.tokens.vocabulary import check_ids, pad_token_id_of, vocabulary_note


def prepare_instructions(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    hub: HubLike | None = None,
    report: Report = lambda what: None,
    makes: bool = True,
) -> PreparedData:
    """Conversations of at most `seq_len` tokens, one a sample, or with `padding` packed several in a row and kept
    apart; 10 % are held out.

    Raises `ConfigError` on data, a column or a chat template that cannot be trained on; `NotKeptError` where the
    tokens are not in the cache and not `makes`.
    """
    if tokenizer is not None and config.completion_only_loss and not tokenizer.is_fast:
        raise ConfigError(
            "completion_only_loss",
            f"The tokenizer of {config.model} does not tell which characters a token stands for, so answers cannot be "
            "told from questions: use --completion-only-loss off.",
        )
    source = find_source(config, hub, report)
    packed = config.padding == "packed"
    own = None if tokenizer is None else with_template(tokenizer)
    settings = {
        "workload": "instructions",
        "source": [source.name, source.fingerprint],
        "columns": [config.text_column, config.target_column],
        "tokenizer": None if own is None else [tokenizer_fingerprint(own), own.get_chat_template()],
        "model": [model_vocab_size, pad_token_id],
        "sizes": [config.seq_len, config.samples, config.eval_samples, config.seed],
        "packed": packed,
        "answers": config.completion_only_loss,
    }
    made = remembered(settings, lambda: _make(config, source, own, model_vocab_size, pad_token_id, report), makes=makes)
    chosen = own if own is not None else made.tokenizer
    assert chosen is not None
    pad_id = pad_token_id_of(chosen, pad_token_id)
    width = config.seq_len if config.padding == "max_length" else None
    collate: Collate = stack if packed else PaddingCollate(pad_id, width, {"labels": WITHOUT_LABEL})
    return PreparedData(
        train=made.train,
        evaluation=made.evaluation,
        collate=collate,
        n_labels=2,
        label_names=(),
        tokenizer=with_template(chosen),
        vocab_size=len(chosen) if tokenizer is None else None,
        pad_token_id=pad_id,
        notes=made.notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Talks:
    """The conversations of a run in the order in which they are taken."""

    pool: list[list[Message]]
    """All that could train."""
    held_out: list[list[Message]]
    columns: ChatColumns
    notes: tuple[str, ...]


def choose_talks(tables: Tables, source: Source, config: RunConfig) -> Talks:
    """The conversations of the rows that have one, to train on and held out. Raises `ConfigError`."""
    table = tables.train
    lists = [name for name in table.column_names if holds_messages(table, name)]
    columns = find_chat_columns(table.column_names, lists, source.name, config.text_column, config.target_column)
    rows = _messages(table, columns, source.name)
    others = rows if tables.evaluation is None else _messages(tables.evaluation, columns, source.name)
    train, held_out, how = split_rows(tables, source, config)
    pool = [rows[place] for place in train if rows[place]]
    scored = [others[place] for place in held_out if others[place]]
    n, n_found = len(train) + len(held_out), len(pool) + len(scored)
    if not pool or not scored:
        raise ConfigError("data", f"{source.name} has too few rows with a prompt and an answer: name other columns.")
    listed = ", ".join(quoted(name) for name in columns.names)
    what = "messages in column" if columns.messages else "prompts and answers in columns"
    notes = [f"Data: {source.name}, {what} {listed}; {how}."]
    if n_found < n:
        notes.append(f"{n - n_found:,} of {n:,} rows have no prompt or no answer, and were left out.")
    notes += nul_notes(str(message["content"]) for messages in pool for message in messages)
    return Talks(pool=pool, held_out=scored, columns=columns, notes=tuple(notes))


def _messages(table: datasets.Dataset, columns: ChatColumns, name: str) -> list[list[Message]]:
    """Those of every row, in the order of the table, so that the first bad row is the one that is told."""
    found = []
    for number, row in enumerate(table.select_columns(columns.names), start=1):
        try:
            found.append(messages_of(row, columns))
        except ValueError as error:
            raise bad_row(name, number, str(error)) from None
    return found


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
    talks = choose_talks(source.open(warnings.append), source, config)
    trained = None
    if tokenizer is None:
        report("training a vocabulary")
        said = [str(message["content"]) for messages in talks.pool for message in messages]
        trained = train_byte_bpe(said, model_vocab_size)
        tokenizer = with_template(trained)
    plain = tokenizer.chat_template == PLAIN_TEMPLATE
    template = "a plain template, as the model has none" if plain else "the model's chat template"
    packed, pad_id = config.padding == "packed", pad_token_id_of(tokenizer, model_pad_id)
    parts, layouts, encoded = [], [], []
    for messages, wanted in ((talks.pool, config.samples), (talks.held_out, config.eval_samples)):
        found = _encoded(messages, tokenizer, config, wanted, source.name, report)
        samples, layout = _packed(found.conversations, config.seq_len, wanted, pad_id) if packed else _apart(found)
        encoded.append(found)
        parts.append(samples)
        layouts.append(layout)
    train, held_out = parts
    check_ids([part.sequences["input_ids"] for part in parts], None if trained else model_vocab_size)
    return Tokenised(
        train=train,
        evaluation=held_out,
        label_names=(),
        tokenizer=trained,
        notes=(
            *talks.notes,
            *source.notes,
            f"Trains on {layouts[0]}; holds out {layouts[1]}; in {template}; {_learned(train, config)}.",
            *_counts(encoded, config),
            vocabulary_note(tokenizer, "byte-level BPE" if trained else None),
            *warnings,
        ),
    )


def _encoded(
    talks: Sequence[Sequence[Message]],
    tokenizer: PreTrainedTokenizerBase,
    config: RunConfig,
    wanted: int | None,
    name: str,
    report: Report,
) -> Encoded:
    """As many conversations as make `wanted` samples. Raises `ConfigError` where none can be learned from."""
    packed = config.padding == "packed"
    try:
        found = encode(
            talks,
            tokenizer,
            config.seq_len,
            answers_only=config.completion_only_loss,
            at_most=wanted if wanted is None or not packed else wanted * config.seq_len,
            tokens=packed,
            ask=lambda: report("tokenising the conversations"),
        )
    except TemplateError as error:
        begin = str(talks[error.place][0]["content"])
        raise ConfigError(
            "data",
            f"The conversation of {name} that begins with {quoted(begin, 40)} cannot be written in the model's chat "
            f"template ({printable(str(error))[:150]}): correct it, or use another --model.",
        ) from None
    if found.conversations:
        return found
    if found.n_untold >= found.n_without_answer:
        raise ConfigError(
            "completion_only_loss",
            f"The chat template of {config.model} does not let answers be told from questions: "
            "use --completion-only-loss off.",
        )
    raise ConfigError(
        "seq_len",
        f"No conversation of {name} has an answer within {config.seq_len:,} tokens: use a larger --seq-len.",
    )


def _apart(found: Encoded) -> tuple[Samples, str]:
    """One conversation a sample."""
    offsets = np.concatenate([[0], np.cumsum([len(each.ids) for each in found.conversations])]).astype(np.int64)
    sequences = {
        "input_ids": np.concatenate([each.ids for each in found.conversations]),
        "labels": np.concatenate([each.labels for each in found.conversations]),
    }
    return Samples(sequences, offsets), f"{len(found.conversations):,} conversations"


def _packed(conversations: Sequence[Conversation], width: int, wanted: int | None, pad_id: int) -> tuple[Samples, str]:
    """Whole conversations packed into rows."""
    ids = [each.ids for each in conversations]
    rows = assign([len(each) for each in ids], width)[:wanted]
    sequences = {
        name: table.ravel()
        for name, table in pack(ids, rows, width, pad_id, [each.labels for each in conversations]).items()
    }
    n_tokens = sum(len(ids[i]) for i in chain.from_iterable(rows))
    padding = 1 - n_tokens / (len(rows) * width)
    told = f"{sum(map(len, rows)):,} conversations packed in {len(rows):,} rows of {width:,} tokens"
    return (
        Samples(sequences, np.arange(len(rows) + 1, dtype=np.int64) * width),
        f"{told}, {padding * 100:.1f} % padding",
    )


def _learned(train: Samples, config: RunConfig) -> str:
    if not config.completion_only_loss:
        return "every token is learned"
    share = float((train.sequences["labels"] != WITHOUT_LABEL).mean())
    return f"{share * 100:.0f} % of the tokens are answers, which alone are learned"


def _counts(encoded: Sequence[Encoded], config: RunConfig) -> list[str]:
    """What became of conversations that are too long, have no answer, or a template that hides them."""
    n_cut, n_without, n_untold = (
        sum(getattr(part, name) for part in encoded) for name in ("n_cut", "n_without_answer", "n_untold")
    )
    notes = []
    if n_cut:
        notes.append(
            f"{n_of(n_cut, 'conversation is', 'conversations are')} longer than {config.seq_len:,} tokens and cut "
            "there (--seq-len)."
        )
    if n_without:
        notes.append(
            f"{n_of(n_without, 'is', 'are')} left out, with nothing to learn within {config.seq_len:,} tokens."
        )
    if n_untold:
        why = "the chat template writes them otherwise once others follow"
        notes.append(f"{n_of(n_untold, 'answer is', 'answers are')} read and not learned: {why}.")
    return notes
