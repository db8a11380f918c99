"""`traintop runs`: the history as a table or as JSON."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.compare.scaling import Scaling, nothing_known
from engine.contract import figures
from engine.contract.events import RunFinished
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
    parser.add_argument("--json", action="store_true", help="one run_finished object per run and line on stdout")


def execute(arguments: Namespace) -> int:
    """`traintop runs`. Raises `HistoryError` and `UsageError`."""
    limit = _limit(arguments.limit)
    with history_to_read() as history:
        if limit is None and not arguments.json:
            limit = ROWS
        records = history.runs(limit=limit, newest_first=True)[::-1]
        n_all = history.n_runs()
        if not records:
            say_no_runs(history)
        scaling = scaling_in(history)
        if arguments.json:
            for record in records:
                sys.stdout.write(json_line(RunFinished(record=record), scaling) + "\n")
        elif records:
            sys.stdout.write(_drawn(records, scaling))
    if records and len(records) < n_all and not arguments.json:
        sys.stderr.write(f"The newest {len(records)} of {n_all:,} runs; --limit N shows more.\n")
    return exit_codes.DONE


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:10]) <= 2**31:
        raise UsageError(f"--limit {text!r} is not a number of runs: use 1 or more.")
    return int(text[:10])


def table(records: list[RunRecord], width: int | None = None, scaling: Scaling = nothing_known) -> Table:
    """The results table, a row per run. With `width` the columns that matter least are left out, and none is cut."""
    from rich.table import Table
    from rich.text import Text

    # the card's own figures are known of virtual GPUs alone, energy of real ones
    several = _SEVERAL if any(map(figures.is_on_several, records)) else ()
    together = (figures.WAITING, figures.scaling_entry(scaling))
    wanted = (*figures.places(records), *several, *_KNOBS, *_FIGURES, *together, figures.STATUS)
    where_known = (*_WHERE_KNOWN, *together)
    entries = [entry for entry in wanted if entry not in where_known or any(map(entry.read, records))]
    columns = [
        _Column(figures.RUN_ID.heading, [str(record.run_id) for record in records]),
        _Column(
            figures.MODEL.heading, [short_name(record.config.model)[:24] for record in records], left=True, keep=80
        ),
        _Column(figures.DATA.heading, [figures.DATA.of(record) for record in records], left=True, keep=30),
    ]
    for entry in entries:
        heading = (width is not None and figures.short_of(entry, records)) or figures.heading_of(entry, records)
        cells = [entry.of(record) for record in records]
        columns.append(_Column(heading, cells, left=entry.left, keep=_KEEP.get(entry.name, 20)))
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


def _drawn(records: list[RunRecord], scaling: Scaling) -> str:
    from rich.console import Console

    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    console = Console(width=width or _WIDEST, file=sys.stdout, force_terminal=on_terminal)
    with console.capture() as capture:
        console.print(table(records, width, scaling))
    # rich pads every line to the width of the table
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
