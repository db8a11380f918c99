"""`traintop runs`: the history as a table or as JSON."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.contract.events import RunFinished
from engine.contract.numbers import UNKNOWN, duration, loss, mib, number, rate
from engine.contract.records import Outcome, RunRecord
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError
from tui.commands.histories import history_to_read, say_no_runs
from tui.console.report import json_line
from tui.drawing.text import clean
from tui.state.knobs import short_name
from tui.state.state import OUTCOME_WORDS

if TYPE_CHECKING:
    from rich.table import Table

ROWS = 50
"""Rows of the table where `--limit` does not say."""
_WIDTH_IN_FILE = 160
_COLUMNS = ("#", "model", "workload", "batch", "acc", "ckpt", "prec", "time s", "samples/s")
_MORE_COLUMNS = ("memory MiB", "%", "loss", "accuracy", "status")
_LEFT = ("model", "workload", "ckpt", "prec", "status")


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
    for name in (*_COLUMNS, *_MORE_COLUMNS):
        drawn.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    for record in records:
        drawn.add_row(
            *(Text(clean(cell)) for cell in (*_knob_cells(record.run_id, record.config), *_figure_cells(record)))
        )
    return drawn


def _knob_cells(run_id: int, config: RunConfig) -> tuple[str, ...]:
    return (
        str(run_id),
        clean(short_name(config.model), 24),
        f"{config.workload} {config.samples}×{config.seq_len}",
        str(config.batch_size),
        str(config.gradient_accumulation_steps),
        config.gradient_checkpointing,
        config.precision,
    )


def _figure_cells(record: RunRecord) -> tuple[str, ...]:
    used, total = record.peak_used, record.memory_total
    status = OUTCOME_WORDS[record.outcome]
    if record.outcome is Outcome.OUT_OF_MEMORY and record.failed_phase:
        status += f" in {record.failed_phase.noun}"
    return (
        duration(record.train_runtime_s),
        rate(record.samples_per_s),
        mib(used),
        number(100 * used / total, 1) if used is not None and total else UNKNOWN,
        loss(record.train_loss),
        number(record.eval_accuracy, 3),
        status,
    )


def _drawn(content: Table) -> str:
    from rich.console import Console

    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else _WIDTH_IN_FILE
    console = Console(width=width, file=sys.stdout, force_terminal=on_terminal)
    with console.capture() as capture:
        console.print(content)
    # rich pads every line to the width of the table
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
