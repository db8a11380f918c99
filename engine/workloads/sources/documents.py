"""Plain text -> documents: the paragraphs of a text file, or the text column of a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from engine.contract.config import ConfigError, RunConfig
from engine.contract.own_data import TEXT_SUFFIXES, suffix_of
from engine.process.machine import Machine
from engine.workloads.files.plain_files import check_file, check_utf8, quoted, sha256_of
from engine.workloads.files.unpacked import plain
from engine.workloads.sources.columns import find_text_column, is_missing, nul_notes
from engine.workloads.sources.hub_data import HubLike
from engine.workloads.sources.source import Source, find_source

HELD_OUT_SHARE = 0.1
_BYTES_IN_MEMORY = 6  # per byte of the file: the text, its paragraphs and their pieces
_BLANK_LINES = re.compile(r"\n[ \t\r\f\v]*\n\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """A text's documents, those to train on and those held out."""

    train: list[str]
    held_out: list[str]
    notes: tuple[str, ...]
    border: tuple[int, int] | None = None
    """Where one list of documents was split, see `border_of`; None where the source itself holds some out."""
    column: str | None = None
    """Of a table, the one with the texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """A place that documents come from."""

    name: str
    fingerprint: str
    open: Callable[[], Documents]
    """Read and split it. Raises `ConfigError`."""


def find_documents(
    config: RunConfig, hub: HubLike | None, report: Callable[[str], None] = lambda what: None
) -> TextSource:
    """What `config.data` stands for, as documents. `report` may raise to end the reading. Raises `ConfigError`."""
    path = Path(config.data).expanduser() if config.data else None
    if path is not None and suffix_of(path.name) in TEXT_SUFFIXES:
        return _file(path, str(config.data), report)
    source = find_source(config, hub, report)
    return TextSource(name=source.name, fingerprint=source.fingerprint, open=lambda: _columns(source, config))


def _file(path: Path, data: str, report: Callable[[str], None]) -> TextSource:
    check_file(path, data)
    needed, free = path.stat().st_size * _BYTES_IN_MEMORY, Machine().memory().available
    if free is not None and needed > free:
        raise ConfigError(
            "data",
            f"{quoted(path.name)} needs about {needed / 2**30:,.1f} GiB of RAM and {free / 2**30:,.1f} GiB are free: "
            "give a part of it.",
        )
    name = quoted(path.name)

    def ask() -> None:
        report(f"reading {name}")

    return TextSource(name=name, fingerprint=f"text {sha256_of(path, ask)}", open=lambda: _paragraphs(path, name, ask))


def _paragraphs(path: Path, name: str, ask: Callable[[], None]) -> Documents:
    with plain(path, ask) as readable:
        check_utf8(readable, ask)
        text = readable.read_text(encoding="utf-8-sig").replace("\r\n", "\n").strip()
    documents = [part for part in _BLANK_LINES.split(text) if part.strip()]
    if not documents:
        raise ConfigError("data", f"{name} is blank: give a file with text.")
    border = border_of(documents)
    train, held_out = split(documents, border)
    what = f"{len(documents):,} paragraphs (blank lines part them)" if len(documents) > 1 else "one document"
    return Documents(
        train=train,
        held_out=held_out,
        border=border,
        notes=(f"Text: {name}, {len(text):,} characters, {what}; the last {HELD_OUT_SHARE * 100:.0f} % are held out.",),
    )


def _columns(source: Source, config: RunConfig) -> Documents:
    warnings: list[str] = []
    tables = source.open(warnings.append)
    column = find_text_column(tables.train, source.name, config.text_column, config.label_column)
    texts = [
        [text for text in table.select_columns([column])[:][column] if not is_missing(text)]
        for table in (tables.train, tables.evaluation)
        if table is not None
    ]
    if not texts[0] or not texts[-1]:
        raise ConfigError("data", f"{source.name} has no text in column {quoted(column)}: name another.")
    border = None
    if len(texts) == 2:
        train, held_out = texts
        how = "its own test part is held out"
    else:
        order = np.random.default_rng(config.seed).permutation(len(texts[0]))
        shuffled = [texts[0][i] for i in order]
        border = border_of(shuffled)
        train, held_out = split(shuffled, border)
        how = f"{HELD_OUT_SHARE * 100:.0f} % are held out, by seed"
    note = f"Text: {source.name}, column {quoted(column)}, {len(texts[0]):,} documents; {how}."
    notes = (note, *source.notes, *nul_notes(chain(*texts)), *warnings)
    return Documents(train=train, held_out=held_out, notes=notes, border=border, column=column)


def border_of(documents: list[str]) -> tuple[int, int]:
    """Where 90 % of the characters end: so many whole documents, and characters of the next, cut at a blank."""
    border = round(sum(map(len, documents)) * (1 - HELD_OUT_SHARE))
    for i, document in enumerate(documents):
        if border < len(document):
            cut = document.find(" ", border)
            return i, border if cut < 0 else cut
        border -= len(document)
    return len(documents), 0


def split(documents: list[str], border: tuple[int, int]) -> tuple[list[str], list[str]]:
    """The documents before the border and those behind it; the one that it goes through is cut."""
    whole, cut = border
    if whole == len(documents):
        return documents, []
    between = documents[whole]
    return _non_blank([*documents[:whole], between[:cut]]), _non_blank([between[cut:], *documents[whole + 1 :]])


def _non_blank(documents: list[str]) -> list[str]:
    return [document for document in documents if document.strip()]
