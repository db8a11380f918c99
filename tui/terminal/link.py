"""The way to the terminal: what was sent over it, and whether the other end still takes it. No Textual.

Over a slow or stalled link a write blocks. The screen's thread never writes itself: Textual's writer thread does, and
here is counted what was handed to it and what has left. While something waits, nothing more is painted, so that the
screen that follows is the newest one and not the replay of old ones.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

BEHIND_S = 0.1
"""How long a write may take to leave before painting waits for it."""


class Link:
    """Counts writes on both sides of the writer thread. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_bytes = 0
        """Sent since the start."""
        self.abandoned = False
        """True when the app was left with writes that nobody took: a thread hangs in one of them."""
        self.show_title: Callable[[str], None] = lambda title: None
        """Names the terminal's window; set by the driver, where the terminal can."""
        self._clock = clock
        self._changed = threading.Condition()
        self._n_waiting = 0
        self._since = 0.0

    @property
    def n_waiting(self) -> int:
        """Writes that were handed over and have not left."""
        return self._n_waiting

    @property
    def waiting_s(self) -> float:
        """Seconds since anything has left, while something waits; else 0."""
        with self._changed:
            return self._clock() - self._since if self._n_waiting else 0.0

    @property
    def behind(self) -> bool:
        """Whether painting should wait."""
        return self.waiting_s > BEHIND_S

    def handed_over(self) -> None:
        """A write was given to the writer thread."""
        with self._changed:
            if not self._n_waiting:
                self._since = self._clock()
            self._n_waiting += 1

    def left(self, n_writes: int, n_bytes: int) -> None:
        """Writes are through."""
        with self._changed:
            self.n_bytes += n_bytes
            self._n_waiting = max(0, self._n_waiting - n_writes)
            self._since = self._clock()
            self._changed.notify_all()

    def wait_until_sent(self, timeout_s: float) -> bool:
        """Wait until nothing waits any more; False when that takes longer than `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._n_waiting, timeout_s)

    def leave(self, code: int) -> NoReturn:
        """End the process at once: the interpreter's own end would wait for the thread that hangs in a write."""
        os._exit(code)


class TerminalStream:
    """A terminal's stream for the writer thread. What is written once the terminal is gone is swallowed."""

    def __init__(self, stream: TextIO, link: Link) -> None:
        self._stream = stream
        self._link = link
        self._n_writes = self._n_bytes = 0

    def write(self, text: str) -> int:
        """Write, or lose the text."""
        self._n_writes += 1
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._n_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        return len(text)

    def flush(self) -> None:
        """Flush, or lose what was written."""
        with contextlib.suppress(OSError):
            self._stream.flush()
        self._link.left(self._n_writes, self._n_bytes)
        self._n_writes = self._n_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
