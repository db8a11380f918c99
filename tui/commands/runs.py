"""`traintop runs`: the history as a table or as JSON."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.compare.scaling import Scaling, nothing_known
from engine.contract import answer_entries, figures, script_entries
from engine.contract.events import RunFinished
from engine.contract.knob import JOBS
from engine.contract.numbers import n_of
from engine.contract.records import RunRecord
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError
from tui.commands.histories import history_to_read, say_no_runs, scaling_in
from tui.console.report import json_line
from tui.drawing.cells import width_of
from tui.drawing.text import clean
from tui.state.knobs import short_name

if TYPE_CHECKING:
    from rich.table import Table

    from engine.history.history import History

ROWS = 50
"""Rows of the table where `--limit` does not say."""
_WIDEST = 1000
"""Columns of a table in a file or a pipe, where nothing is left out."""
_GAP = 2
_ALWAYS = 100
_KNOBS = (figures.BATCH, figures.ACCUMULATION, figures.CHECKPOINTING, figures.PRECISION)
_FIGURES = (
    figures.TIME,
    figures.SPEED,
    figures.CARD_SPEED,
    figures.MEMORY,
    figures.SHARE,
    figures.LOSS,
    figures.ACCURACY,
    figures.ENERGY,
    figures.PER_SAMPLE,
)
_KEEP = {
    figures.BATCH.name: 90,
    figures.SPEED.name: 95,
    figures.MEMORY.name: 94,
    figures.STATUS.name: 85,
    figures.PRECISION.name: 61,
    figures.CHECKPOINTING.name: 60,
    figures.ACCUMULATION.name: 59,
    figures.LOSS.name: 58,
    figures.ACCURACY.name: 57,
    figures.CARD_SPEED.name: 56,
    figures.TIME.name: 45,
    figures.SHARE.name: 40,
    figures.GPUS.name: 80,
    figures.PARALLEL.name: 75,
    "scaling": 74,
    figures.WAITING.name: 50,
}
"""Which columns a narrow terminal keeps: those with the largest number."""
_KEEP_ANSWERS = {
    answer_entries.TG.name: 95,
    figures.MEMORY.name: 94,
    answer_entries.TTFT_P50.name: 93,
    answer_entries.TPOT_P50.name: 92,
    answer_entries.BATCH.name: 90,
    answer_entries.KV.name: 88,
    answer_entries.SPECULATION.name: 87,
    figures.STATUS.name: 91,
    answer_entries.KV_MIB.name: 79,
    answer_entries.PP.name: 78,
    answer_entries.WEIGHTS.name: 77,
    answer_entries.AGREEMENT.name: 76,
    answer_entries.PER_FORWARD.name: 75,
    answer_entries.ACCEPTANCE.name: 74,
    answer_entries.HIT_RATE.name: 73,
    figures.SPEED.name: 95,
    answer_entries.PROMPT.name: 60,
    answer_entries.NEW.name: 59,
    answer_entries.TTFT_P99.name: 50,
    answer_entries.TPOT_P99.name: 49,
}
_SEVERAL = (figures.GPUS, figures.PARALLEL)
_WHERE_KNOWN = (figures.CARD_SPEED, figures.ENERGY, figures.PER_SAMPLE)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that may be left out."""

    heading: str
    cells: list[str]
    left: bool = False
    keep: int = _ALWAYS

    @property
    def width(self) -> int:
        return max(width_of([(clean(text), "")]) for text in (self.heading, *self.cells))


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop runs`."""
    parser.add_argument(
        "--limit", metavar="N", help=f"the newest N runs (default: {ROWS} in the table, all as JSON), oldest first"
    )
    parser.add_argument("--job", metavar="|".join(JOBS), help="those of one job alone (default: a table for each)")
    parser.add_argument("--json", action="store_true", help="one run_finished object per run and line on stdout")


def execute(arguments: Namespace) -> int:
    """`traintop runs`. Raises `HistoryError` and `UsageError`."""
    limit = _limit(arguments.limit)
    if arguments.job is not None and arguments.job not in JOBS:
        raise UsageError(f"--job {arguments.job!r} is not known: use {', '.join(JOBS[:-1])} or {JOBS[-1]}.")
    with history_to_read() as history:
        if limit is None and not arguments.json:
            limit = ROWS
        records, n_all = _newest(history, limit, arguments.job)
        if not n_all and arguments.job is not None and history.n_runs():
            sys.stderr.write(f"No run has --job {arguments.job}.\n")
        elif not records:
            say_no_runs(history)
        scaling = scaling_in(history)
        if arguments.json:
            for record in records:
                sys.stdout.write(json_line(RunFinished(record=record), scaling) + "\n")
        elif records:
            sys.stdout.write(_drawn(records, scaling))
    if records and len(records) < n_all and not arguments.json:
        sys.stderr.write(f"The newest {len(records)} of {n_of(n_all, 'run')}; --limit N shows more.\n")
    return exit_codes.DONE


def _newest(history: History, limit: int | None, job: str | None) -> tuple[list[RunRecord], int]:
    """The newest runs, the oldest of them first, and how many there are; with a job of that one alone."""
    if job is None:
        return history.runs(limit=limit, newest_first=True)[::-1], history.n_runs()
    records = [record for record in history.runs() if record.config.job == job]
    return records[-limit:] if limit is not None else records, len(records)


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:10]) <= 2**31:
        raise UsageError(f"--limit {text!r} is not a number of runs: use 1 or more.")
    return int(text[:10])


def table(records: list[RunRecord], width: int | None = None, scaling: Scaling = nothing_known) -> Table:
    """The results table of one job, a row per run. With `width` the columns that matter least are left out, and none
    is cut.
    """
    from rich.table import Table
    from rich.text import Text

    # the card's own figures are known of virtual GPUs alone, energy of real ones
    several = _SEVERAL if any(map(figures.is_on_several, records)) else ()
    together = (figures.WAITING, figures.scaling_entry(scaling))
    wanted = (*figures.places(records), *several, *_KNOBS, *_FIGURES, *together, figures.STATUS)
    where_known = (*_WHERE_KNOWN, *together)
    entries = [entry for entry in wanted if entry not in where_known or any(map(entry.read, records))]
    is_script = any(record.config.is_script for record in records)
    named = script_entries.NAME if is_script else figures.MODEL
    names = [(script_entries.NAME.of if is_script else _model)(record)[:24] for record in records]
    columns = [
        _Column(figures.RUN_ID.heading, [str(record.run_id) for record in records]),
        _Column(named.heading, names, left=True, keep=80),
    ]
    keep = _KEEP
    if is_script:
        turned = [*script_entries.arguments(records), *script_entries.knobs(records)]
        keep = {**_KEEP, **{entry.name: 86 for entry in turned}}
        entries = [*figures.places(records), *turned, *script_entries.entries(records), figures.STATUS]
    elif any(record.config.answers for record in records):
        keep = _KEEP_ANSWERS
        knobs = answer_entries.shown(records, answer_entries.KNOB_ENTRIES)
        entries = [*figures.places(records), *knobs, *answer_entries.shown(records), figures.STATUS]
    else:
        columns.append(
            _Column(figures.DATA.heading, [figures.DATA.of(record) for record in records], left=True, keep=30)
        )
    for entry in entries:
        heading = (width is not None and figures.short_of(entry, records)) or figures.heading_of(entry, records)
        cells = [entry.of(record) for record in records]
        columns.append(_Column(heading, cells, left=entry.left, keep=keep.get(entry.name, 20)))
    while width is not None and sum(column.width for column in columns) + _GAP * (len(columns) - 1) > width:
        least = min(columns, key=lambda column: column.keep)
        if least.keep == _ALWAYS:
            break
        columns.remove(least)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(Text(clean(column.heading)), justify="left" if column.left else "right", no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*(Text(clean(cell)) for cell in row))
    return drawn


def _model(record: RunRecord) -> str:
    return short_name(record.config.model)


def _drawn(records: list[RunRecord], scaling: Scaling) -> str:
    from rich.console import Console

    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    console = Console(width=width or _WIDEST, file=sys.stdout, force_terminal=on_terminal)
    tables = answer_entries.by_job(records)
    with console.capture() as capture:
        for index, (job, runs) in enumerate(tables):
            if len(tables) > 1:
                console.print(f"{chr(10) if index else ''}{answer_entries.TITLES[job]}", markup=False, highlight=False)
            console.print(table(runs, width, scaling))
    # rich pads every line to the width of the table
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
