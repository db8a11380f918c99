"""`traintop replay`: play recorded runs again, from the history or from the session that traintop brings along."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.records import Outcome, RunRecord
from engine.session.playback import MAX_SPEED, Replay
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError, add_slow_link
from tui.commands.headless import own_streams
from tui.commands.histories import history_to_read, scaling_in
from tui.commands.watch import can_show, show
from tui.console.report import Report

if TYPE_CHECKING:
    from engine.compare.scaling import Scaling
    from engine.history.history import History

DEMO_SPEED = 1.0
"""Tells the story in a minute and a half."""


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop replay`."""
    parser.usage = f"{parser.prog} [RUNS] [--speed X] [--demo] [--slow-link] [--json]"
    parser.add_argument("runs", metavar="RUNS", nargs="?", help="such as 3, 3,5-8 or last:4 (default: the newest run)")
    parser.add_argument(
        "--speed", metavar="X", help=f"how many times faster than it was, 0.125 to {MAX_SPEED:g} (default: 1)"
    )
    parser.add_argument("--demo", action="store_true", help="the recorded session that traintop brings along")
    add_slow_link(parser)
    parser.add_argument(
        "--json", action="store_true", help="no screen: all events at once, one JSON object per line on stdout"
    )


def execute(arguments: Namespace) -> int:
    """`traintop replay`: on a terminal the app, else all lines at once. Raises `HistoryError` and `UsageError`."""
    speed = _speed(arguments.speed)
    if arguments.demo:
        if arguments.runs is not None:
            raise UsageError("--demo plays its own runs: leave out --demo, or the runs.")
        return play_demo(speed, as_json=arguments.json, slow_link=arguments.slow_link)
    with history_to_read() as history:
        records = _chosen(arguments.runs, history)
        replay = Replay(history, [record.run_id for record in records], speed or 1.0)
        if not arguments.json and can_show():
            return show(replay, slow_link=arguments.slow_link)
        return _print(replay, scaling_in(history), as_json=arguments.json)


def play_demo(
    speed: float | None = None,
    *,
    as_json: bool = False,
    in_ascii: bool = False,
    theme: str | None = None,
    slow_link: bool = False,
) -> int:
    """Play the session that traintop brings along; the history of whoever looks is left alone."""
    from engine.history.history import History
    from engine.session.demo import unpack_demo

    with tempfile.TemporaryDirectory(prefix="traintop-demo-") as folder, History(unpack_demo(Path(folder))) as history:
        replay = Replay(history, [run.run_id for run in history.runs()], speed or DEMO_SPEED)
        if not as_json and can_show():
            return show(replay, in_ascii=in_ascii, theme=theme, slow_link=slow_link)
        return _print(replay, scaling_in(history), as_json=as_json)


def _speed(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.125 <= speed <= MAX_SPEED:
        raise UsageError(f"--speed {text!r} is not a speed: use 0.125 to {MAX_SPEED:g}, such as 10.")
    return speed


def _chosen(text: str | None, history: History) -> list[RunRecord]:
    """The runs to play. Raises `UsageError` where one is unknown or under way, or where nothing was recorded."""
    from tui.commands.report import selection

    if not history.n_runs():
        raise UsageError(f"The history {history.path} is empty: `traintop` makes a run, `traintop --demo` plays one.")
    records = selection("last:1" if text is None else text, "RUNS")(history)
    for record in records:
        if record.outcome is Outcome.RUNNING:
            raise UsageError(f"Run {record.run_id} is under way: `traintop watch {record.run_id}` follows it.")
    if all(next(history.series(record.run_id), None) is None for record in records):
        which = f"Run {records[0].run_id} has" if len(records) == 1 else "Those runs have"
        raise UsageError(f"{which} no series, only a row: there is nothing to play. `traintop runs` shows rows.")
    return records


def _print(replay: Replay, scaling: Scaling, *, as_json: bool) -> int:
    """Everything at once, as lines."""
    with own_streams() as (out, err):
        report = Report(out, err, as_json=as_json, scaling=scaling)
        replay.open()
        report.say(f"recorded on {replay.day}; the figures are those of then")
        replay.seek(replay.duration)
        while not report.lost and (events := replay.drain()):
            for event in events:
                report.show(event)
    return exit_codes.DONE
