"""`traintop run`: train without the screen, following a `Session` to the end of one run.

Descriptor 1 points at stderr while a run is under way, so that stdout holds the transcript, or JSON, and nothing
that a library or a worker process prints.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from types import FrameType
from typing import Any, Protocol, TextIO

from engine.contract import paths
from engine.contract.config import RunConfig
from engine.contract.events import EngineFailed, Event, RunFinished, RunRefused
from tui.command_line import exit_codes
from tui.command_line.flags import add_knobs, config_of
from tui.console.report import Report

_JSON_HELP = (
    "one JSON object per event and line on stdout, messages on stderr; null where a number is unknown, infinite or "
    "not a number. The last line of a run is its run_finished object"
)
_WAIT_S, _CLOSE_S = 0.2, 10.0


class Engine(Protocol):
    """What is needed of `engine.session.session.Session`."""

    @property
    def busy(self) -> bool:
        """True from `start` until the run's end is in the mailbox."""

    def start(self, config: RunConfig, /) -> None:
        """Queue a run."""

    def stop(self) -> None:
        """Stop after the current micro-step."""

    def wait(self, timeout_s: float, /) -> list[Event]:
        """What happened; waits for the first event."""


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop run`."""
    add_knobs(parser)
    parser.add_argument("--json", action="store_true", help=_JSON_HELP)


def execute(arguments: Namespace) -> int:
    """`traintop run`: the exit code says how the run ended."""
    return train(config_of(arguments), as_json=arguments.json)


def train(config: RunConfig, *, as_json: bool) -> int:
    """Train once in this process, with history and log, and return the exit code. Raises `HistoryError`."""
    from engine.history.history import History
    from engine.session.capture import log_to_file
    from engine.session.session import Session

    with History() as history, own_stdout() as out, Interrupts() as interrupts:
        report = Report(out, sys.stderr, as_json=as_json)
        for problem in (history.notice, log_to_file(paths.log_file())):
            if problem:
                report.say(problem)
        history.mark_interrupted()
        session = Session(history)
        session.open()
        code = follow(session, config, report, interrupts)
        # who interrupts does not wait for an import that takes seconds
        ended = session.close(1.0 if code == exit_codes.INTERRUPTED else _CLOSE_S)
    if not ended:  # a daemon thread inside an import or a kernel can crash the interpreter's shutdown
        os._exit(code)
    return code


def follow(session: Engine, config: RunConfig, report: Report, interrupts: Interrupts) -> int:
    """Start a run and report its events until it has ended; its exit code."""
    session.start(config)
    stopping = False
    while True:
        idle = not session.busy  # asked before the mailbox is read: what ended the run is in it by then
        for event in session.wait(_WAIT_S):
            report.show(event)
            code = _code_of(event)
            if code is not None:
                return code
        if stopping and idle:  # it was queued only: it never began, and no event tells of it
            report.say("Stopped before the run began; it has no row.")
            return exit_codes.INTERRUPTED
        if not stopping and (interrupts.count or report.lost):
            stopping = True
            session.stop()
            report.say("Stopping after this micro-step; the run is kept. Once more quits at once.")


def _code_of(event: Event) -> int | None:
    match event:
        case RunFinished():
            return exit_codes.OF_OUTCOME[event.record.outcome]
        case RunRefused():
            return exit_codes.WRONG_USAGE
        case EngineFailed():
            return exit_codes.FAILED
    return None


class Interrupts:
    """Counts Ctrl-C and SIGTERM. The second one ends the process where it stands."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # only counts: whatever takes a lock may be what was interrupted
        self.count += 1
        if self.count > 1:
            if os.isatty(2):
                os.write(2, b"\x1b[?25h\n")  # a progress bar hides the cursor
            os._exit(exit_codes.INTERRUPTED)


@contextlib.contextmanager
def own_stdout() -> Iterator[TextIO]:
    """The real stdout, for the caller alone: until the end, whoever else writes to descriptor 1 writes to stderr."""
    sys.stdout.flush()
    saved = os.dup(1)
    stream = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="replace")
    os.dup2(2, 1)
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):  # the reader is gone, and that was reported
            stream.close()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)
