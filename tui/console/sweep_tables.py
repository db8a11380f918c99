"""A plan's tables at its end: repeats with their spread, and this machine beside the lecture. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.compare.closing import closing
from engine.compare.compare import Row, figure_of, fold
from engine.compare.scaling import Scaling, nothing_known
from engine.contract.answer_entries import (
    ACCEPTANCE,
    AGREEMENT,
    HIT_RATE,
    KV_MIB,
    PER_FORWARD,
    PP,
    TG,
    TPOT_P50,
    TTFT_P50,
    TTFT_P99,
    shown,
)
from engine.contract.figures import (
    ACCURACY,
    CARD_TIME,
    LOSS,
    MEAN_SPEED,
    MEMORY,
    SPEED,
    STATUS,
    TIME,
    WAITING,
    Entry,
    heading_of,
    label_of,
    scaling_entry,
    short_of,
    unit_of,
)
from engine.contract.forecast_types import FITS, OUT_OF_MEMORY
from engine.contract.numbers import UNKNOWN, fixed, number
from engine.contract.records import Outcome, RunRecord
from engine.gpus.units import to_mib
from engine.plans.course import Plan, PlannedRun
from engine.plans.course import label_of as knobs_label
from engine.plans.lecture import MEMORY_MIB, SOURCE, TABLES, LectureRow, Pair, beside, rows_of, same_memory
from tui.console.sweep_rows import LABEL
from tui.drawing.text import clean

if TYPE_CHECKING:
    from rich.table import Table


def repeats_table(records: Sequence[RunRecord], scaling: Scaling = nothing_known) -> Table | None:
    """One row per configuration that was run more than once, with the spread; None where none was.

    `scaling` knows that of runs on several GPUs.
    """
    rows = fold(records)
    if all(len(row.records) == 1 for row in rows):
        return None
    entries = (*_figures(records), *_together(records, scaling))
    drawn = _table("runs", "n", *(heading_of(entry, records) for entry in entries), STATUS.heading)
    for row in rows:
        runs = ", ".join(str(run_id) for run_id in row.run_ids)
        _add(drawn, runs, str(len(row.records)), *(_cell(row, entry) for entry in entries), STATUS.of(row.first))
    return drawn


_FIGURES = (TIME, SPEED, MEMORY, LOSS, ACCURACY)
_OF_ANSWERS = (
    PP,
    TG,
    SPEED,
    TTFT_P50,
    TTFT_P99,
    TPOT_P50,
    PER_FORWARD,
    ACCEPTANCE,
    HIT_RATE,
    KV_MIB,
    MEMORY,
    AGREEMENT,
)
_OF_ANSWERS_NARROW = (TG, SPEED, TTFT_P50, TPOT_P50, KV_MIB, MEMORY)


def _figures(records: Sequence[RunRecord], narrow: bool = False) -> Sequence[Entry]:
    """What the runs of a plan are about."""
    if not any(record.config.answers for record in records):
        return _FIGURES
    return shown(records, _OF_ANSWERS_NARROW if narrow else _OF_ANSWERS)


def _together(records: Sequence[RunRecord], scaling: Scaling) -> list[Entry]:
    """What is known of runs on several GPUs."""
    return [entry for entry in (WAITING, scaling_entry(scaling)) if any(entry.read(r) is not None for r in records)]


def _cell(row: Row | None, entry: Entry) -> str:
    """A row's figure, with its spread over repeats where there are any."""
    figure = figure_of(row, entry) if row is not None else None
    if figure is None:
        return UNKNOWN
    return entry.with_spread(figure.value, figure.spread if figure.n > 1 else None)


def plan_table(
    plan: Plan, records: Sequence[RunRecord], *, narrow: bool = False, scaling: Scaling = nothing_known
) -> tuple[Table, list[str]] | None:
    """This machine's rows, beside the lecture's where it has a table of this plan, and sentences: what came of it, and
    how to read it.

    `narrow` keeps what the experiment is about within 72 cells. None for a plan that is not one of the lecture's.
    `scaling` knows that of runs on several GPUs.
    """
    point = closing(plan, records)
    if point is None:
        return None
    rows = _table_rows(plan, records)
    pairs = [pair for _, pair in rows]
    printed = plan.name in TABLES
    ends = not narrow and any(pair.lecture and pair.lecture.outcome is not Outcome.COMPLETED for pair in pairs)
    entries = [*_entries(pairs, narrow, records), *([] if narrow else _together(records, scaling))]
    counts = _counts(pairs, narrow)
    heads = [name for name, _ in counts]
    for entry in entries:
        heading = narrow and short_of(entry, records)
        heading = heading or (
            f"{label_of(entry, records)}\n{unit_of(entry, records)}" if entry.unit else heading_of(entry, records)
        )
        heads += [f"{heading}\nhere", "lecture"] if printed else [heading]
    has_card = not narrow and any(_card_s(pair) for pair in pairs)
    heads += ["card s\nby\nforecast"] if has_card else []
    heads += [f"{STATUS.heading}\nhere", *(["lecture"] if ends else [])] if printed else [STATUS.heading]
    title = TABLES[plan.name].heading if printed else clean(plan.title)
    drawn = _table(title.split()[-1] if narrow else title, *heads, n_words=1 + ends)
    for label, pair in rows:
        row = fold(pair.records)[0] if pair.records else None
        cells = [of(pair) for _, of in counts]
        for entry in entries:
            cells += [_here(pair, row, entry), *([_there(pair, entry, narrow)] if printed else [])]
        cells += [CARD_TIME.write(_card_s(pair))] if has_card else []
        there = [pair.lecture.outcome.words if pair.lecture else UNKNOWN] if ends else []
        _add(drawn, label, *cells, _ended(pair, row, narrow), *there)
    return drawn, [f"→ {point}", *_notes(plan, records, pairs)]


def _counts(pairs: Sequence[Pair], narrow: bool) -> list[tuple[str, Callable[[Pair], str]]]:
    """Columns of the effective batch and of the updates, by their headings."""
    accumulates = any("gradient_accumulation_steps" in pair.knobs for pair in pairs)
    updates = ("updates", _updates)
    if _answers(pairs):
        return []
    if narrow:
        return [updates] if accumulates else []
    return [("eff.\nbatch", _effective), updates]


def _answers(pairs: Sequence[Pair]) -> bool:
    """Whether the rows are of a plan that answers."""
    return any(pair.run is not None and pair.run.config.answers for pair in pairs)


def _effective(pair: Pair) -> str:
    """Samples behind an update."""
    if pair.run is None:
        return UNKNOWN
    return number(pair.run.config.effective_batch_size)


def _updates(pair: Pair) -> str:
    return number(pair.records[0].updates) if pair.records else UNKNOWN


def _here(pair: Pair, row: Row | None, entry: Entry) -> str:
    """What was measured; the memory of a row that was only forecast is the forecast's."""
    if entry is MEMORY and row is None and _is_forecast(pair) and pair.run and pair.run.foretold:
        return f"~{fixed(to_mib(pair.run.foretold.peak_used))}"
    return _cell(row, entry)


def _is_forecast(pair: Pair) -> bool:
    """Whether a forecast stands for the run."""
    return pair.run is not None and pair.run.by_forecast and pair.run.foretold is not None


def _card_s(pair: Pair) -> float | None:
    """Seconds that the card would take for the row's samples, by forecast; None where it ran on a card, or cannot."""
    if pair.records:
        figure = fold(pair.records)[0].card_time
        return figure.value if figure is not None and pair.records[0].outcome is Outcome.COMPLETED else None
    told = pair.run.foretold if pair.run is not None else None
    samples = pair.run.config.samples if pair.run is not None else None
    if pair.run is None or told is None or not (_is_forecast(pair) and told.fits and told.samples_per_s):
        return None
    return None if samples is None else samples * pair.run.config.epochs / told.samples_per_s


def _ended(pair: Pair, row: Row | None, narrow: bool) -> str:
    """How the run ended; with ~ how the forecast says that it would."""
    if row is not None:
        return row.first.outcome.words if narrow else STATUS.of(row.first)
    told = pair.run.foretold if pair.run is not None else None
    if told is None or not _is_forecast(pair):
        return UNKNOWN
    end = "fits" if told.fits else Outcome.OUT_OF_MEMORY.words
    where = "" if told.fits or narrow else f" in {told.failing_phase}"
    return f"~{end}{where}"


def _table_rows(plan: Plan, records: Sequence[RunRecord]) -> list[tuple[str, Pair]]:
    """Every row by its name: the plan's, and where the lecture has a table those that only it has."""
    pairs = beside(plan, records) or [Pair({}, None, own, run) for run, own in rows_of(plan, records)]
    return [(_label(pair, pairs), pair) for pair in pairs]


_PRINTED: dict[Entry, Callable[[LectureRow], float | None]] = {
    TIME: lambda row: row.time_s,
    MEAN_SPEED: lambda row: row.samples_per_s,
    MEMORY: lambda row: row.memory_mib,
    LOSS: lambda row: row.train_loss,
    ACCURACY: lambda row: row.eval_accuracy,
}
"""What the lecture printed: its samples/s are those of the whole training."""


def _entries(pairs: Sequence[Pair], narrow: bool, records: Sequence[RunRecord]) -> list[Entry]:
    """The figures that the lecture printed, and memory; this machine's where it printed nothing."""
    if _answers(pairs):
        return list(_figures(records, narrow))
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


def _label(pair: Pair, pairs: Sequence[Pair]) -> str:
    """The row's name in the plan; of one that only the lecture has, the knobs that differ within the table."""
    if pair.run is not None:
        return clean(pair.run.label, LABEL)
    names = [name for name in pair.knobs if len({other.knobs[name] for other in pairs}) > 1]
    return clean(knobs_label({name: pair.knobs[name] for name in names}), LABEL)


def _notes(plan: Plan, records: Sequence[RunRecord], pairs: Sequence[Pair]) -> list[str]:
    device = next((record.device for record in records if record.device), None)
    on = f", on {clean(device.name)} ({device.kind})" if device is not None else ""
    notes = [f"Here: {clean(plan.sizes)}{on}."]
    unrun = [pair.run for pair in pairs if pair.run is not None and _is_forecast(pair)]
    for why in dict.fromkeys(run.skip for run in unrun):
        rows = ", ".join(run.label for run in unrun if run.skip == why)
        notes.append(f"By forecast alone (~): {clean(rows, 200)}: {clean(why or '', 200)}.")
    passed = [(run.label, run.skip) for run in plan.runs if run.skip and not run.by_forecast and run.repeat == 1]
    notes += [f"Passed over: {clean(label, LABEL)}: {clean(why, 200)}" for label, why in passed]
    table = TABLES.get(plan.name)
    if table is None and _answers(pairs):
        return notes
    if table is None:
        return [*notes, "The lecture names this technique and has no figures of it."]
    c = table.config
    notes.append(f"The lecture: {c.model}, {c.samples:,} samples × {c.seq_len} tokens, {MEMORY_MIB} MiB. {SOURCE}.")
    if device is None:
        return notes
    if device.kind == "cpu":
        notes.append("On a CPU the memory is the process's RAM: only trends may be compared.")
    elif not all(same_memory(record.config, table) for record in records):
        notes.append(
            "Another model or other sequences than the lecture's: only trends may be compared. Its memory shows with "
            "--scale short, which runs its model for a few updates."
        )
    elif device.kind == "virtual":
        notes.append("Memory may be compared; time and samples/s are this CPU's.")
    return notes


def _table(title: str, *columns: str, n_words: int = 1) -> Table:
    """A table without rows: the title above the first column, the last `n_words` are of words.

    A heading of few lines stands low, so that units are level with units.
    """
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column(Text(title), justify="left", no_wrap=True)
    lines = max(name.count("\n") for name in columns)
    for index, name in enumerate(columns):
        left = index >= len(columns) - n_words
        text = "\n" * (lines - name.count("\n")) + name
        drawn.add_column(Text(text), justify="left" if left else "right", no_wrap=True)
    return drawn


def _add(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(clean(cell)) for cell in cells))


def table_json(plan: Plan, records: Sequence[RunRecord]) -> dict[str, object] | None:
    """The lecture's table beside this machine's as JSON: run numbers here, forecasts, the printed numbers there.

    None for a plan that is not one of the lecture's.
    """
    point = closing(plan, records)
    if point is None:
        return None
    rows = [
        {
            "knobs": pair.knobs,
            "label": pair.run.label if pair.run is not None else None,
            "run_ids": [r.run_id for r in pair.records],
            "forecast": _foretold_json(pair.run),
            "lecture": _lecture_json(pair.lecture),
        }
        for _, pair in _table_rows(plan, records)
    ]
    return {
        "event": "lecture_table",
        "plan": plan.name,
        "sizes": plan.sizes,
        "source": SOURCE,
        "rows": rows,
        "closing": point,
    }


def _foretold_json(run: PlannedRun | None) -> dict[str, object] | None:
    told = run.foretold if run is not None else None
    if run is None or told is None:
        return None
    return {
        "gpu": told.gpu,
        "stack": run.stack,
        "stands_for_the_run": run.by_forecast,
        "peak_used_mib": to_mib(told.peak_used),
        "limit_mib": to_mib(told.limit),
        "verdict": FITS if told.fits else OUT_OF_MEMORY,
        "near_limit": told.near_limit,
        "failing_phase": told.failing_phase,
        "samples_per_s": told.samples_per_s,
    }


def _lecture_json(row: LectureRow | None) -> dict[str, object] | None:
    if row is None:
        return None
    return {
        "time_s": row.time_s,
        "samples_per_s": row.samples_per_s,
        "memory_mib": row.memory_mib,
        "train_loss": row.train_loss,
        "eval_accuracy": row.eval_accuracy,
        "outcome": row.outcome.value,
    }
