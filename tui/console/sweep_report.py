"""What `traintop sweep` writes: rows as they come, tables at the end, or JSON; the exit code of a plan."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from engine.compare.rows import about_seeds, fold
from engine.compare.scaling import Scaling, nothing_known
from engine.contract.events import (
    FREQUENT,
    Event,
    Logged,
    PlanFinished,
    PlanProgress,
    RunFinished,
    RunRefused,
    RunStarted,
)
from engine.contract.records import RunRecord
from engine.plans.course import Plan
from tui.command_line import exit_codes
from tui.console.progress import ProgressBar
from tui.console.report import SCRIPTS, Report, dump, event_json
from tui.console.sweep_rows import Counts, Rows
from tui.console.sweep_tables import plan_table, repeats_table, table_json
from tui.drawing.text import clean

if TYPE_CHECKING:
    from rich.table import Table

_MIN_WIDTH, _WIDEST = 120, 1000
"""Columns of the closing tables where nobody says how wide the output is, and what they may grow to before a cell is
cut; a narrow terminal wraps them."""


class SweepReport(Report):
    """Writes a plan's rows or JSON to `out`, messages and each run's progress bar to `err`."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool, scaling: Scaling = nothing_known) -> None:
        """`scaling` knows that of a run on several GPUs."""
        super().__init__(out, err, as_json=as_json, scaling=scaling)
        self._progress = None
        self._draws = err.isatty() and os.environ.get("TERM") != "dumb"
        self._rows: Rows | None = None
        self._step: PlanProgress | None = None

    def begin(self, plan: Plan, before: Sequence[RunRecord]) -> None:
        """The plan that events will tell of, and its runs of an earlier process."""
        self._rows = Rows(plan, before, self._scaling)

    def show(self, event: Event) -> None:
        """Report an event."""
        if isinstance(event, PlanProgress):
            self._step = event
        if isinstance(event, RunStarted) and self._draws:
            self._progress = ProgressBar(self._err)  # it knows one run only
        if isinstance(event, PlanFinished):
            self._close(event)
        elif self._as_json:
            self._write_json(event)
        elif self._rows:
            self._write_lines([clean(line) for line in self._rows.lines(event)])
        message = self._message(event)
        if message:
            self.say(message)
        if self._progress and not self.lost:
            try:
                self._progress.show(event)
            except OSError as error:
                self._lose(error)

    @property
    def shows_script(self) -> bool:
        """Whether the plan is of a user's own script."""
        return self._rows is not None and any(run.config.is_script for run in self._rows.plan.runs)

    def code(self, event: PlanFinished) -> int:
        """The exit code of a plan that is over: 0 also when some runs did not fit, or were refused."""
        counts = self._rows.counts if self._rows else Counts()
        if not event.completed:
            if event.no_history:
                return exit_codes.NOT_STORED
            return exit_codes.FAILED if event.failed else exit_codes.INTERRUPTED
        if counts.failed:
            return exit_codes.FAILED
        nothing_ran = not counts.completed + counts.out_of_memory
        return exit_codes.WRONG_USAGE if counts.refused and nothing_ran else exit_codes.DONE

    def _write_json(self, event: Event) -> None:
        if self._rows:
            self._rows.lines(event)  # counts, and keeps the records
        if isinstance(event, FREQUENT):
            return
        values = event_json(event, self._scaling)
        if isinstance(event, RunFinished) and self._step is not None:
            values |= {"plan_id": self._step.plan_id, "label": self._step.label, "repeat": self._step.repeat}
        self._write(self._out, f"{dump(values)}\n", aside=False)

    def _write_lines(self, lines: Sequence[str]) -> None:
        if lines:
            self._write(self._out, "".join(f"{line}\n" for line in lines), aside=True)

    def _close(self, event: PlanFinished) -> None:
        """The tables, and how the plan ended."""
        rows = self._rows
        if rows is None:
            return
        plan = rows.plan
        if self._as_json:
            table = table_json(plan, rows.records)
            for values in (table, event_json(event, self._scaling)):
                if values is not None:
                    self._write(self._out, f"{dump(values)}\n", aside=False)
        else:
            self._write_tables(plan, rows.records)
            self._write_lines(rows.closing(event))
        if event.failed and event.message:
            self.say(event.message)
        if not event.completed and event.plan_id:
            self.say(f"Go on with: traintop sweep --resume {event.plan_id}")

    def _write_tables(self, plan: Plan, records: Sequence[RunRecord]) -> None:
        repeats = repeats_table(records, self._scaling)
        if repeats is not None:
            about = about_seeds(fold(records))
            self._write_lines(["", *self._drawn(repeats), *([about] if about else [])])
        beside = plan_table(plan, records, scaling=self._scaling)
        if beside is not None:
            table, notes = beside
            self._write_lines(["", *self._drawn(table), *notes])

    def _drawn(self, table: Table) -> list[str]:
        from rich.console import Console

        on_terminal = self._out.isatty()
        width = max(_MIN_WIDTH, shutil.get_terminal_size().columns if on_terminal else 0)
        console = Console(width=width, file=self._out, force_terminal=on_terminal)
        console.width = max(width, console.measure(table, options=console.options.update(width=_WIDEST)).maximum)
        with console.capture() as capture:
            console.print(table)
        return [line.rstrip() for line in capture.get().splitlines()]

    def _message(self, event: Event) -> str | None:
        if isinstance(event, RunRefused) and not self._as_json:
            return None  # its row says it
        if isinstance(event, Logged) and event.source in SCRIPTS:
            return None  # of many scripts: each has its file
        return super()._message(event)
