"""Labelled text from a file: which rows train, which are held out, and what they are as tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from engine.config import ConfigError, RunConfig
from engine.workloads import PreparedData
from engine.workloads.collate import PaddingCollate, Samples
from engine.workloads.columns import Classes, encode_labels, find_columns, is_missing
from engine.workloads.files import open_table, quoted
from engine.workloads.vocabulary import MAX_TRAINED_ON, Tokens, tokenise, train_wordpiece

HELD_OUT_SHARE = 0.2
"""Of every class's rows, as long as that is no more than `eval_samples` in all."""
_LISTED_CLASSES = 8
Indices = npt.NDArray[np.int64]


def prepare_reviews(
    config: RunConfig,
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    model_vocab_size: int | None,
    pad_token_id: int | None,
    report: Callable[[str], None] = lambda what: None,
) -> PreparedData:
    """Rows of `config.data`, split by class and seed, tokenised once with the model's tokenizer or one trained here.

    Raises `ConfigError` on a file, a column or a vocabulary that cannot be trained on.
    """
    file = Path(config.data or "").name
    report(f"reading {quoted(file)}")
    labelled = _read(config, file)
    n_classes = len(labelled.classes.names)
    pool, held_out = stratified_split(
        labelled.classes.ids, n_classes, eval_samples=config.eval_samples, seed=config.seed
    )
    train = pool[: config.samples]
    trained_here = tokenizer is None
    if tokenizer is None:
        report("training a vocabulary")
        # on the whole training part, so that turning `samples` does not change the model
        tokenizer = train_wordpiece(labelled.texts(pool[:MAX_TRAINED_ON]), model_vocab_size)
    pad_id = _pad_token_id(tokenizer, pad_token_id)
    report(f"tokenising {len(train) + len(held_out):,} texts")
    texts = [labelled.texts(part) for part in (train, held_out)]
    tokens = [tokenise(part, tokenizer, config.seq_len, pad_id) for part in texts]
    _check_ids(tokens, None if trained_here else model_vocab_size)
    width = config.seq_len if config.padding == "max_length" else None
    return PreparedData(
        train=Samples(tokens[0].sequences, tokens[0].offsets, labelled.classes.ids[train]),
        evaluation=Samples(tokens[1].sequences, tokens[1].offsets, labelled.classes.ids[held_out]),
        collate=PaddingCollate(pad_id, width, {"token_type_ids": getattr(tokenizer, "pad_token_type_id", 0)}),
        n_labels=n_classes,
        label_names=labelled.classes.names,
        tokenizer=tokenizer,
        vocab_size=len(tokenizer) if trained_here else None,
        pad_token_id=pad_id,
        notes=(
            *_row_notes(labelled, file, len(pool), len(train), held_out),
            *_text_notes(texts[0], texts[1], sum(part.n_cut for part in tokens), config.seq_len),
            f"The vocabulary: {len(tokenizer):,} entries, "
            + ("WordPiece, trained on the training part." if trained_here else "the model's own."),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The rows of a table that have a text and a label; `rows` are their places in it, `classes` their labels."""

    table: datasets.Dataset
    text_column: str
    label_column: str
    rows: Indices
    classes: Classes

    def texts(self, part: Indices) -> list[str]:
        """The texts of some of the rows, by their index in `rows`."""
        return list(self.table.select_columns([self.text_column]).select(self.rows[part])[:][self.text_column])


def _read(config: RunConfig, file: str) -> _Labelled:
    table = open_table(config.data)
    text, label = find_columns(table, file, config.text_column, config.label_column)
    rows, labels = _complete_rows(table, file, text, label)
    return _Labelled(table, text, label, rows, encode_labels(labels, file, label, table.features[label]))


def _complete_rows(table: datasets.Dataset, file: str, text: str, label: str) -> tuple[Indices, list[object]]:
    """The places of the rows that have both a text and a label, and their labels."""
    rows: list[int] = []
    labels: list[object] = []
    position = 0
    for batch in table.select_columns([text, label]).iter(batch_size=1_000):
        for row_text, row_label in zip(batch[text], batch[label], strict=True):
            # files put together from several have the header in the middle, too
            is_header = (row_text, row_label) == (text, label)
            if not is_header and not is_missing(row_text) and not is_missing(row_label):
                rows.append(position)
                labels.append(row_label)
            position += 1
    if not rows:
        where = f"Columns {quoted(text)} and {quoted(label)} of {quoted(file)}"
        raise ConfigError("data", f"{where} have no row with both a text and a label: name others, or fill them in.")
    return np.array(rows, dtype=np.int64), labels


def stratified_split(ids: Indices, n_classes: int, *, eval_samples: int, seed: int) -> tuple[Indices, Indices]:
    """Training and held-out rows, shuffled, with every class in both in its share of the whole.

    Holds out `HELD_OUT_SHARE`, at least one row of every class and at most `eval_samples`. Classes have two rows or
    more. Largest remainders decide where a share is not whole. Depends on nothing but the arguments.
    """
    generator = np.random.default_rng(seed)
    sizes = np.bincount(ids, minlength=n_classes)
    n_held_out = min(max(round(HELD_OUT_SHARE * len(ids)), n_classes), eval_samples)
    quotas = n_held_out * sizes / len(ids)
    take = np.floor(quotas).astype(np.int64)
    # smallest classes first among equal remainders: they are the ones that would be left out
    for i in np.lexsort((sizes, take - quotas))[: n_held_out - int(take.sum())]:
        take[i] += 1
    if n_held_out >= n_classes:
        for i in np.flatnonzero(take == 0):
            take[int(np.argmax(take))] -= 1
            take[i] = 1
    train, held_out = [], []
    for i in range(n_classes):
        members = generator.permutation(np.flatnonzero(ids == i))
        held_out.append(members[: take[i]])
        train.append(members[take[i] :])
    return generator.permutation(np.concatenate(train)), generator.permutation(np.concatenate(held_out))


def _pad_token_id(tokenizer: PreTrainedTokenizerBase, model_pad_token_id: int | None) -> int:
    known = (tokenizer.pad_token_id, model_pad_token_id, tokenizer.eos_token_id)
    return next((int(token_id) for token_id in known if token_id is not None), 0)


def _check_ids(tokens: Sequence[Tokens], model_vocab_size: int | None) -> None:
    highest = max(int(part.sequences["input_ids"].max()) for part in tokens)
    if model_vocab_size is not None and highest >= model_vocab_size:
        raise ConfigError(
            "model",
            f"the model's tokenizer yields token {highest:,} and its embedding has {model_vocab_size:,} rows: "
            "they do not belong together; use another --model.",
        )


def _row_notes(labelled: _Labelled, file: str, n_pool: int, n_train: int, held_out: Indices) -> list[str]:
    names, n_rows, n_table = labelled.classes.names, len(labelled.rows), len(labelled.table)
    listed = ", ".join(quoted(name, 20) for name in names[:_LISTED_CLASSES])
    if len(names) > _LISTED_CLASSES:
        listed += " and others"
    majority = np.bincount(labelled.classes.ids[held_out]).max() / len(held_out)
    of = f" of {n_pool:,} (samples)" if n_train < n_pool else ""
    notes = [
        f"Data: {quoted(file)}, text in column {quoted(labelled.text_column)}, "
        f"{len(names):,} classes in column {quoted(labelled.label_column)}: {listed}.",
        f"{n_rows:,} rows: trains on {n_train:,}{of}, holds out {len(held_out):,}; "
        f"majority class {majority * 100:.1f} %, which accuracy has to beat.",
    ]
    if n_table > n_rows:
        left_out = f"{n_table - n_rows:,} of {n_table:,} rows"
        notes.append(f"{left_out} have no text or no label, or repeat the header, and were left out.")
    return notes


def _text_notes(train: list[str], held_out: list[str], n_cut: int, seq_len: int) -> list[str]:
    notes = []
    if n_cut:
        share = n_cut / (len(train) + len(held_out))
        notes.append(f"{share * 100:.1f} % of the texts are longer than {seq_len:,} tokens and were cut there.")
    seen = set(train)
    if repeated := sum(text in seen for text in held_out):
        share = repeated / len(held_out)
        notes.append(f"{share * 100:.1f} % of the held-out texts also occur in training, which flatters the accuracy.")
    return notes
