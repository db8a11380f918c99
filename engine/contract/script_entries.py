"""What tables of scripts say beside the entries of `figures`. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from engine.contract import figures
from engine.contract.config import KNOBS, Value
from engine.contract.figures import Entry, knob_entry
from engine.contract.numbers import UNKNOWN, number, rate
from engine.contract.records import RunRecord
from engine.contract.script_figures import ScriptFigures
from engine.contract.script_flags import bare, own_names, shown, told, told_of
from engine.contract.script_name import script_name
from engine.contract.text import one_line


def _figure(read: Callable[[ScriptFigures], Any]) -> Callable[[RunRecord], Any]:
    """Of a script; None of a run that has none."""
    return lambda record: None if record.script is None else read(record.script)


def _carried_or_seen(name: str) -> Callable[[RunRecord], Value]:
    """The knob where the command carries it, else what was seen of it."""

    def read(record: RunRecord) -> Value:
        if record.config.says(name):
            return told(record.config, name)
        return None if record.script is None else getattr(record.script, name)

    return read


def updates_per_s(record: RunRecord) -> float | None:
    """Updates/s of the whole training; None where nothing was trained."""
    return record.updates / record.train_runtime_s if record.updates and record.train_runtime_s else None


NAME = Entry(name="script", label="script", read=lambda r: script_name(r.config), write=str, left=True)
BATCH = replace(figures.BATCH, read=_carried_or_seen("batch_size"))
ACCUMULATION = replace(figures.ACCUMULATION, read=_carried_or_seen("gradient_accumulation_steps"))
UPDATE_SPEED = Entry(name="updates_per_s", unit="updates/s", read=updates_per_s, write=rate, is_timed=True)
"""Where samples are not seen."""
EXIT = Entry(name="exit_code", label="exit", read=_figure(lambda s: s.exit_code), write=number)
"""As a shell tells it: 128 and its number for a signal."""

ENTRIES: tuple[Entry, ...] = (
    figures.TIME,
    figures.SPEED,
    UPDATE_SPEED,
    figures.TOKENS,
    figures.MEMORY,
    figures.SHARE,
    figures.LOSS,
    figures.ENERGY,
    figures.PER_SAMPLE,
    figures.WAITING,
)
"""The figures of scripts in their order; which of them a table shows, `entries` says."""
_ALWAYS = (figures.TIME, figures.SPEED, figures.MEMORY, figures.LOSS)
_KNOBS = (BATCH.name, ACCUMULATION.name)
_NOT_A_FIGURE = ("_runtime", "_per_second", "_time", "_samples", "_steps")
"""Endings of what trainers log of an evaluation that is no score."""
_SCORES = ("eval_", "val_", "test_")
_MOST_SCORES = 3
_WIDEST = 60
"""Characters of the arguments that tell commands apart."""


def knobs(records: Sequence[RunRecord]) -> list[Entry]:
    """What was turned in these runs: the script's own knobs, and those that some command carries."""
    carried = dict.fromkeys(name for record in records if record.config.script for name in record.config.script.knobs)
    others = [_knob(name, records) for name in KNOBS if name in carried and name not in (*_KNOBS, "device", "seed")]
    accumulates = "gradient_accumulation_steps" in carried or any((ACCUMULATION.read(r) or 1) != 1 for r in records)
    seeds = [knob_entry("seed")] if len({told(record.config, "seed") for record in records}) > 1 else []
    return [*own(records), BATCH, *([ACCUMULATION] if accumulates else []), *others, *seeds]


def _knob(name: str, records: Sequence[RunRecord]) -> Entry:
    """What none means to a knob is not said of a command that does not carry it."""
    entry = knob_entry(name)
    if all(record.config.says(name) for record in records):
        return entry
    return replace(entry, write=lambda value: UNKNOWN if value is None else entry.write(value))


def own(records: Iterable[RunRecord]) -> list[Entry]:
    """A column for every knob that only the scripts know, named as there."""
    return [_own(name) for name in own_names(*(record.config for record in records))]


def _own(name: str) -> Entry:
    return Entry(
        name=name,
        label=one_line(name),
        read=lambda record: told_of(record, name),
        write=lambda value: shown(name, value),
        key=lambda record: _sortable(told_of(record, name)),
    )


def _sortable(value: Value) -> Value:
    """A number as such: `1024` comes after `512`."""
    try:
        return float(str(value))
    except ValueError:
        return value


def arguments(records: Sequence[RunRecord]) -> list[Entry]:
    """A column of what tells apart the commands of scripts that are called alike, where there are such."""
    commands: dict[str, set[tuple[str, ...]]] = {}
    for record in records:
        commands.setdefault(script_name(record.config), set()).add(_fixed(record))
    if all(len(each) == 1 for each in commands.values()):
        return []

    def differing(record: RunRecord) -> str | None:
        alike = commands[script_name(record.config)]
        same = list(takewhile(lambda words: len(set(words)) == 1, zip(*alike, strict=False)))
        flag = bool(same) and same[-1][0].startswith("-") and "=" not in same[-1][0]  # of the first value that differs
        return " ".join(_fixed(record)[len(same) - flag :]) if len(alike) > 1 else None

    def written(words: str | None) -> str:
        return one_line(words or "")[:_WIDEST] or UNKNOWN

    return [Entry(name="arguments", label="arguments", read=differing, write=written, left=True)]


def _fixed(record: RunRecord) -> tuple[str, ...]:
    """The words of its command that no knob fills."""
    return tuple((bare(record.config) or "").split())


def scores(records: Sequence[RunRecord]) -> list[Entry]:
    """What the scripts' trainers logged of evaluations, by name: the first few."""
    logged = dict.fromkeys(name for record in records if record.script for name in record.script.figures)
    return [_score(name) for name in filter(is_score, logged)][:_MOST_SCORES]


def is_score(name: str) -> bool:
    """Whether a figure that a trainer logged says how good the model is on what it was not trained on."""
    return name.startswith(_SCORES) and not name.endswith(_NOT_A_FIGURE)


def _score(name: str) -> Entry:
    return Entry(
        name=name,
        label=one_line(name).replace("_", " "),
        read=_figure(lambda script: script.figures.get(name)),
        write=figures.LOSS.write,
        digits=3,
    )


def entries(records: Sequence[RunRecord]) -> list[Entry]:
    """The figures that say something about these runs: of updates only where samples were not seen."""
    unseen = [record for record in records if figures.SPEED.read(record) is None]
    known = [
        entry
        for entry in ENTRIES
        if entry in _ALWAYS
        or any(entry.read(record) is not None for record in (unseen if entry is UPDATE_SPEED else records))
    ]
    exits = [EXIT] if any(EXIT.read(record) for record in records) else []
    return [*known, *scores(records), *exits]
