"""Runs as a table of text, before it is Markdown or LaTeX: which columns, in which units, with how many digits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from engine.compare.compare import Comparison, Delta, Figure, Quantity, Row, Verdict, compare, fold, row_of
from engine.contract.config import KNOBS
from engine.contract.knob import shown
from engine.contract.numbers import UNKNOWN, digits_of, fixed, mib, plus_minus, signed
from engine.contract.presets import model_name
from engine.contract.records import RunRecord
from engine.contract.text import one_line

WITHIN_NOISE, NO_VERDICT = "≈", "?"


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


def build(records: Sequence[RunRecord], baseline: RunRecord | None = None, *, repeats_as_one: bool = False) -> Table:
    """The table of `records`, in their order, with differences to `baseline` where one is given.

    `repeats_as_one` folds completed repeats into a row of medians (samples/s, time), the highest memory, and mean ±
    standard deviation over seeds (loss, accuracy). The baseline need not be among the records.
    """
    rows = fold(records) if repeats_as_one else [row_of([record]) for record in records]
    columns = [*_knob_columns(rows), *_figure_columns(rows)]
    notes = []
    if any(row.steady for row in rows):
        steady_only = all(row.steady or not row.samples_per_s for row in rows)
        other = "" if steady_only else "; without ±: of the whole training"
        what = "updates, after warm-up" if all(len(row.records) == 1 for row in rows) else "updates or repeats"
        notes.append(f"samples/s: median ± spread of {what}{other}.")
    if baseline is not None:
        base = next((row for row in rows if baseline.run_id in row.run_ids), row_of([baseline]))
        columns += _delta_columns(rows, base)
        marks = f"{WITHIN_NOISE} within noise, {NO_VERDICT} not enough data for a verdict"
        notes.append(f"Δ: difference to run {_ids(base)}; {marks}.")
    return Table(tuple(columns), tuple(notes))


def _ids(row: Row) -> str:
    """Its runs, neighbours as a range: "3, 5–8"."""
    ranges: list[list[int]] = []
    for run_id in sorted(row.run_ids):
        if ranges and run_id == ranges[-1][-1] + 1:
            ranges[-1].append(run_id)
        else:
            ranges.append([run_id])
    return ", ".join(f"{ids[0]}–{ids[-1]}" if len(ids) > 1 else str(ids[0]) for ids in ranges)


_ALWAYS = {
    "batch_size": "batch",
    "gradient_accumulation_steps": "acc",
    "gradient_checkpointing": "ckpt",
    "precision": "prec",
}
"""Knobs that every table shows, and their headings."""


def _knob_columns(rows: Sequence[Row]) -> list[Column]:
    """The number and the model, the knobs of every table, and whatever else differs among the rows."""
    columns = [
        Column("#", tuple(map(_ids, rows))),
        _texts("model", (one_line(model_name(row.first.config.model)) for row in rows)),
    ]
    devices = [one_line(row.first.device.name) if row.first.device else UNKNOWN for row in rows]
    if len(set(devices)) > 1:
        columns.append(_texts("device", devices))
    folded = {"seed"} if any(len(row.records) > 1 for row in rows) else set()
    for name in (*_ALWAYS, *(name for name in KNOBS if name not in {*_ALWAYS, "model", "device"} | folded)):
        values = [getattr(row.first.config, name) for row in rows]
        if name not in _ALWAYS and len(set(values)) < 2:
            continue
        knob = KNOBS[name]
        heading = _ALWAYS.get(name, f"{knob.label} {knob.unit}".strip())
        columns.append(Column(heading, tuple(shown(knob, value) for value in values), right=knob.kind in (int, float)))
    return columns


def _texts(heading: str, cells: Iterable[str]) -> Column:
    return Column(heading, tuple(cells), right=False)


def _figure_columns(rows: Sequence[Row]) -> list[Column]:
    cells: dict[str, Callable[[Row], str]] = {
        "time s": lambda row: _figure(row.train_runtime_s, 2),
        "samples/s": lambda row: _figure(row.steady or row.samples_per_s),
        "memory MiB": lambda row: mib(row.peak_used),
        "% of total": _share,
        "loss": lambda row: _figure(row.train_loss, 3),
        "accuracy": lambda row: _figure(row.eval_accuracy, 3),
    }
    columns = [Column(heading, tuple(map(cell, rows))) for heading, cell in cells.items()]
    return [*columns, _texts("outcome", (row.first.outcome.value.replace("_", " ") for row in rows))]


def _figure(figure: Figure | None, digits: int | None = None) -> str:
    if figure is None:
        return UNKNOWN
    if digits is not None and 0 < abs(figure.value) < 10**-digits:
        digits = digits_of(figure.value)  # a loss of 0.00029 is not 0.000
    return plus_minus(figure.value, figure.spread, digits)


def _share(row: Row) -> str:
    total = row.first.memory_total
    return fixed(100 * row.peak_used / total, 1) if row.peak_used is not None and total else UNKNOWN


def _delta_columns(rows: Sequence[Row], base: Row) -> list[Column]:
    """A column for every quantity that can be compared in some row; time per sample if one row did other work."""
    comparisons = [compare(row, base) for row in rows]
    per_sample = any(comparison.per_sample for comparison in comparisons)
    if per_sample:
        comparisons = [compare(row, base, per_sample=True) for row in rows]
    headings = {
        Quantity.MEMORY: "Δ memory %",
        Quantity.SPEED: "Δ samples/s %",
        Quantity.TIME: "Δ time per sample %" if per_sample else "Δ time %",
        Quantity.LOSS: "Δ loss",
        Quantity.ACCURACY: "Δ accuracy",
    }
    columns = []
    for quantity, heading in headings.items():
        if any(comparison.deltas[quantity].difference is not None for comparison in comparisons):
            columns.append(Column(heading, tuple(_delta_cell(comparison, quantity) for comparison in comparisons)))
    return columns


def _delta_cell(comparison: Comparison, quantity: Quantity) -> str:
    if comparison.row is comparison.baseline:
        return ""
    delta = comparison.deltas[quantity]
    text = _difference(delta)
    mark = {Verdict.SAME: WITHIN_NOISE, Verdict.NOT_ENOUGH_DATA: NO_VERDICT}.get(delta.verdict, "")
    return text if text == UNKNOWN or not mark else f"{text} {mark}"


def _difference(delta: Delta) -> str:
    if delta.quantity in (Quantity.LOSS, Quantity.ACCURACY):
        return signed(delta.difference, 3)
    return signed(delta.percent, 1)
