"""`traintop report`: runs of the history as a Markdown or LaTeX table, as CSV or as JSON."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.numbers import n_of
from engine.contract.records import RunRecord
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError
from tui.commands.histories import history_to_read, say_no_runs, scaling_in
from tui.drawing.text import clean

if TYPE_CHECKING:
    from engine.compare.scaling import Scaling
    from engine.history.history import History
    from engine.history.plans import StoredPlan

FORMATS = {"markdown": (".md", ".markdown"), "latex": (".tex",), "csv": (".csv",), "json": (".json",)}
"""Names and the endings of files that mean them."""

_RUNS = "such as 3,5-8, all, or last:10"
_NUMBER = "[0-9]{1,18}"
_WIDEST = 100_000
"""Runs that one range may name: more is a slip of the finger, and would only fill memory."""


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop report`."""
    parser.add_argument(
        "--format",
        metavar="|".join(FORMATS),
        help="what to write (default: by the ending of --output, else markdown)",
    )
    parser.add_argument("--runs", metavar="WHICH", default="all", help=f"which runs, {_RUNS} (default: all)")
    parser.add_argument(
        "--baseline",
        metavar="RUN",
        help="the run that others are compared with, or none (default: the one that is pinned in the app)",
    )
    parser.add_argument(
        "--repeats-as-one",
        action="store_true",
        help="one row for completed runs that differ in the seed alone: median, mean ± deviation (tables only)",
    )
    parser.add_argument("--caption", metavar="TEXT", help="of a LaTeX table; puts it into a float")
    parser.add_argument("--label", metavar="NAME", help="of a LaTeX table; puts it into a float")
    parser.add_argument("--output", metavar="FILE", help="write to a file, replacing it (default: -, stdout)")


def execute(arguments: Namespace) -> int:
    """`traintop report`. Raises `HistoryError` and `UsageError`."""
    name = _format(arguments.format, arguments.output)
    _refuse_idle_flags(arguments, name)
    choose = selection(arguments.runs)
    with history_to_read() as history:
        records = choose(history)
        baselines = _baselines(history, arguments.baseline)
        if not records:
            say_no_runs(history)
        plans = history.plans.newest() if name in ("markdown", "latex") else []
        text = _exported(name, records, baselines, plans, scaling_in(history), arguments)
    _write(text, arguments.output)
    if records and arguments.output not in (None, "-"):
        runs = n_of(len(records), "run")
        sys.stderr.write(f"{runs} written to {clean(arguments.output)}.\n")
    return exit_codes.DONE


def _format(given: str | None, output: str | None) -> str:
    if given is not None:
        if given not in FORMATS:
            raise UsageError(f"--format {given!r} is not known: use {', '.join(FORMATS)}.")
        return given
    ending = Path(output).suffix.lower() if output else ""
    return next((name for name, endings in FORMATS.items() if ending in endings), "markdown")


def _refuse_idle_flags(arguments: Namespace, name: str) -> None:
    """A flag that does nothing would be taken for one that did."""
    for flag, value, formats in (
        ("--caption", arguments.caption, ("latex",)),
        ("--label", arguments.label, ("latex",)),
        ("--repeats-as-one", arguments.repeats_as_one or None, ("markdown", "latex")),
        ("--baseline", arguments.baseline, ("markdown", "latex", "csv")),
    ):
        if value is not None and name not in formats:
            raise UsageError(f"{flag} has no place in {name}: use it with --format {' or '.join(formats)}.")


def selection(text: str, flag: str = "--runs") -> Callable[[History], list[RunRecord]]:
    """What `--runs`, or another `flag`, means: a function that reads those runs, in the order they began.

    Raises `UsageError` on what is no selection; the function does on a run that the history does not have.
    """
    words = text.replace(" ", "")
    if words == "all":
        return lambda history: history.runs()
    last = re.fullmatch(f"last:({_NUMBER})", words)
    if last and int(last[1]):
        return lambda history: history.runs(limit=int(last[1]), newest_first=True)[::-1]
    wanted: list[range] = []
    for part in words.split(","):
        found = re.fullmatch(f"({_NUMBER})(?:-({_NUMBER}))?", part)
        first, end = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= end < first + _WIDEST:
            raise UsageError(f"{flag} {text!r} is not a selection of runs: give one {_RUNS}.")
        wanted.append(range(first, end + 1))
    return lambda history: _among(history, wanted, flag)


def _among(history: History, wanted: Sequence[range], flag: str) -> list[RunRecord]:
    """Single runs must exist; a range takes those that are there, but at least one."""
    lowest, highest = min(ids[0] for ids in wanted), max(ids[-1] for ids in wanted)
    found = [
        record
        for record in history.runs(after_id=lowest - 1, before_id=highest + 1)
        if any(record.run_id in ids for ids in wanted)
    ]
    known = {record.run_id for record in found}
    for ids in wanted:
        if not any(run_id in known for run_id in ids):
            name = f"{ids[0]}: that run is" if len(ids) == 1 else f"{ids[0]}-{ids[-1]}: those runs are"
            raise UsageError(f"{flag} {name} not in the history: `traintop runs` lists what is.")
    return found


def _baselines(history: History, text: str | None) -> list[RunRecord]:
    """The run that was named, else those that are pinned, one for a job."""
    if text == "none":
        return []
    if text is None:
        return [run for run_id in history.baselines().values() if (run := history.run(run_id)) is not None]
    if not re.fullmatch(_NUMBER, text):
        raise UsageError(f"--baseline {text!r} is not a run: give its number, or none.")
    listed = history.runs(after_id=int(text) - 1, before_id=int(text) + 1)
    if not listed:
        raise UsageError(f"--baseline {text}: that run is not in the history; `traintop runs` lists what is.")
    return listed


def _exported(
    name: str,
    records: list[RunRecord],
    baselines: Sequence[RunRecord],
    plans: Sequence[StoredPlan],
    scaling: Scaling,
    arguments: Namespace,
) -> str:
    from engine.export import export
    from engine.export.closings import closings

    if name == "json":
        return export.to_json(records, scaling)
    if name == "csv":
        return export.to_csv(records, baselines, scaling)
    if name == "latex":
        return export.to_latex(
            records,
            baselines,
            repeats_as_one=arguments.repeats_as_one,
            closings=closings(plans, records),
            scaling=scaling,
            caption=arguments.caption,
            label=arguments.label,
        )
    return export.to_markdown(
        records,
        baselines,
        repeats_as_one=arguments.repeats_as_one,
        closings=closings(plans, records),
        scaling=scaling,
    )


def _write(text: str, output: str | None) -> None:
    if output in (None, "-"):
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that knows no Δ still gets its table
        sys.stdout.write(text)
        return
    try:
        with open(str(output), "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--output {output!r} cannot be written ({why}): give another file.") from None
