"""The list of knobs: those with a key, then groups that fold; where the cursor is; finding one by name.

Of a user's own command those with a key stand above that can be turned, and knobs of its own are rows of their own.
Pure: no Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, Knob, RunConfig
from engine.contract.knob import ANSWER, GROUPS, JOBS, SCRIPT, TRAIN, about_group
from tui.state.script_knobs import carried, may_turn

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
"""The knob that the cursor begins on, where it stands above the groups."""
OWN = "command_values"
"""The knob that holds the values of those that only a script knows; they have its place in the list."""
OTHERS = "not carried"
"""The group of a script's knobs whose own groups have none that can be turned: one line in place of many."""


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
_OF_SCRIPTS = tuple(name for name, knob in KNOBS.items() if _is_in(knob, SCRIPT))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list: a knob, or (`knob` empty) the heading of a group. Knobs with a key have no group here."""

    group: str
    knob: str = ""
    own: str = ""
    """Which of the knobs that only the script knows, where `knob` is what holds their values."""


def keyed(config: RunConfig) -> tuple[str, ...]:
    """The knobs that stand above the groups."""
    return tuple(name for name in LETTERS[config.job] if may_turn(config, name))


def in_groups(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """The knobs below each group's heading; a group may have none. Of a script those are in `OTHERS`, at the end, whose
    group has nothing to turn.
    """
    if not config.is_script:
        return IN_GROUPS[config.job]
    above = keyed(config)
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in _OF_SCRIPTS:
        if name not in above:
            groups[KNOBS[name].group].append(name)
    turnable = {group: tuple(each) for group, each in groups.items() if any(may_turn(config, name) for name in each)}
    others = [name for group, names in groups.items() if group not in turnable for name in names]
    return {**turnable, OTHERS: tuple(others)}


def group_of(name: str, config: RunConfig) -> str:
    """The group that a knob stands in; empty above them."""
    return next((group for group, names in in_groups(config).items() if name in names), "")


def about(group: str, config: RunConfig) -> str:
    """What is in a group of knobs."""
    if group == OTHERS:
        return "put {NAME} where a knob's value belongs, as in --lr={learning_rate}"
    return about_group(group, config.job)


def opened_for(config: RunConfig) -> set[str]:
    """The groups to open for a command: its own, and those of what it carries that does not stand above them."""
    if not config.is_script:
        return set()
    return {SCRIPT, *(KNOBS[name].group for name in carried(config) if name not in LETTERS[SCRIPT])}


def _below(group: str, names: Sequence[str], config: RunConfig) -> list[Row]:
    """The rows of an open group."""
    own = config.script.own if config.script is not None else {}
    rows: list[Row] = []
    for name in names:
        rows += [Row(group, name, each) for each in own] if name == OWN and own else [Row(group, name)]
    return rows


def set_knobs(group: str, config: RunConfig) -> list[str]:
    """Knobs below a group's heading that are not at their job's default; of a script those that its command carries."""
    usual, names = defaults_of(config.job), in_groups(config).get(group, ())
    if config.is_script and group != SCRIPT:
        return [name for name in names if config.says(name) and SCRIPT not in KNOBS[name].jobs]
    return [name for name in names if getattr(config, name) != getattr(usual, name)]


def every_row(config: RunConfig) -> list[Row]:
    """The rows of all knobs, as with every group open, without the headings."""
    above = [Row("", name) for name in keyed(config)]
    return above + [row for group, names in in_groups(config).items() for row in _below(group, names, config)]


def label_of(row: Row) -> str:
    """What a knob is called: one that only a script knows by its name in the command."""
    return row.own or KNOBS[row.knob].label


def found(query: str, config: RunConfig) -> list[Row]:
    """Knobs whose label, flag or group has all words of a query, those that begin with it first; without one all."""
    words = _plain(query).split()
    hits = [row for row in every_row(config) if all(word in _names(row) for word in words)]
    return sorted(hits, key=lambda row: not _plain(label_of(row)).startswith(" ".join(words)))


def _names(row: Row) -> str:
    return _plain(f"{label_of(row)} {row.knob} {KNOBS[row.knob].group}")


def _plain(text: str) -> str:
    return text.lower().replace("_", " ").replace("-", " ")


class KnobList:
    """Which groups are open, and the row under the cursor."""

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self.cursor = Row("", FIRST)

    def rows(self, config: RunConfig) -> list[Row]:
        """The rows that can be seen, from the top."""
        rows = [Row("", name) for name in keyed(config)]
        for group, names in in_groups(config).items():
            if names:
                rows.append(Row(group))
                rows += _below(group, names, config) if group in self.opened else []
        return rows

    def settle(self, config: RunConfig) -> None:
        """Put the cursor on a row that can be seen, where its own is none of the configuration's."""
        self.cursor = self.rows(config)[self.index(config)]

    def move(self, delta: int, config: RunConfig) -> None:
        """Move the cursor; it stops at the ends."""
        rows = self.rows(config)
        index = self.index(config) + delta
        self.cursor = rows[max(0, min(len(rows) - 1, index))]

    def index(self, config: RunConfig) -> int:
        """Where the cursor is among the rows; on the first knob where its own is none of the job's."""
        rows = self.rows(config)
        first = Row("", FIRST) if Row("", FIRST) in rows else Row(SCRIPT, "command")
        return next((rows.index(row) for row in (self.cursor, first) if row in rows), 0)

    def select(self, name: str, config: RunConfig, own: str = "") -> None:
        """Put the cursor on a knob of a job, and open its group."""
        group = "" if name in keyed(config) else group_of(name, config) or KNOBS[name].group
        if group:
            self.opened.add(group)
        below = _below(group, (name,), config)
        self.cursor = next((row for row in below if row.own == own), below[0])

    def fold(self, group: str, *, is_open: bool | None = None) -> None:
        """Open or close a group (None: the other way), with the cursor on its heading."""
        wanted = group not in self.opened if is_open is None else is_open
        (self.opened.add if wanted else self.opened.discard)(group)
        self.cursor = Row(group)

    def fold_all(self) -> bool:
        """Close all groups, or open them where none is open; whether they are open now."""
        self.opened = set() if self.opened else {*GROUPS, OTHERS}
        if self.cursor.group not in self.opened and self.cursor.group:
            self.cursor = Row(self.cursor.group)
        return bool(self.opened)
