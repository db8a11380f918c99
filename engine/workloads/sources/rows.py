"""Which rows of a labelled table train and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import datasets
import numpy as np
import numpy.typing as npt

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.files.plain_files import quoted
from engine.workloads.sources.classes import encode_labels
from engine.workloads.sources.columns import find_columns, is_missing
from engine.workloads.sources.source import Source, Tables

HELD_OUT_SHARE = 0.2
"""Of every class's rows, as long as that is no more than `eval_samples` in all."""
_LISTED_CLASSES = 8
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a table that have a text and a label: `places`, shape (rows,), and their `classes`, (rows,)."""

    table: datasets.Dataset
    text_column: str
    places: Indices
    classes: Indices

    def __len__(self) -> int:
        return len(self.places)

    def texts(self, limit: int | None = None) -> list[str]:
        """The texts in order, or the first `limit` of them."""
        part = self.table.select_columns([self.text_column]).select(self.places[:limit])
        return list(part[:][self.text_column])


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The rows of a run."""

    pool: Rows
    """All rows that could train; a vocabulary is trained on them, so that turning `samples` does not change it."""
    train: Rows
    """The first `samples` of the pool."""
    held_out: Rows
    label_names: tuple[str, ...]
    label_column: str
    spellings: dict[str, int]
    """Every label of the source without the blanks around it, to its class; rows with another one are left out."""
    notes: tuple[str, ...]


def choose_rows(tables: Tables, source: Source, config: RunConfig) -> Parts:
    """Training and held-out rows: the source's own parts where it has two, else a stratified split by seed.

    Raises `ConfigError` on columns or labels that cannot be trained on.
    """
    text, label = find_columns(tables.train, source.name, config.text_column, config.label_column)
    if tables.evaluation is None:
        return _split_one(tables.train, source, config, text, label)
    return _take_two(tables.train, tables.evaluation, source, config, text, label)


def _split_one(table: datasets.Dataset, source: Source, config: RunConfig, text: str, label: str) -> Parts:
    complete, labels = _complete_rows(table, source.name, text, label)
    found = encode_labels(labels, source.name, label, table.features[label], least=2)
    has_class = found.ids >= 0
    places, classes = complete[has_class], replace(found, ids=found.ids[has_class])
    n_classes = len(classes.names)
    pool, held_out = stratified_split(classes.ids, n_classes, eval_samples=config.eval_samples, seed=config.seed)
    train = pool[: config.samples]
    of = f" of {len(pool):,} (samples)" if len(train) < len(pool) else ""
    notes = [
        _named(source, text, label, classes.names),
        f"{len(places):,} rows: trains on {len(train):,}{of}, holds out {len(held_out):,}; "
        f"{_majority(classes.ids[held_out])}",
    ]
    if len(table) > len(complete):
        left_out = f"{len(table) - len(complete):,} of {len(table):,} rows"
        notes.append(f"{left_out} have no text or no label, or repeat the header, and were left out.")
    notes += classes.notes
    pool_rows, train_rows, held_out_rows = (
        Rows(table, text, places[part], classes.ids[part]) for part in (pool, train, held_out)
    )
    return Parts(
        pool=pool_rows,
        train=train_rows,
        held_out=held_out_rows,
        label_names=classes.names,
        label_column=label,
        spellings=classes.spellings,
        notes=tuple(notes),
    )


def _take_two(
    train: datasets.Dataset, test: datasets.Dataset, source: Source, config: RunConfig, text: str, label: str
) -> Parts:
    """The first of a shuffle with the seed, of each part: what `shuffle(seed=seed).select(range(n))` gives."""
    columns = [_labels(table, label) for table in (train, test)]
    known = [np.array([not is_missing(value) for value in column], dtype=bool) for column in columns]
    kept = [value for column in columns for value in column if not is_missing(value)]
    classes = encode_labels(kept, source.name, label, train.features[label])
    n_known = int(known[0].sum())
    ids = [np.full(len(column), -1, dtype=np.int64) for column in columns]
    ids[0][known[0]], ids[1][known[1]] = classes.ids[:n_known], classes.ids[n_known:]
    rows = []
    for table, table_ids, n in ((train, ids[0], config.samples), (test, ids[1], config.eval_samples)):
        # the generator and the call of datasets.Dataset.shuffle
        order = np.arange(len(table)) if source.shuffled else np.random.default_rng(config.seed).permutation(len(table))
        pool = order[table_ids[order] >= 0]
        rows.append((Rows(table, text, pool, table_ids[pool]), _with_text(table, text, pool[:n], table_ids)))
    (pool_rows, train_rows), (_, held_out_rows) = rows
    if not len(train_rows) or not len(held_out_rows):
        raise ConfigError("data", f"{source.name} has no row with both a text and a label: use other data.")
    shuffled = "" if source.shuffled else f", the first of a shuffle with seed {config.seed}"
    notes = (
        _named(source, text, label, classes.names),
        f"{len(train):,} rows to train and {len(test):,} to score: trains on {len(train_rows):,} and holds out "
        f"{len(held_out_rows):,}{shuffled}; {_majority(held_out_rows.classes)}",
        *classes.notes,
    )
    return Parts(
        pool=pool_rows,
        train=train_rows,
        held_out=held_out_rows,
        label_names=classes.names,
        label_column=label,
        spellings=classes.spellings,
        notes=notes,
    )


def _labels(table: datasets.Dataset, label: str) -> list[object]:
    values = table.select_columns([label])[:][label]
    # a class label of -1 is how `datasets` says that there is none
    unlabelled = -1 if isinstance(table.features[label], datasets.ClassLabel) else None
    return [None if value == unlabelled else value for value in values]


def _with_text(table: datasets.Dataset, text: str, places: Indices, ids: Indices) -> Rows:
    texts = Rows(table, text, places, ids[places]).texts()
    kept = places[np.array([not is_missing(value) for value in texts], dtype=bool)]
    return Rows(table, text, kept, ids[kept])


def _complete_rows(table: datasets.Dataset, name: str, text: str, label: str) -> tuple[Indices, list[object]]:
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
        where = f"Columns {quoted(text)} and {quoted(label)} of {name}"
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


def _named(source: Source, text: str, label: str, names: Sequence[str]) -> str:
    listed = ", ".join(quoted(name, 20) for name in names[:_LISTED_CLASSES])
    if len(names) > _LISTED_CLASSES:
        listed += " and others"
    columns = f"text in column {quoted(text)}, {len(names):,} classes in column {quoted(label)}"
    return f"Data: {source.name}, {columns}: {listed}."


def _majority(ids: Indices) -> str:
    share = np.bincount(ids).max() / len(ids)
    return f"majority class {share * 100:.1f} %, which accuracy has to beat."
