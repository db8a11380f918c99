"""Runs as a table of text, before it is Markdown or LaTeX: which columns, in which units, with how many digits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.compare.compare import Comparison, Delta, Quantity, Row, compare, figure_of, fold, row_of
from engine.compare.rows import MARKS, NO_VERDICT, WITHIN_NOISE, about_seeds
from engine.compare.scaling import Scaling, nothing_known
from engine.contract import answer_entries, figures, script_entries
from engine.contract.accuracy import accuracy_interval
from engine.contract.config import KNOBS
from engine.contract.figures import (
    CPU,
    Entry,
    heading_of,
    is_on_several,
    is_virtual,
    knob_entry,
    label_of,
    scaling_entry,
)
from engine.contract.knob import TRAIN
from engine.contract.marks import marks_of
from engine.contract.numbers import UNKNOWN, signed
from engine.contract.own_data import data_name
from engine.contract.presets import model_name
from engine.contract.records import RunRecord
from engine.contract.text import one_line
from engine.export.answer_notes import answer_notes


@dataclass(frozen=True, slots=True)
class Column:
    """A heading with its unit, and a cell for every row. The text is harmless but not yet escaped."""

    heading: str
    cells: tuple[str, ...]
    right: bool = True
    """Numbers are aligned on the right."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length, and sentences that belong under them."""

    columns: tuple[Column, ...]
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


def build(
    records: Sequence[RunRecord],
    baseline: RunRecord | None = None,
    *,
    repeats_as_one: bool = False,
    closings: Sequence[str] = (),
    scaling: Scaling = nothing_known,
) -> Table:
    """The table of `records`, all of one job, in their order, with differences to `baseline` where one is given.

    `repeats_as_one` folds completed repeats into a row of medians (samples/s, time), the highest memory, and mean ±
    standard deviation over seeds (loss, accuracy). The baseline need not be among the records. `closings` are the
    sentences of the experiments whose runs these are, which come last. `scaling` knows that of runs on several GPUs.
    """
    rows = fold(records) if repeats_as_one else [row_of([record]) for record in records]
    columns = [*_knob_columns(rows), *_figure_columns(rows, scaling_entry(scaling))]
    notes = _whose(rows)
    if any(row.first.config.answers for row in rows):
        notes += answer_notes(rows)
    elif any(row.steady for row in rows):
        steady_only = all(row.steady or not row.samples_per_s for row in rows)
        other = "" if steady_only else "; without ±: of the whole training"
        what = "updates, after warm-up" if all(len(row.records) == 1 for row in rows) else "updates or repeats"
        notes.append(f"samples/s: median ± spread of {what}{other}.")
    if any(figures.ACCURACY.mark(row.first) for row in rows):
        notes.append(f"accuracy {figures.NO_BETTER}: no better than always answering the majority class.")
    if any(row.first.best_update not in (None, row.first.updates) for row in rows):
        notes.append("accuracy and macro-F1: of the last evaluation, which was not the best in every run.")
    notes += [*_several(rows), *_of_scripts(rows)]
    if baseline is not None and rows and baseline.config.job != rows[0].first.config.job:
        whose = "a script's" if baseline.config.is_script else f"to {baseline.config.job}"
        notes.append(f"No differences to run {baseline.run_id}, whose job is {whose}.")
    elif baseline is not None:
        base = next((row for row in rows if baseline.run_id in row.run_ids), row_of([baseline]))
        columns += _delta_columns(rows, base)
        marks = f"{WITHIN_NOISE} within noise, {NO_VERDICT} no verdict: not enough data, or disturbed"
        notes.append(f"Δ: difference to run {_ids(base)}; {marks}.")
    # whose process it was is nobody's business in a paper; JSON and CSV have it
    told = [
        (record, " and ".join(f"{mark.word} {mark.how_long}".rstrip() for mark in marks_of(record)))
        for record in records
    ]
    notes += [f"Run {record.run_id} was {marks}." for record, marks in told if marks]
    return Table(tuple(columns), (*notes, *map(one_line, closings)))


def by_job(
    records: Sequence[RunRecord],
    baselines: Sequence[RunRecord] = (),
    *,
    repeats_as_one: bool = False,
    closings: Sequence[str] = (),
    scaling: Scaling = nothing_known,
) -> list[tuple[str, Table]]:
    """A table for every job that `records` are of, as `build` makes it, each with a title where there are two.

    Its differences are to its own of the `baselines`. The `closings` come last.
    """
    parts = answer_entries.by_job(records) or [(TRAIN, list(records))]
    tables = []
    for index, (job, runs) in enumerate(parts):
        last = index == len(parts) - 1
        table = build(
            runs,
            base_of(job, baselines),
            repeats_as_one=repeats_as_one,
            closings=closings if last else (),
            scaling=scaling,
        )
        tables.append((answer_entries.TITLES[job] if len(parts) > 1 else "", table))
    return tables


def base_of(job: str, baselines: Sequence[RunRecord]) -> RunRecord | None:
    """What the runs of a job are compared with: its own baseline, else another job's, which is then told."""
    own = (base for base in baselines if base.config.job == job)
    return next(own, baselines[0] if baselines else None)


def _ids(row: Row) -> str:
    """Its runs, neighbours as a range: "3, 5–8"."""
    ranges: list[list[int]] = []
    for run_id in sorted(row.run_ids):
        if ranges and run_id == ranges[-1][-1] + 1:
            ranges[-1].append(run_id)
        else:
            ranges.append([run_id])
    return ", ".join(f"{ids[0]}–{ids[-1]}" if len(ids) > 1 else str(ids[0]) for ids in ranges)


def _knob_columns(rows: Sequence[Row]) -> list[Column]:
    """The number and the model, the knobs of every table, and whatever else differs among the rows."""
    firsts = [row.first for row in rows]
    is_script = any(record.config.is_script for record in firsts)
    columns = [
        _column(figures.RUN_ID, map(_ids, rows)),
        _column(script_entries.NAME, map(script_entries.NAME.of, firsts))
        if is_script
        else _column(figures.MODEL, (one_line(model_name(record.config.model)) for record in firsts)),
    ]
    devices = [one_line(row.first.device.name) if row.first.device else UNKNOWN for row in rows]
    if len(set(devices)) > 1:
        columns.append(Column("device", tuple(devices), right=False))
    columns += [_column(entry, map(entry.of, firsts)) for entry in figures.places(firsts)]
    if is_script:
        turned = (*script_entries.arguments(firsts), *script_entries.knobs(firsts))
        return columns + [_column(entry, map(entry.of, firsts)) for entry in turned]
    folded = {"seed"} if any(len(row.records) > 1 for row in rows) else set()
    told = {"model", "device", "workload", *(entry.name for entry in _ALWAYS)} | folded
    names = [one_line(data_name(row.first.config)) for row in rows]
    if len(set(names)) > 1:
        columns.append(Column(figures.DATA.heading, tuple(names), right=False))
        if len({row.first.config.data for row in rows}) == len(set(names)):
            told.add("data")  # else only their folders tell some of them apart
    several = (figures.GPUS, figures.PARALLEL) if any(is_on_several(row.first) for row in rows) else ()
    told |= {entry.name for entry in several}
    if answers := any(row.first.config.answers for row in rows):
        told |= _TOLD_OF_ANSWERS
    others = [knob_entry(name) for name in KNOBS if name not in told]
    differing = [entry for entry in others if len({entry.read(row.first) for row in rows}) > 1]
    always = answer_entries.shown([row.first for row in rows], answer_entries.KNOB_ENTRIES) if answers else _ALWAYS
    entries = (*always, *several, *differing)
    return columns + [_column(entry, (entry.of(row.first) for row in rows)) for entry in entries]


_ALWAYS = (figures.BATCH, figures.ACCUMULATION, figures.CHECKPOINTING, figures.PRECISION)
"""Knobs that every table shows."""


_TOLD_OF_ANSWERS = {
    "weights",
    "kv_cache",
    "kv_dtype",
    "speculate",
    "speculate_tokens",
    "max_new_tokens",
    "prompt_len",
    "requests",
}
"""Knobs that the columns of answers tell already, or that say how long they were asked."""


def _column(entry: Entry, cells: Iterable[str], heading: str = "") -> Column:
    return Column(heading or entry.heading, tuple(cells), right=not entry.left)


def _figure_columns(rows: Sequence[Row], scaling: Entry) -> list[Column]:
    records = _records(rows)
    if any(record.config.answers for record in records):
        entries = answer_entries.shown(records)
    elif any(record.config.is_script for record in records):
        entries = [entry for entry in script_entries.entries(records) if entry is not figures.WAITING]
    else:
        entries = [e for e in _FIGURES if e not in _WHERE_KNOWN or any(figure_of(row, e) for row in rows)]
    columns = [_column(entry, (_cell(row, entry) for row in rows), heading_of(entry, records)) for entry in entries]
    for entry in (figures.WAITING, scaling):
        if any(entry.read(record) is not None for record in records):
            cells = (_cell(row, entry) for row in rows)
            columns.append(_column(entry, cells, heading_of(entry, records)))
    if any(len(row.records) == 1 and accuracy_interval(row.first) for row in rows):
        columns.append(_column(figures.INTERVAL, (_interval(row) for row in rows)))
    return [*columns, _column(figures.STATUS, (figures.STATUS.of(row.first) for row in rows))]


def _several(rows: Sequence[Row]) -> list[str]:
    """What is to be known of runs on several GPUs."""
    if not any(is_on_several(row.first) for row in rows):
        return []
    marked = any(figures.MEMORY.mark(row.first) for row in rows)
    fullest = ", the fullest's where they differ (r1: rank 1)" if marked else ""
    return [f"Several GPUs: batch and memory are per GPU{fullest}; samples/s are those of all."]


def _of_scripts(rows: Sequence[Row]) -> list[str]:
    """How the figures of scripts are to be read."""
    scripts = [row.first for row in rows if row.first.config.is_script]
    if not scripts:
        return []
    notes = [
        "Scripts of the user's own, watched from inside: – is what was not seen, or what the command does not say."
    ]
    if any(not each.config.says("batch_size") and script_entries.BATCH.read(each) is not None for each in scripts):
        notes.append("batch: where the command does not carry it, as it was seen.")
    if about := about_seeds(rows):
        notes.append(about)
    return notes


def _whose(rows: Sequence[Row]) -> list[str]:
    """Whose the times and speeds are, where a virtual GPU is among the devices."""
    virtual = [row for row in rows if is_virtual(row.records)]
    if not virtual:
        return []
    runs = "" if len(virtual) == len(rows) else f"runs {', '.join(map(_ids, virtual))}: "
    card = "; card: the card's own, by forecast (~), without evaluation" if any(row.card_speed for row in rows) else ""
    timed = "times and tokens/s" if virtual[0].first.config.answers else "time and samples/s"
    return [f"{runs}a virtual GPU, so {timed} are those of the {CPU} in its place{card}."]


_FIGURES = (
    figures.TIME,
    figures.SPEED,
    figures.CARD_TIME,
    figures.CARD_SPEED,
    figures.MEMORY,
    figures.SHARE,
    figures.LOSS,
    figures.ACCURACY,
    figures.MACRO_F1,
    figures.ENERGY,
    figures.PER_SAMPLE,
)
_WHERE_KNOWN = (figures.CARD_TIME, figures.CARD_SPEED, figures.MACRO_F1, figures.ENERGY, figures.PER_SAMPLE)
"""Left out where no row knows them."""


def _records(rows: Iterable[Row]) -> list[RunRecord]:
    return [record for row in rows for record in row.records]


def _cell(row: Row, entry: Entry) -> str:
    figure = figure_of(row, entry)
    if figure is None:
        return UNKNOWN
    return entry.with_spread(figure.value, figure.spread) + entry.mark(row.first)


def _interval(row: Row) -> str:
    """That of one run's accuracy; over seeds their deviation stands beside it."""
    return figures.INTERVAL.of(row.first) if len(row.records) == 1 else UNKNOWN


def _delta_columns(rows: Sequence[Row], base: Row) -> list[Column]:
    """A column for every quantity that can be compared in some row; time per sample if one row did other work."""
    comparisons = [compare(row, base) for row in rows]
    per_sample = any(comparison.per_sample for comparison in comparisons)
    if per_sample:
        comparisons = [compare(row, base, per_sample=True) for row in rows]
    records = [*_records(rows), *base.records]
    columns = []
    for quantity in Quantity:
        if any(comparison.deltas[quantity].difference is not None for comparison in comparisons):
            rates = quantity in _RATES
            label = heading_of(quantity.value, records) if rates else label_of(quantity.value, records)
            label += " per sample" if per_sample and quantity is Quantity.TIME else ""
            heading = f"Δ {label}" if quantity in _ABSOLUTE else f"Δ {label} %"
            columns.append(Column(heading, tuple(_delta_cell(comparison, quantity) for comparison in comparisons)))
    return columns


_RATES = (
    Quantity.SPEED,
    Quantity.CARD_SPEED,
    Quantity.ENERGY,
    Quantity.GENERATION,
    Quantity.PROMPT,
    Quantity.TOKEN_ENERGY,
)
_ABSOLUTE = (Quantity.LOSS, Quantity.ACCURACY)
"""Differences that are told in the quantity's own unit, not in percent."""


def _delta_cell(comparison: Comparison, quantity: Quantity) -> str:
    if comparison.row is comparison.baseline:
        return ""
    delta = comparison.deltas[quantity]
    text = _difference(delta)
    mark = MARKS.get(delta.verdict, "")
    return text if text == UNKNOWN or not mark else f"{text} {mark}"


def _difference(delta: Delta) -> str:
    if delta.quantity in _ABSOLUTE:
        return signed(delta.difference, delta.quantity.value.digits or 0)
    return signed(delta.percent, 1)
