"""Terminal: a command in a real pseudo-terminal, what it has written to it, and its keys.

Waiting is always for something on the screen or for the end of the process, never for time to pass.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte

KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "space": " ",
    "backspace": "\x7f",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "ctrl+c": "\x03",
    "ctrl+p": "\x10",
    "ctrl+q": "\x11",
}
"""What a terminal sends for the keys that are not one character."""

_PRIVATE = 5  # pyte shifts private modes by this, to keep them apart from the others
_ALTERNATE_SCREEN = 1049 << _PRIVATE
_MOUSE = tuple(mode << _PRIVATE for mode in (1000, 1003, 1006, 1015))
_UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<=]\d*u")  # the keyboard protocol's pop and set: pyte would draw the `u`


@dataclass(frozen=True)
class Chunk:
    """Bytes as they were read from the terminal, and `time.perf_counter()` then."""

    at: float
    data: bytes


class Emulator:
    """A screen of `columns` × `rows` that bytes are drawn on."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)

    def feed(self, data: bytes) -> None:
        """Draw what a program wrote."""
        self._stream.feed(_UNKNOWN_TO_PYTE.sub(b"", data))

    def line_with(self, text: str) -> str:
        """The first line that holds `text`; empty where none does."""
        return next((line for line in self.screen.display if text in line), "")


class Terminal:
    """Runs `command` in a new session with a pseudo-terminal of its own as stdin, stdout and stderr.

    `env` is added to this process's environment; `folder` is where it starts. With `emulate` False nothing is drawn
    while the command runs, so that reading costs next to nothing; `chunks` holds everything with its times.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 120,
        rows: int = 40,
        env: Mapping[str, str] | None = None,
        emulate: bool = True,
        folder: Path | None = None,
    ) -> None:
        self.chunks: list[Chunk] = []
        self._changed = threading.Condition()
        self._emulator = Emulator(columns, rows) if emulate else None
        self._master, self._slave = pty.openpty()
        self._set_size(columns, rows)
        self.before = termios.tcgetattr(self._slave)
        """The line discipline as the command found it."""
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})},
            cwd=folder,
            start_new_session=True,
            preexec_fn=_take_terminal,  # one system call between fork and exec
        )
        self._reading = threading.Event()
        self._reading.set()
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # what is on the screen --------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """The screen's lines now."""
        with self._changed:
            return list(self._screen.display)

    @property
    def text(self) -> str:
        """The screen now, lines without their trailing spaces."""
        return "\n".join(line.rstrip() for line in self.lines)

    def line_with(self, text: str) -> str:
        """The first line of the screen that holds `text`; empty where none does."""
        return next((line for line in self.lines if text in line), "")

    @property
    def raw(self) -> bytes:
        """Every byte written so far."""
        with self._changed:
            return b"".join(chunk.data for chunk in self.chunks)

    @property
    def in_alternate_screen(self) -> bool:
        """Whether a full-screen program has the screen."""
        return _ALTERNATE_SCREEN in self._screen.mode

    @property
    def cursor_hidden(self) -> bool:
        """Whether the cursor cannot be seen."""
        return bool(self._screen.cursor.hidden)

    @property
    def mouse_reported(self) -> bool:
        """Whether the terminal would send mouse movements to the shell."""
        return any(mode in self._screen.mode for mode in _MOUSE)

    @property
    def _screen(self) -> pyte.Screen:
        assert self._emulator is not None, "this terminal was told not to emulate"
        return self._emulator.screen

    def wait_for(self, wanted: str | Callable[[str], object], timeout_s: float = 60.0) -> str:
        """Wait until a text is on the screen, or a predicate of the screen's text is true; the screen's text then.

        Raises `AssertionError`, with the screen, when the time is over or the command has ended first.
        """
        found: Callable[[str], object] = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        what = repr(wanted) if isinstance(wanted, str) else getattr(wanted, "__name__", "what was waited for")
        return self._wait(found, what, timeout_s)

    def wait_for_bytes(self, wanted: bytes, timeout_s: float = 60.0) -> float:
        """Wait until `wanted` was written; the time it was read. Works without emulation."""
        deadline = time.monotonic() + timeout_s
        seen, n_seen = b"", 0
        while True:
            with self._changed:
                for chunk in self.chunks[n_seen:]:
                    seen = seen[-len(wanted) :] + chunk.data
                    if wanted in seen:
                        return chunk.at
                n_seen = len(self.chunks)
                self._wait_for_more(n_seen, deadline, f"the bytes {wanted!r}")

    def wait_for_more(self, n_seen: int, deadline: float) -> None:
        """Wait until there are more than `n_seen` chunks; `deadline` is a `time.monotonic()`."""
        with self._changed:
            self._wait_for_more(n_seen, deadline, "more output")

    def _wait(self, found: Callable[[str], object], what: str, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                text = "\n".join(line.rstrip() for line in self._screen.display)
                if found(text):
                    return text
                self._wait_for_more(len(self.chunks), deadline, what)

    def _wait_for_more(self, n_seen: int, deadline: float, what: str) -> None:
        while len(self.chunks) <= n_seen:
            left = deadline - time.monotonic()
            ended = self.process.poll() is not None and not self._reader.is_alive()
            if left <= 0 or ended:
                why = f"the command ended with {self.process.returncode}" if ended else "the time is over"
                shown = "\n".join(self._screen.display) if self._emulator else f"{len(self.chunks)} chunks"
                raise AssertionError(f"{what} did not come: {why}. The screen:\n{shown}")
            self._changed.wait(min(left, 0.5))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # EIO: nobody has the other end open
                data = b""
            with self._changed:
                if data:
                    self.chunks.append(Chunk(time.perf_counter(), data))
                    if self._emulator:
                        self._emulator.feed(data)
                self._changed.notify_all()
            if not data:
                return
            self._reading.wait()

    # what the person does ---------------------------------------------------------------------------------------

    def press(self, *keys: str) -> float:
        """Type keys: characters, or names in `KEYS`. The time right before the last one."""
        at = time.perf_counter()
        for key in keys:
            at = time.perf_counter()
            os.write(self._master, KEYS.get(key, key).encode())
        return at

    def stop_reading(self) -> None:
        """Read no more than what is being read now, as a terminal does behind a connection that hangs."""
        self._reading.clear()

    def read_on(self) -> None:
        """Take what has come meanwhile, and go on."""
        self._reading.set()

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size; the command gets SIGWINCH."""
        with self._changed:
            if self._emulator:
                self._emulator.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    # the end ----------------------------------------------------------------------------------------------------

    def wait_exit(self, timeout_s: float = 60.0) -> int:
        """Wait for the command's end and for its last byte; the exit code (negative: a signal)."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            shown = self.text if self._emulator else ""
            raise AssertionError(f"the command did not end within {timeout_s:g} s. The screen:\n{shown}") from None
        self.after = termios.tcgetattr(self._slave)
        os.close(self._slave)
        self._slave = -1
        self._reader.join(10)
        return code

    @property
    def restored(self) -> bool:
        """After `wait_exit`: the main screen, a cursor, no mouse reports, the line discipline as it was."""
        return not (self.in_alternate_screen or self.cursor_hidden or self.mouse_reported) and self.after == self.before

    def hang_up(self) -> None:
        """Go away, as a terminal does when its window is closed or its connection is lost."""
        master, self._master = self._master, -1
        os.write(master, b"b")  # the answer ends the reader's read, which would keep the terminal alive
        for descriptor in (self._slave, master):
            os.close(descriptor)
        self._slave = -1

    def kill(self) -> None:
        """End the command as the out-of-memory killer does."""
        self.process.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """End what still runs, and everything it started in this terminal."""
        self._reading.set()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1
        self._reader.join(10)
        if self._master >= 0 and not self._reader.is_alive():
            os.close(self._master)
            self._master = -1


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
