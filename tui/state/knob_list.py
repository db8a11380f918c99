"""The list of knobs: those with a key, then groups that fold; where the cursor is; finding one by name.

Pure: no Textual.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, Knob, RunConfig
from engine.contract.knob import ANSWER, GROUPS, JOBS, SCRIPT, TRAIN

LETTERS: dict[str, dict[str, str]] = {
    TRAIN: {
        "job": "J",
        "batch_size": "b",
        "gradient_accumulation_steps": "a",
        "gradient_checkpointing": "c",
        "precision": "f",
        "model": "m",
        "dataloader_num_workers": "w",
        "optimizer_implementation": "o",
    },
    ANSWER: {
        "job": "J",
        "batch_size": "b",
        "max_new_tokens": "a",
        "kv_cache": "c",
        "weights": "f",
        "model": "m",
        "prompt_len": "w",
        "speculate": "o",
    },
}
LETTERS[SCRIPT] = LETTERS[TRAIN]
"""By job, the knobs with a key of their own. They stand above the groups."""
FIRST = "batch_size"
"""The knob that the cursor begins on, of any job."""


def _is_in(knob: Knob, job: str) -> bool:
    """Whether a job has the knob: a script may have any of a training's."""
    return job in knob.jobs or (job == SCRIPT and TRAIN in knob.jobs)


IN_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    job: {
        group: tuple(
            name
            for name, knob in KNOBS.items()
            if knob.group == group and _is_in(knob, job) and name not in LETTERS[job]
        )
        for group in GROUPS
    }
    for job in JOBS
}
"""By job, the knobs below each group's heading; a group may have none."""

ORDER: dict[str, tuple[str, ...]] = {
    job: (*LETTERS[job], *(name for names in IN_GROUPS[job].values() for name in names)) for job in JOBS
}
"""By job, all its knobs, as the list has them with every group open."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list: a knob, or (`knob` empty) the heading of a group. Knobs with a key have no group here."""

    group: str
    knob: str = ""


def set_knobs(group: str, config: RunConfig) -> list[str]:
    """Knobs below a group's heading that are not at their job's default."""
    usual = defaults_of(config.job)
    return [name for name in IN_GROUPS[config.job][group] if getattr(config, name) != getattr(usual, name)]


def found(query: str, job: str) -> list[str]:
    """Knobs whose label, flag or group has all words of a query, those that begin with it first; without one all."""
    words = _plain(query).split()
    hits = [name for name in ORDER[job] if all(word in _names(name) for word in words)]
    return sorted(hits, key=lambda name: not _plain(KNOBS[name].label).startswith(" ".join(words)))


def _names(name: str) -> str:
    return _plain(f"{KNOBS[name].label} {name} {KNOBS[name].group}")


def _plain(text: str) -> str:
    return text.lower().replace("_", " ").replace("-", " ")


class KnobList:
    """Which groups are open, and the row under the cursor."""

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self.cursor = Row("", FIRST)

    def rows(self, job: str = TRAIN) -> list[Row]:
        """The rows that can be seen, from the top."""
        rows = [Row("", name) for name in LETTERS[job]]
        for group, names in IN_GROUPS[job].items():
            if names:
                rows.append(Row(group))
                rows += [Row(group, name) for name in names] if group in self.opened else []
        return rows

    def move(self, delta: int, job: str) -> None:
        """Move the cursor; it stops at the ends."""
        rows = self.rows(job)
        index = self.index(job) + delta
        self.cursor = rows[max(0, min(len(rows) - 1, index))]

    def index(self, job: str) -> int:
        """Where the cursor is among the rows; on the first knob where its own is none of the job's."""
        rows = self.rows(job)
        return rows.index(self.cursor if self.cursor in rows else Row("", FIRST))

    def select(self, name: str, job: str = TRAIN) -> None:
        """Put the cursor on a knob of a job, and open its group."""
        group = "" if name in LETTERS[job] else KNOBS[name].group
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
