"""`traintop runs`: the history as a table or as JSON."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from engine.contract import figures
from engine.contract.events import RunFinished
from engine.contract.records import RunRecord
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError
from tui.commands.histories import history_to_read, say_no_runs
from tui.console.report import json_line
from tui.drawing.text import clean
from tui.state.knobs import short_name

if TYPE_CHECKING:
    from rich.table import Table

ROWS = 50
"""Rows of the table where `--limit` does not say."""
_WIDTH_IN_FILE = 160
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
_WHERE_KNOWN = (figures.CARD_SPEED, figures.ENERGY, figures.PER_SAMPLE)


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
    if arguments.json:
        for record in records:
            sys.stdout.write(json_line(RunFinished(record=record)) + "\n")
    elif records:
        sys.stdout.write(_drawn(table(records)))
    if records and len(records) < n_all and not arguments.json:
        sys.stderr.write(f"The newest {len(records)} of {n_all:,} runs; --limit N shows more.\n")
    return exit_codes.DONE


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:10]) <= 2**31:
        raise UsageError(f"--limit {text!r} is not a number of runs: use 1 or more.")
    return int(text[:10])


def table(records: list[RunRecord]) -> Table:
    """The results table, a row per run."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column(figures.RUN_ID.heading, justify="right", no_wrap=True)
    drawn.add_column(figures.MODEL.heading, no_wrap=True)
    drawn.add_column(figures.DATA.heading, no_wrap=True)
    # the card's own figures are known of virtual GPUs alone, energy of real ones
    wanted = (*figures.places(records), *_KNOBS, *_FIGURES, figures.STATUS)
    entries = [entry for entry in wanted if entry not in _WHERE_KNOWN or any(map(entry.read, records))]
    for entry in entries:
        heading = figures.heading_of(entry, records)
        drawn.add_column(Text(clean(heading)), justify="left" if entry.left else "right", no_wrap=True)
    for record in records:
        cells = [str(record.run_id), clean(short_name(record.config.model), 24), figures.DATA.of(record)]
        cells += [entry.of(record) for entry in entries]
        drawn.add_row(*(Text(clean(cell)) for cell in cells))
    return drawn


def _drawn(content: Table) -> str:
    from rich.console import Console

    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else _WIDTH_IN_FILE
    console = Console(width=width, file=sys.stdout, force_terminal=on_terminal)
    with console.capture() as capture:
        console.print(content)
    # rich pads every line to the width of the table
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
