"""SIGTERM, SIGUSR1, SIGINT and SIGQUIT, and a terminal that went away.

SIGUSR1 is Slurm's warning that the time limit is near (`sbatch --signal=USR1@60`): what runs is stopped and kept, and
the program left. SIGTERM means the same and that there is little time: Slurm sends SIGKILL 30 s later, docker 10 s.

SIGHUP is blocked, not handled: no write to a terminal that is gone is interrupted, and the app looks now and then
whether one is pending.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from engine.contract import paths
from engine.contract.stop_reason import BY_HANG_UP, BY_TERMINATION, BY_USER, BY_WARNING

_CAN_BLOCK = hasattr(signal, "pthread_sigmask")  # not on Windows


STOP_WAIT_S = 8.0
"""How long a SIGTERM waits for the layer under way."""
WARNING = getattr(signal, "SIGUSR1", None)  # not on Windows
HANG_UP = getattr(signal, "SIGHUP", None)
WHY = {signal.SIGTERM: BY_TERMINATION, WARNING: BY_WARNING, HANG_UP: BY_HANG_UP}
"""What the row of a run says that a signal stopped; SIGINT is a person's."""

_GIVE_BACK = (
    b"\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l"  # no mouse reports
    b"\x1b[?2004l\x1b[?1004l\x1b[?2048l\x1b[?2026l\x1b[?7h"  # pastes, focus, sizes, frames; lines wrap
    b"\x1b[<u\x1b[?1049l\x1b[?25h"  # keys as they were, the main screen, the cursor
)


class Terminations:
    """Tells a second SIGTERM from the echo of the first: `timeout` and service managers send it to the process and, at
    once, to its whole group.
    """

    ECHO_S = 0.1

    def __init__(self) -> None:
        self._last = -self.ECHO_S

    def is_echo(self, number: int) -> bool:
        """Whether signal `number`, which arrives now, is one that was counted already. Safe in a handler."""
        if number != signal.SIGTERM:
            return False
        before, self._last = self._last, time.monotonic()
        return self._last - before < self.ECHO_S


_PATIENCE_S = 0.5
"""How long SIGQUIT waits for a terminal that has not yet read what was drawn last."""


class Signals:
    """Counts SIGTERM and SIGINT, notices SIGUSR1 and SIGHUP. For the main thread, before others begin.

    SIGQUIT gives the terminal back and then does what it does to every program.
    """

    def __init__(self) -> None:
        self.terminations = 0
        self.warned = False
        """Whether SIGUSR1 came: leave once what runs has stopped, however long that takes."""
        self.why = BY_USER
        """Which signal asked first to leave, as the row of the run says it."""
        self._sent = Terminations()
        self._hung_up = False
        self._before: dict[int, Any] = {}
        self._terminal: tuple[int, list[Any]] | None = None

    def __enter__(self) -> Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._on_terminate)
        if WARNING is not None:
            self._before[WARNING] = signal.signal(WARNING, self._on_warning)
        if _CAN_BLOCK and os.isatty(2):
            import termios

            self._terminal = os.dup(2), termios.tcgetattr(2)
            self._before[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, self._on_quit)
        if _CAN_BLOCK:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._terminal is not None:
            os.close(self._terminal[0])
            self._terminal = None
        if _CAN_BLOCK and not self.hung_up:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _on_quit(self, number: int, frame: FrameType | None) -> None:
        import termios

        if self._terminal is not None:
            descriptor, attributes = self._terminal
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
                if select.select([], [descriptor], [], _PATIENCE_S)[1]:  # it may not read at all
                    os.write(descriptor, _GIVE_BACK)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._note(number)
        self.terminations += not self._sent.is_echo(number)  # only counts: a lock may be what was interrupted

    def _on_warning(self, number: int, frame: FrameType | None) -> None:
        self._note(number)
        self.warned = True

    def _note(self, number: int) -> None:
        if not self.to_leave:
            self.why = WHY.get(number, BY_USER)

    @property
    def to_leave(self) -> bool:
        """Whether the program was asked to end."""
        return self.warned or self.terminations > 0

    @property
    def hung_up(self) -> bool:
        """True once the terminal is gone."""
        if _CAN_BLOCK and not self._hung_up and signal.SIGHUP in signal.sigpending():
            signal.sigwait({signal.SIGHUP})
            self._hung_up = True
        return self._hung_up


def terminal_is_gone() -> bool:
    """Whether the terminal that this program was started on no longer answers."""
    try:
        os.get_terminal_size(0)
    except OSError:
        return True
    return False


def leave_terminal() -> None:
    """Point the standard descriptors at nothing: writing to a terminal that is gone is an error."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def _left_behind() -> Path:
    return paths.data_dir() / "terminal-lost.txt"


def leave_word(what: str) -> None:
    """Write down, for the next start, what went on without a terminal."""
    with contextlib.suppress(OSError):
        when = time.strftime("%Y-%m-%d %H:%M")
        _left_behind().write_text(f"The terminal went away on {when}; {what}\n", encoding="utf-8")


def words_left() -> Iterator[str]:
    """What `leave_word` wrote, once."""
    try:
        text = _left_behind().read_text(encoding="utf-8", errors="replace")[:500]
        _left_behind().unlink()
    except OSError:
        return
    yield text.strip()
