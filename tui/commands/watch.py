"""`traintop watch`: look at runs that another program drives, without being able to change anything."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from engine.contract import paths
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError, add_slow_link
from tui.commands.headless import Interrupts, follow, own_streams, run_code
from tui.commands.histories import history_to_read, scaling_in
from tui.console.report import Report
from tui.terminal.signals import Signals, leave_terminal, terminal_is_gone

if TYPE_CHECKING:
    from engine.compare.scaling import Scaling
    from engine.history.history import History
    from engine.session.engine import Engine

LAST_S = 3.0
"""How long the app behind a browser may take to leave once its server is gone."""
_CAN_POLL = hasattr(select, "poll")  # not on Windows


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop watch`."""
    parser.usage = f"{parser.prog} [RUN] [--slow-link] [--json]"
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="this run alone (default: the one under way, and those that begin later)"
    )
    add_slow_link(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="no screen: one JSON object per event and line on stdout, from now on or, with RUN, until that run ends",
    )


def execute(arguments: Namespace) -> int:
    """`traintop watch`: on a terminal the app, else lines. Raises `HistoryError` and `UsageError`."""
    from engine.session.watch import Watch

    with history_to_read() as history:
        run_id = None if arguments.run is None else _number(arguments.run, history)
        if not arguments.json and can_show():
            return show(Watch(history, run_id, show_last=True), slow_link=arguments.slow_link)
        return _report(
            Watch(history, run_id),
            as_json=arguments.json,
            to_the_end=run_id is not None,
            scaling=scaling_in(history),
        )


def _number(text: str, history: History) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise UsageError(f"{text!r} is not a run: give its number; `traintop runs` lists them.")
    run_id = int(text)
    if history.run(run_id) is None:
        raise UsageError(f"Run {run_id} is not in the history {history.path}: `traintop runs` lists what is.")
    return run_id


def can_show() -> bool:
    """Whether there is a terminal, or a browser behind `traintop serve`, to draw the app on."""
    from tui.terminal.stdio import has_terminal

    return has_terminal() or "TEXTUAL_DRIVER" in os.environ


class Visit(Signals):
    """The signals of an app behind a browser, whose terminal is a pair of pipes: gone with the server's end."""

    def __enter__(self) -> Visit:
        super().__enter__()
        if _CAN_POLL:
            threading.Thread(target=_end_with_server, name="server", daemon=True).start()
        return self

    @property
    def hung_up(self) -> bool:
        """True once nobody writes to stdin any more."""
        return _CAN_POLL and _is_hung_up(0)


def _is_hung_up(timeout_ms: int | None) -> bool:
    pipe = select.poll()
    pipe.register(0, 0)  # a hang-up is reported unasked
    return bool(pipe.poll(timeout_ms))


def _end_with_server() -> None:
    """Wait for the server's end, however it ended, and do not outlive it: the app may be too busy to look."""
    _is_hung_up(None)
    time.sleep(LAST_S)
    os._exit(exit_codes.DONE)


def show(
    playback: Engine,
    *,
    in_ascii: bool = False,
    theme: str | None = None,
    slow_link: bool = False,
) -> int:
    """Open the app on a recording or on another program's runs, until it is left; the exit code."""
    from engine.contract.config import RunConfig
    from engine.session.capture import log_to_file
    from tui.app.app import TraintopApp
    from tui.terminal.ascii import stream_to
    from tui.terminal.link import Link

    problem = log_to_file(paths.log_file())
    terminal, in_browser, link = sys.__stderr__, "TEXTUAL_DRIVER" in os.environ, Link()
    with Visit() if in_browser else Signals() as noticed:
        app = TraintopApp(
            playback,
            RunConfig(),
            read_only=True,
            signals=noticed,
            theme=f"traintop-{theme}" if theme else None,
            notices=[problem] if problem else [],
            link=link,
            slow_link=slow_link,
        )
        if terminal is not None and not in_browser:
            sys.__stderr__ = stream_to(terminal, link, in_ascii=in_ascii)  # type: ignore[misc, assignment]
        try:
            app.run(mouse=not slow_link)
        finally:
            sys.__stderr__ = terminal  # type: ignore[misc]
        gone = noticed.hung_up or (bool(app.return_code) and terminal_is_gone())
    if gone:
        leave_terminal()
    if link.abandoned:
        link.leave(exit_codes.INTERRUPTED if noticed.to_leave else exit_codes.DONE)
    if noticed.to_leave:
        return exit_codes.INTERRUPTED
    if gone or not app.return_code:
        return exit_codes.DONE
    sys.stderr.write(f"traintop: the app ended by a fault; {paths.log_file()} has the details.\n")
    return exit_codes.FAILED


def _report(watch: Engine, *, as_json: bool, to_the_end: bool, scaling: Scaling) -> int:
    """Events as lines until the reader leaves or, `to_the_end`, a run ends; the exit code."""
    with own_streams() as (out, err), Interrupts(err) as interrupts:
        watch.open()
        report = Report(out, err, as_json=as_json, scaling=scaling)
        return follow(watch, report, interrupts, run_code if to_the_end else lambda event: None)
