"""A plan's tables at its end: repeats with their spread, and this machine beside the lecture. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.compare.compare import Row, figure_of, fold
from engine.contract.figures import ACCURACY, LOSS, MEAN_SPEED, MEMORY, SPEED, STATUS, TIME, Entry, heading_of, short_of
from engine.contract.numbers import UNKNOWN
from engine.contract.records import Outcome, RunRecord
from engine.plans.course import NAMED, Plan, PlannedRun, label_of
from engine.plans.lecture import MEMORY_MIB, SOURCE, TABLES, LectureRow, Pair, beside, same_memory
from tui.console.sweep_rows import LABEL
from tui.drawing.text import clean

if TYPE_CHECKING:
    from rich.table import Table


def repeats_table(records: Sequence[RunRecord]) -> Table | None:
    """One row per configuration that was run more than once, with the spread; None where none was."""
    rows = fold(records)
    if all(len(row.records) == 1 for row in rows):
        return None
    drawn = _table("runs", "n", *(heading_of(entry, records) for entry in _FIGURES), STATUS.heading)
    for row in rows:
        runs = ", ".join(str(run_id) for run_id in row.run_ids)
        _add(drawn, runs, str(len(row.records)), *(_cell(row, entry) for entry in _FIGURES), STATUS.of(row.first))
    return drawn


_FIGURES = (TIME, SPEED, MEMORY, LOSS, ACCURACY)


def _cell(row: Row | None, entry: Entry) -> str:
    """A row's figure, with its spread over repeats where there are any."""
    figure = figure_of(row, entry) if row is not None else None
    if figure is None:
        return UNKNOWN
    return entry.with_spread(figure.value, figure.spread if figure.n > 1 else None)


def plan_table(plan: Plan, records: Sequence[RunRecord], *, narrow: bool = False) -> tuple[Table, list[str]] | None:
    """This machine's rows, beside the lecture's where it has a table of this plan, and sentences on how to read them.

    `narrow` keeps what the experiment is about within 72 cells. None for a plan that is not one of the lecture's.
    """
    if plan.name not in NAMED:
        return None
    rows = _table_rows(plan, records)
    printed = plan.name in TABLES
    ends = not narrow and any(pair.lecture and pair.lecture.outcome is not Outcome.COMPLETED for _, pair in rows)
    entries = _entries([pair for _, pair in rows], narrow)
    headings = [(narrow and short_of(entry, records)) or heading_of(entry, records) for entry in entries]
    if printed:  # the unit above, whose figure below
        heads = [head for heading in headings for head in (f"{heading}\nhere", "\nlecture")]
        heads += [f"{STATUS.heading}\nhere", *([f"{STATUS.heading}\nlecture"] if ends else [])]
        drawn = _table(f"{TABLES[plan.name].heading}\n", *heads)
    else:
        drawn = _table(clean(plan.title), *headings, STATUS.heading)
    for label, pair in rows:
        row = fold(pair.records)[0] if pair.records else None
        cells = []
        for entry in entries:
            cells += [_cell(row, entry), *([_there(pair, entry, narrow)] if printed else [])]
        ended = UNKNOWN if row is None else row.first.outcome.words if narrow else STATUS.of(row.first)
        there = [pair.lecture.outcome.words if pair.lecture else UNKNOWN] if ends else []
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


_PRINTED: dict[Entry, Callable[[LectureRow], float | None]] = {
    TIME: lambda row: row.time_s,
    MEAN_SPEED: lambda row: row.samples_per_s,
    MEMORY: lambda row: row.memory_mib,
    LOSS: lambda row: row.train_loss,
    ACCURACY: lambda row: row.eval_accuracy,
}
"""What the lecture printed: its samples/s are those of the whole training."""


def _entries(pairs: Sequence[Pair], narrow: bool) -> list[Entry]:
    """The figures that the lecture printed, and memory; this machine's where it printed nothing."""
    if all(pair.lecture is None for pair in pairs):
        entries = [TIME, SPEED, MEMORY, LOSS]
        return entries[1:] if narrow else entries
    printed = [entry for entry in _PRINTED if any(_printed(pair, entry) is not None for pair in pairs)]
    entries = [entry for entry in _PRINTED if entry is MEMORY or entry in printed]
    if narrow:
        learnt = LOSS in entries or ACCURACY in entries
        entries = [entry for entry in entries if entry is not TIME and not (learnt and entry is MEAN_SPEED)]
    return entries


def _printed(pair: Pair, entry: Entry) -> float | None:
    return None if pair.lecture is None else _PRINTED[entry](pair.lecture)


def _there(pair: Pair, entry: Entry, narrow: bool) -> str:
    """The lecture's figure; where no column says how its run ended, memory tells that it did not fit."""
    if narrow and entry is MEMORY and pair.lecture and pair.lecture.outcome is Outcome.OUT_OF_MEMORY:
        return f"> {MEMORY_MIB}"
    return entry.write(_printed(pair, entry))


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
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        left = index == 0 or name.startswith(STATUS.heading)
        drawn.add_column(Text(name), justify="left" if left else "right", no_wrap=True)
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
