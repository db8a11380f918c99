"""SIGTERM, and a terminal that went away.

SIGHUP is blocked, not handled: the mask is inherited, so worker processes outlive the terminal as well, and the app
looks now and then whether one is pending.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from engine.contract import paths

_CAN_BLOCK = hasattr(signal, "pthread_sigmask")  # not on Windows


class Signals:
    """Counts SIGTERM and notices SIGHUP from entering to leaving. For the main thread, before others begin."""

    def __init__(self) -> None:
        self.terminations = 0
        self._hung_up = False
        self._before: Any = None

    def __enter__(self) -> Signals:
        self._before = signal.signal(signal.SIGTERM, self._on_terminate)
        if _CAN_BLOCK:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)
        if _CAN_BLOCK and not self.hung_up:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self.terminations += 1  # only counts: whatever takes a lock may be what was interrupted

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
