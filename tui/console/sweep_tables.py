"""A plan's tables at its end: repeats with their spread, and this machine beside the lecture. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.compare.compare import Figure, Row, fold
from engine.contract.numbers import UNKNOWN, duration, loss, mib, number, plus_minus, rate
from engine.contract.records import Outcome, RunRecord
from engine.gpus.units import MIB
from engine.plans.course import NAMED, Plan, PlannedRun, label_of
from engine.plans.lecture import MEMORY_MIB, SOURCE, TABLES, LectureRow, Pair, beside, same_memory
from tui.console.sweep_rows import LABEL, status
from tui.drawing.text import clean
from tui.state.state import OUTCOME_WORDS

if TYPE_CHECKING:
    from rich.table import Table


def repeats_table(records: Sequence[RunRecord]) -> Table | None:
    """One row per configuration that was run more than once, with the spread; None where none was."""
    rows = fold(records)
    if all(len(row.records) == 1 for row in rows):
        return None
    drawn = _table("runs", "n", "time s", "samples/s", "MiB", "loss", "accuracy", "status")
    for row in rows:
        runs = ", ".join(str(run_id) for run_id in row.run_ids)
        _add(drawn, runs, str(len(row.records)), *_measured(row), status(row.first))
    return drawn


def _measured(row: Row) -> tuple[str, ...]:
    time_s, speed = row.train_runtime_s, row.samples_per_s
    learnt, accuracy = row.train_loss, row.eval_accuracy
    return (
        plus_minus(time_s.value, time_s.spread) if time_s else UNKNOWN,
        plus_minus(speed.value, speed.spread) if speed else UNKNOWN,
        mib(row.peak_used),
        plus_minus(learnt.value, learnt.spread) if learnt else UNKNOWN,
        plus_minus(accuracy.value, accuracy.spread) if accuracy else UNKNOWN,
    )


def plan_table(plan: Plan, records: Sequence[RunRecord], *, narrow: bool = False) -> tuple[Table, list[str]] | None:
    """This machine's rows, beside the lecture's where it has a table of this plan, and sentences on how to read them.

    `narrow` keeps what the experiment is about within 72 cells. None for a plan that is not one of the lecture's.
    """
    if plan.name not in NAMED:
        return None
    rows = _table_rows(plan, records)
    printed = plan.name in TABLES
    ends = not narrow and any(pair.lecture and pair.lecture.outcome is not Outcome.COMPLETED for _, pair in rows)
    columns = _columns([pair for _, pair in rows], narrow)
    if printed:  # the unit above, whose figure below
        heads = [head for column in columns for head in (f"{column.head}\nhere", "\nlecture")]
        heads += ["status\nhere", *(["status\nlecture"] if ends else [])]
        drawn = _table(f"{TABLES[plan.name].heading}\n", *heads)
    else:
        drawn = _table(clean(plan.title), *(column.head for column in columns), "status")
    for label, pair in rows:
        row = fold(pair.records)[0] if pair.records else None
        cells = []
        for column in columns:
            cells += [_here(row, column), *([_there(pair, column, narrow)] if printed else [])]
        ended = UNKNOWN if row is None else OUTCOME_WORDS[row.first.outcome] if narrow else status(row.first)
        there = [OUTCOME_WORDS[pair.lecture.outcome] if pair.lecture else UNKNOWN] if ends else []
        _add(drawn, label, *cells, ended, *there)
    return drawn, _notes(plan, records)


def _table_rows(plan: Plan, records: Sequence[RunRecord]) -> list[tuple[str, Pair]]:
    """Every row by its name: the lecture's and this machine's, or the plan's where the lecture has no table."""
    if plan.name in TABLES:
        pairs = beside(plan.name, records)
        return [(_label(plan, pair, pairs), pair) for pair in pairs]
    return [
        (clean(run.label, LABEL), Pair({}, None, [record for record in records if _is_of(record, run)]))
        for run in plan.runs
        if run.repeat == 1
    ]


def _is_of(record: RunRecord, run: PlannedRun) -> bool:
    """Whether a run is this one of the plan, or a repeat of it."""
    return run.skip is None and run.config.with_values(seed=record.config.seed) == record.config


@dataclass(frozen=True, slots=True)
class _Column:
    """A figure of both tables."""

    head: str
    printed: Callable[[LectureRow], float | None]
    measured: Callable[[Row], Figure | None]
    show: Callable[[float | None], str]


def _whole(value: float | None) -> str:
    return mib(None if value is None else value * MIB)


def _mib(n_bytes: int | None) -> Figure | None:
    return None if n_bytes is None else Figure(n_bytes / MIB)


_TIME = _Column("time s", lambda row: row.time_s, lambda row: row.train_runtime_s, duration)
_SPEED = _Column("samples/s", lambda row: row.samples_per_s, lambda row: row.samples_per_s, rate)
_MEMORY = _Column("MiB", lambda row: row.memory_mib, lambda row: _mib(row.peak_used), _whole)
_LEARNT = (
    _Column("loss", lambda row: row.train_loss, lambda row: row.train_loss, loss),
    _Column("accuracy", lambda row: row.eval_accuracy, lambda row: row.eval_accuracy, lambda value: number(value, 3)),
)
_COLUMNS = (_TIME, _SPEED, _MEMORY, *_LEARNT)


def _columns(pairs: Sequence[Pair], narrow: bool) -> list[_Column]:
    """The figures that the lecture printed, and memory; all where it printed nothing."""
    shown = [
        column for column in _COLUMNS if column is _MEMORY or any(_printed(pair, column) is not None for pair in pairs)
    ]
    if all(pair.lecture is None for pair in pairs):
        shown = list(_COLUMNS[:-1])
    if narrow:
        learnt = any(column in _LEARNT for column in shown) and any(pair.lecture for pair in pairs)
        shown = [column for column in shown if column is not _TIME and not (learnt and column is _SPEED)]
    return shown


def _printed(pair: Pair, column: _Column) -> float | None:
    return None if pair.lecture is None else column.printed(pair.lecture)


def _there(pair: Pair, column: _Column, narrow: bool) -> str:
    """The lecture's figure; where no column says how its run ended, memory tells that it did not fit."""
    if narrow and column is _MEMORY and pair.lecture and pair.lecture.outcome is Outcome.OUT_OF_MEMORY:
        return f"> {MEMORY_MIB}"
    return column.show(_printed(pair, column))


def _here(row: Row | None, column: _Column) -> str:
    figure = column.measured(row) if row is not None else None
    if figure is None:
        return UNKNOWN
    return plus_minus(figure.value, figure.spread) if figure.n > 1 else column.show(figure.value)


def _label(plan: Plan, pair: Pair, pairs: Sequence[Pair]) -> str:
    """The row's name in the plan; where it was not run, the knobs that differ within the table."""
    for run in plan.runs:
        if any(_is_of(record, run) for record in pair.records):
            return clean(run.label, LABEL)
    names = [name for name in pair.knobs if len({other.knobs[name] for other in pairs}) > 1]
    return clean(label_of({name: pair.knobs[name] for name in names}), LABEL)


def _notes(plan: Plan, records: Sequence[RunRecord]) -> list[str]:
    device = next((record.device for record in records if record.device), None)
    on = f", on {clean(device.name)} ({device.kind})" if device is not None else ""
    notes = [f"Here: {clean(plan.sizes)}{on}."]
    table = TABLES.get(plan.name)
    if table is None:
        return [*notes, "The lecture names this technique and has no figures of it."]
    c = table.config
    notes.append(f"The lecture: {c.model}, {c.samples:,} samples × {c.seq_len} tokens, {MEMORY_MIB} MiB. {SOURCE}.")
    if device is None:
        return notes
    if plan.name == "bert-large":
        notes.append("PyTorch of 2023 needed more in the optimizer's step: traintop forecast --stack lecture-2023.")
    if device.kind == "cpu":
        notes.append("On a CPU the memory is the process's RAM: only trends may be compared.")
    elif not all(same_memory(record.config, table) for record in records):
        notes.append("Another model or other sequences: only trends may be compared. --scale short has the lecture's.")
    elif device.kind == "virtual":
        notes.append("Memory may be compared; time and samples/s are this CPU's.")
    return notes


def _table(*columns: str) -> Table:
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        drawn.add_column(name, justify="left" if index == 0 or name.startswith("status") else "right", no_wrap=True)
    return drawn


def _add(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(clean(cell)) for cell in cells))


def table_json(plan: Plan, records: Sequence[RunRecord]) -> dict[str, object] | None:
    """The lecture's table beside this machine's as JSON: run numbers here, the printed numbers there."""
    pairs = beside(plan.name, records)
    if not pairs:
        return None
    rows = []
    for pair in pairs:
        row = pair.lecture
        printed = (
            None
            if row is None
            else {
                "time_s": row.time_s,
                "samples_per_s": row.samples_per_s,
                "memory_mib": row.memory_mib,
                "train_loss": row.train_loss,
                "eval_accuracy": row.eval_accuracy,
                "outcome": row.outcome.value,
            }
        )
        rows.append({"knobs": pair.knobs, "run_ids": [r.run_id for r in pair.records], "lecture": printed})
    return {"event": "lecture_table", "plan": plan.name, "sizes": plan.sizes, "source": SOURCE, "rows": rows}
