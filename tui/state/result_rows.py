"""Which runs the results table shows and in which order, which are marked, their notes. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from engine.contract import answer_entries, figures, script_entries
from engine.contract.config import KNOBS, Value
from engine.contract.figures import Entry, status_of
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.own_data import data_name
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_flags import own_names, told_of
from tui.drawing.text import clean
from tui.state.knobs import shown

NOTE_LIMIT = 500
"""Columns of a note that are shown."""


def place_of(row: RunRecord, rows: Sequence[RunRecord]) -> int:
    """Where a run is among the rows, by its number: two readings of one run differ when its loss is nan."""
    return next(index for index, other in enumerate(rows) if other.run_id == row.run_id)


_TRAINING: dict[str, Entry] = {
    entry.heading: entry
    for entry in (
        figures.RUN_ID,
        figures.MODEL,
        figures.BATCH,
        figures.ACCUMULATION,
        figures.CHECKPOINTING,
        figures.PRECISION,
        figures.WEIGHTS,
        figures.GPUS,
        figures.PARALLEL,
        figures.TIME,
        figures.SPEED,
        figures.CARD_SPEED,
        figures.MEMORY,
        figures.SHARE,
        figures.LOSS,
        figures.ACCURACY,
        figures.PER_SAMPLE,
        figures.WAITING,
        figures.STATUS,
    )
}
_ANSWERING: dict[str, Entry] = {
    entry.heading: entry
    for entry in (
        figures.RUN_ID,
        figures.MODEL,
        figures.WEIGHTS,
        figures.BATCH,
        answer_entries.PROMPT,
        answer_entries.NEW,
        answer_entries.KV,
        answer_entries.SPECULATION,
        figures.TIME,
        answer_entries.TG,
        answer_entries.PP,
        answer_entries.TTFT_P50,
        answer_entries.TTFT_P99,
        answer_entries.TPOT_P50,
        answer_entries.TPOT_P99,
        answer_entries.PER_FORWARD,
        answer_entries.ACCEPTANCE,
        answer_entries.HIT_RATE,
        answer_entries.KV_MIB,
        figures.MEMORY,
        figures.SHARE,
        answer_entries.AGREEMENT,
        answer_entries.PADDING,
        answer_entries.PER_TOKEN,
        figures.SPEED,
        figures.STATUS,
    )
}
_ENTRIES: dict[str, dict[str, Entry]] = {TRAIN: _TRAINING, ANSWER: _ANSWERING}


def entries_of(job: str, rows: Sequence[RunRecord]) -> dict[str, Entry]:
    """What a job's table shows of its runs and can be sorted by, by heading, from the left; of scripts that depends on
    what their commands carry and on what their trainers log.
    """
    if job != SCRIPT:
        return _ENTRIES[job]
    found = (*script_entries.arguments(rows), *script_entries.knobs(rows), *script_entries.entries(rows))
    return {entry.heading: entry for entry in (figures.RUN_ID, script_entries.NAME, *found, figures.STATUS)}


SHORT_WORDS = {Outcome.COMPLETED: "done", Outcome.OUT_OF_MEMORY: "OOM", Outcome.INTERRUPTED: "died"}
"""How runs ended, where there is no room for the words."""


@dataclass(slots=True)
class Rows:
    """How the table is looked at."""

    sort: str = figures.RUN_ID.heading
    """The heading of one of `ENTRIES`."""
    descending: bool = False
    query: str = ""
    """Words that a row must have; `precision=fp16` asks for a knob's value."""
    marked: set[int] = field(default_factory=set)
    notes: dict[int, str] = field(default_factory=dict)
    folded: int = 0
    """Questions that the last arrangement left out."""
    deleted: list[list[RunRecord]] = field(default_factory=list)
    """What was taken off the list, the last deletion at the end."""

    @property
    def deleted_ids(self) -> set[int]:
        """The runs that were taken off the list and can be brought back."""
        return {row.run_id for rows in self.deleted for row in rows}

    @property
    def as_run(self) -> bool:
        """True while the rows stand in the order of the runs, the newest last."""
        return self.sort == figures.RUN_ID.heading and not self.descending

    def sort_by_next(self, direction: int, job: str = TRAIN, rows: Sequence[RunRecord] = ()) -> None:
        """Sort a job's rows by the column to the right (1) or to the left (-1)."""
        headings = tuple(entries_of(job, rows))
        self.sort = headings[(headings.index(self.sorted_by(job, rows).heading) + direction) % len(headings)]

    def sorted_by(self, job: str, rows: Sequence[RunRecord] = ()) -> Entry:
        """The entry that a job's rows are sorted by: their number, where another job's have what these have not."""
        if self.sort == figures.RUN_ID.heading:
            return figures.RUN_ID
        return entries_of(job, rows).get(self.sort, figures.RUN_ID)

    def arranged(self, rows: Iterable[RunRecord], job: str = TRAIN) -> list[RunRecord]:
        """The rows of a job that are shown, in their order; those that do not know the sorted figure come last."""
        every = list(rows)
        if self.query:
            wanted = [row for row in every if matches(self.query, row, self.notes.get(row.run_id, ""))]
        else:
            wanted = self._without_questions(every)
        by = self.sorted_by(job, every)
        if by is figures.RUN_ID and not self.descending:
            return wanted
        key = by.sort_key
        known = [row for row in wanted if _is_known(key(row))]
        known.sort(key=lambda row: (key(row), row.run_id), reverse=self.descending)
        return known + [row for row in wanted if not _is_known(key(row))]

    def _without_questions(self, rows: list[RunRecord]) -> list[RunRecord]:
        """Of questions that were asked one after the other, with the same knobs, the last."""
        told_apart = self.marked | self.notes.keys()
        kept = [
            row
            for row, after in zip(rows, [*rows[1:], None], strict=False)
            if after is None or row.run_id in told_apart or not is_asked_again(row, after)
        ]
        self.folded = len(rows) - len(kept)
        return kept


def is_asked_again(row: RunRecord, after: RunRecord) -> bool:
    """Whether a run and the one after it differ in what was typed alone."""
    one, other = row.config, after.config
    if one.prompt is None or other.prompt is None:
        return False
    return all(getattr(one, name) == getattr(other, name) for name in KNOBS if name != "prompt")


def _is_known(value: Value) -> bool:
    return value is not None and value == value  # nan, which has no place in an order, is not itself


def matches(query: str, row: RunRecord, note: str = "") -> bool:
    """Whether a row has every word of a query, capitals or not: what the screen prints of it, and what it means.

    A number is meant as a whole cell, as printed, or as a part of a name: `8` is run 8 or batch 8, not 7.68 samples/s.
    """
    words = query.lower().split()
    config = row.config
    unsaid = {figures.WEIGHTS} if config.weights == "fp32" else set()
    unsaid |= set() if figures.is_on_several(row) else {figures.GPUS}
    printed = [entry for entry in entries_of(config.job, [row]).values() if entry not in unsaid]
    cells = [entry.of(row).lower() for entry in printed]
    parts = [config.model, config.workload, data_name(config), config.optimizer, config.precision]
    if config.is_script:
        parts = [config.command or "", *(f"{name}={told_of(row, name)}" for name in own_names(config))]
    parts.append(note)
    parts += [
        row.outcome.value,
        status_of(row),
        SHORT_WORDS.get(row.outcome, ""),
        row.device.name if row.device else "",
    ]
    parts += [config.prompt or ""]
    parts += [f"checkpointing {config.gradient_checkpointing}"] if config.gradient_checkpointing != "off" else []
    text = " ".join(parts).lower()
    return all(_has_value(word, row) if "=" in word else word in text or word in cells for word in words)


def _has_value(word: str, row: RunRecord) -> bool:
    """`batch=8`, `batch_size=8`: the first knob whose name or label begins so has that value; "batch=" takes all."""
    name, _, value = word.partition("=")
    for own in own_names(row.config):
        if own.lower().startswith(name):
            return not value or value == str(told_of(row, own)).lower()
    for knob in KNOBS.values():
        if row.config.is_script and not row.config.says(knob.name):
            continue
        if knob.name.startswith(name) or knob.label.lower().replace(" ", "_").startswith(name):
            actual = getattr(row.config, knob.name)
            return not value or value in (str(actual).lower(), shown(knob, actual).lower())
    return False


def note_of(text: str) -> str:
    """A person's note as one harmless line."""
    return clean(text, NOTE_LIMIT)
