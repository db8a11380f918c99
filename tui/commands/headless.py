"""What the commands without a screen share: following an engine to an exit code, Ctrl-C, and streams of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from engine.contract import paths
from engine.contract.events import EngineFailed, Event, RunFinished, RunRefused
from engine.contract.stop_reason import BY_OUTPUT, BY_USER
from engine.session.leaving import end_scripts
from tui.command_line import exit_codes
from tui.console.report import Report
from tui.terminal.signals import HANG_UP, STOP_WAIT_S, WARNING, WHY, Terminations

if TYPE_CHECKING:
    from engine.session.engine import Engine

_WAIT_S = 0.2
SCRIPT_STEPS = 3
"""A script gets SIGINT, SIGTERM, SIGKILL."""


def follow(
    engine: Engine,
    report: Report,
    interrupts: Interrupts,
    code_of: Callable[[Event], int | None],
    *,
    never_began: str = "",
) -> int:
    """Report what happens until `code_of` makes an exit code of an event, or the person or the reader leaves.

    Who leaves stops what was started, and is told so where it had not begun: before `never_began`. What is only
    watched goes on without us. A script is stopped in steps: who asks again goes one step further.
    """
    stopping, asked = False, 0
    while True:
        idle = not engine.busy  # asked before the mailbox is read: what ended the run is in it by then
        for event in engine.wait(_WAIT_S):
            report.show(event)
            code = code_of(event)
            if code is not None:
                return code
        report.pass_on()
        interrupts.steps = SCRIPT_STEPS if report.shows_script else 1
        if stopping and idle:  # it was queued only: no event tells of it
            report.say(f"Stopped before {never_began}.")
            return exit_codes.INTERRUPTED
        if not stopping and (interrupts.count or report.lost):
            if engine.label:
                return exit_codes.INTERRUPTED
            stopping = True
            engine.stop(interrupts.why if interrupts.count else BY_OUTPUT)
            asked = interrupts.count
            more = "goes a step further" if interrupts.steps > 1 else "quits at once"
            report.say(f"Stopping; a run that has begun is kept. Once more {more}.")
        elif asked < interrupts.count <= interrupts.steps:
            asked = interrupts.count
            engine.stop(interrupts.why)
        elif interrupts.count > interrupts.steps or interrupts.overdue:
            report.end("Quitting at once: what is under way ends as interrupted.")
            return exit_codes.INTERRUPTED


def run_code(event: Event) -> int | None:
    """The exit code of a run that is over with this event."""
    match event:
        case RunFinished():
            return exit_codes.of_run(event.record)
        case RunRefused():
            return exit_codes.NOT_STORED if event.no_history else exit_codes.WRONG_USAGE
        case EngineFailed():
            return exit_codes.FAILED
    return None


class Interrupts:
    """Counts Ctrl-C, SIGTERM and SIGUSR1: one stops, two quit, and the third ends the process where it stands; while a
    script runs there are `SCRIPT_STEPS` before one that quits.

    SIGUSR1, which warns of the end of a job's time, counts once however often it comes, and so does SIGHUP of a
    terminal that goes away; under `nohup` that stays without effect. `err` may be a terminal.
    """

    def __init__(self, err: TextIO | None = None) -> None:
        self.count = 0
        self.steps = 1
        """How many of them stop what is under way, before one more quits."""
        self.why = BY_USER
        """Which signal came first, as the row of the run that it stops says it."""
        self._once: set[int] = set()
        self._terminated_at: float | None = None
        self._sent = Terminations()
        self._err = 2 if err is None else err.fileno()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in filter(None, (signal.SIGINT, signal.SIGTERM, WARNING)):
            self._before[number] = signal.signal(number, self._on_signal)
        if HANG_UP is not None and signal.getsignal(HANG_UP) is not signal.SIG_IGN:
            self._before[HANG_UP] = signal.signal(HANG_UP, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def overdue(self) -> bool:
        """Whether a SIGTERM came so long ago that whoever sent it will not wait much longer."""
        return self._terminated_at is not None and time.monotonic() - self._terminated_at > STOP_WAIT_S

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # only notes and counts: whatever takes a lock may be what was interrupted
        if not self.count:
            self.why = WHY.get(number, BY_USER)
        if number in (WARNING, HANG_UP):
            again = number in self._once
            self._once.add(number)
        else:
            again = self._sent.is_echo(number)
        if number == signal.SIGTERM and self._terminated_at is None:
            self._terminated_at = time.monotonic()
        self.count += not again
        if self.count > self.steps + 1:
            end_scripts()
            if os.isatty(self._err):
                os.write(self._err, b"\x1b[?25h\n")  # a progress bar hides the cursor
            os._exit(exit_codes.INTERRUPTED)


@contextlib.contextmanager
def own_streams(rank: int = 0) -> Iterator[tuple[TextIO, TextIO]]:
    """The real stdout and stderr, for the caller alone: until the end, what others print goes to the log file.

    So they hold the transcript, or JSON, and our messages, and nothing that a library or a worker process prints.
    """
    standard = (sys.stdout, sys.stderr)
    saved = []
    own: list[TextIO] = []
    for descriptor, stream in zip((1, 2), standard, strict=True):
        stream.flush()
        saved.append(os.dup(descriptor))
        own.append(os.fdopen(os.dup(descriptor), "w", buffering=1, encoding=stream.encoding, errors="replace"))
    log = _open_log(rank)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    try:
        yield own[0], own[1]
    finally:
        for stream in (*own, *standard):
            with contextlib.suppress(OSError):  # the reader is gone, and that was reported
                stream.close() if stream in own else stream.flush()
        for descriptor, kept in zip((1, 2), saved, strict=True):
            os.dup2(kept, descriptor)
            os.close(kept)


def _open_log(rank: int) -> int:
    """A descriptor of the log file, which whoever prints adds to; of nothing where it cannot be written."""
    path = paths.log_file(rank)
    try:
        paths.make_private(path.parent)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
