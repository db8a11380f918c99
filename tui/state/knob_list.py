"""The list of knobs: those with a key, then groups that fold; where the cursor is; finding one by name.

Pure: no Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import GROUPS, TRAIN

LETTERS = {
    "batch_size": "b",
    "gradient_accumulation_steps": "a",
    "gradient_checkpointing": "c",
    "precision": "f",
    "model": "m",
    "dataloader_num_workers": "w",
    "optimizer_implementation": "o",
}
"""Knobs with a key of their own. They stand above the groups."""

IN_GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(name for name, knob in KNOBS.items() if knob.group == group and name not in LETTERS)
    for group in GROUPS
}
"""The knobs below each group's heading."""

ORDER: tuple[str, ...] = (*LETTERS, *(name for names in IN_GROUPS.values() for name in names))
"""All knobs, as the list has them with every group open."""

_DEFAULTS = RunConfig()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list: a knob, or (`knob` empty) the heading of a group. Knobs with a key have no group here."""

    group: str
    knob: str = ""


def knobs_of(job: str, names: Sequence[str] = ORDER) -> list[str]:
    """Those of `names` that mean something for a job."""
    return [name for name in names if job in KNOBS[name].jobs]


def set_knobs(group: str, config: RunConfig) -> list[str]:
    """Knobs below a group's heading that are not at their default."""
    names = knobs_of(config.job, IN_GROUPS[group])
    return [name for name in names if getattr(config, name) != getattr(_DEFAULTS, name)]


def found(query: str, job: str) -> list[str]:
    """Knobs whose label, flag or group has all words of a query, those that begin with it first; without one all."""
    words = _plain(query).split()
    hits = [name for name in knobs_of(job) if all(word in _names(name) for word in words)]
    return sorted(hits, key=lambda name: not _plain(KNOBS[name].label).startswith(" ".join(words)))


def _names(name: str) -> str:
    return _plain(f"{KNOBS[name].label} {name} {KNOBS[name].group}")


def _plain(text: str) -> str:
    return text.lower().replace("_", " ").replace("-", " ")


class KnobList:
    """Which groups are open, and the row under the cursor."""

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self.cursor = Row("", ORDER[0])

    def rows(self, job: str = TRAIN) -> list[Row]:
        """The rows that can be seen, from the top."""
        rows = [Row("", name) for name in knobs_of(job, tuple(LETTERS))]
        for group, names in IN_GROUPS.items():
            below = knobs_of(job, names)
            if below:
                rows.append(Row(group))
                rows += [Row(group, name) for name in below] if group in self.opened else []
        return rows

    def move(self, delta: int, job: str) -> None:
        """Move the cursor; it stops at the ends."""
        rows = self.rows(job)
        index = self.index(job) + delta
        self.cursor = rows[max(0, min(len(rows) - 1, index))]

    def index(self, job: str) -> int:
        """Where the cursor is among the rows; on top where its knob is none of the job's."""
        rows = self.rows(job)
        return rows.index(self.cursor) if self.cursor in rows else 0

    def select(self, name: str) -> None:
        """Put the cursor on a knob, and open its group."""
        group = "" if name in LETTERS else KNOBS[name].group
        if group:
            self.opened.add(group)
        self.cursor = Row(group, name)

    def fold(self, group: str, *, is_open: bool | None = None) -> None:
        """Open or close a group (None: the other way), with the cursor on its heading."""
        wanted = group not in self.opened if is_open is None else is_open
        (self.opened.add if wanted else self.opened.discard)(group)
        self.cursor = Row(group)

    def fold_all(self) -> bool:
        """Close all groups, or open them where none is open; whether they are open now."""
        self.opened = set() if self.opened else set(GROUPS)
        if self.cursor.group not in self.opened and self.cursor.group:
            self.cursor = Row(self.cursor.group)
        return bool(self.opened)
