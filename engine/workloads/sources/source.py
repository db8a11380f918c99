"""Where text comes from: `--data` -> a source with a name for people, a fingerprint of its content, and its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED, is_file_name
from engine.workloads.files.plain_files import check_file, quoted, sha256_of
from engine.workloads.files.tables import open_table
from engine.workloads.sources.hub_data import HubLike, open_hub, pick_splits
from engine.workloads.sources.made_up import made_up

_VOCABULARY_ROWS = 4_000
"""So many rows are made at least, so that turning `samples` does not change a vocabulary trained on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Rows to train on and, where the source itself holds some out, rows to score."""

    train: datasets.Dataset
    evaluation: datasets.Dataset | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that text comes from."""

    name: str
    """As sentences name it: printable, in quotes where it is a file's or a data set's."""
    fingerprint: str
    """Changes when the content does."""
    open: Callable[[Callable[[str], None]], Tables]
    """Read it; the argument takes sentences of warning. Raises `ConfigError`."""
    shuffled: bool = False
    """True where the order of the rows is random already."""
    notes: tuple[str, ...] = ()
    """Sentences on origin and licence."""


def find_source(config: RunConfig, hub: HubLike | None, report: Callable[[str], None] = lambda what: None) -> Source:
    """What `config.data` stands for: generated text, a local file or a data set of the hub.

    `report` is told again and again what is read, and may raise to end it.
    Raises `ConfigError` when it stands for nothing that is here or can be asked for.
    """
    data = config.data
    if data is None or is_generated(data):
        return _generated(config, asked_for=data is not None)
    return _file(data, Path(data).expanduser(), report) if is_file(data) else _from_hub(data, config, hub)


def is_generated(data: str | None) -> bool:
    """Whether `--data` stands for text made up here."""
    return data is None or data == GENERATED


def is_file(data: str) -> bool:
    """Whether `--data`, which is not generated, is a file or meant to be one, rather than the hub's."""
    return is_file_name(data) or Path(data).expanduser().exists()


def _file(data: str, path: Path, report: Callable[[str], None]) -> Source:
    check_file(path, data)  # a pipe never ends
    name = quoted(path.name)

    def ask() -> None:
        report(f"reading {name}")

    try:
        digest = sha256_of(path, ask)
    except OSError:
        digest = ""  # opening it says what is wrong
    return Source(name=name, fingerprint=f"file {digest}", open=lambda warn: Tables(train=open_table(data, warn, ask)))


def _from_hub(data: str, config: RunConfig, hub: HubLike | None) -> Source:
    splits = open_hub(data, hub)
    train, evaluation = pick_splits(splits, data, config.label_column or "label")
    # `datasets` derives it from the revision of the files
    prints = [table._fingerprint for table in (train, evaluation) if table is not None]
    return Source(
        name=quoted(data),
        fingerprint=" ".join(["hub", data, *prints]),
        open=lambda warn: Tables(train=train, evaluation=evaluation),
        notes=(f"Data set {quoted(data)} of the Hugging Face hub; its page names the licence.",),
    )


def hub_splits(data: str, config: RunConfig, hub: HubLike | None) -> tuple[str, str | None]:
    """The names of the parts of a data set that train and are scored. Raises `ConfigError`."""
    splits = open_hub(data, hub)
    train, evaluation = pick_splits(splits, data, config.label_column or "label")
    names = {id(table): name for name, table in splits.items()}
    return names[id(train)], None if evaluation is None else names[id(evaluation)]


def _generated(config: RunConfig, *, asked_for: bool) -> Source:
    kind, seed, n_train, n_test = made_up(config), config.seed, n_generated(config), config.eval_samples

    def make(warn: Callable[[str], None]) -> Tables:
        return Tables(train=kind.make(seed, "train", n_train), evaluation=kind.make(seed, "test", n_test))

    other = "" if asked_for else " For real text give --data FILE or a hub name."
    return Source(
        name=f"generated {kind.name}",
        fingerprint=f"generated {kind.fingerprint(seed)} {n_train} {n_test}",
        open=make,
        shuffled=True,
        notes=(f"The text is generated: made-up {kind.name}, not written by people; seed {seed}.{other}",),
    )


def n_generated(config: RunConfig) -> int:
    """The rows that are made to train on."""
    return max(config.n_samples, _VOCABULARY_ROWS)
