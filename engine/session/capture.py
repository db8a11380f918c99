"""Everything that libraries print goes to the log pane, never over the screen.

File descriptors 1 and 2 are pointed at a pipe, so that prints from C code and from worker processes are caught
too; the terminal stays reachable through `OutputCapture.stdout` and `.stderr`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from engine.contract.paths import make_private

LINE_LIMIT = 10_000
"""Characters of one printed line that are kept."""


class OutputCapture:
    """Redirects this process's stdout and stderr from `start` to `stop`."""

    def __init__(self) -> None:
        self._saved = (os.dup(1), os.dup(2))
        self.stdout: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
        self.stderr: TextIO = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
        self._streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        self._read, self._write = os.pipe()

    def start(self) -> None:
        """Point descriptors 1 and 2 at the pipe; Python's own `sys.__stderr__` (the screen's) at the terminal."""
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in (1, 2):
            os.dup2(self._write, descriptor)
        os.close(self._write)
        sys.__stdout__, sys.__stderr__ = self.stdout, self.stderr  # type: ignore[misc, assignment]

    def pump(self, on_line: Callable[[str], None]) -> None:
        """Read lines until `stop`; runs in a thread of its own, so that a printing library never waits."""
        rest = b""
        with os.fdopen(self._read, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65_536):
                *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
                for line in lines:
                    text = line[:LINE_LIMIT].decode("utf-8", "replace").rstrip()
                    if text:
                        on_line(text)
                rest = rest[:LINE_LIMIT]  # of a line without end the beginning is kept

    def stop(self) -> None:
        """Give the descriptors back; `pump` ends when the last writer has closed the pipe."""
        for stream in self._streams[:2]:
            stream.flush()
        for descriptor, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
        sys.__stdout__, sys.__stderr__ = self._streams[2:]  # type: ignore[misc]


def log_to_file(path: Path) -> str | None:
    """Send the `traintop` logger (tracebacks, captured lines) to `path`, at most 2 x 2 MB.

    Returns a sentence when the file cannot be written, else None.
    """
    logger = logging.getLogger("traintop")
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the root logger's handlers would print
    if logger.handlers:
        return None
    try:
        make_private(path.parent)
        handler: logging.Handler = RotatingFileHandler(path, maxBytes=2_000_000, backupCount=1, encoding="utf-8")
        sentence = None
    except OSError as error:
        handler = logging.NullHandler()
        sentence = f"No log file: {path} cannot be written ({error.strerror}). Set TRAINTOP_HOME to a folder that can."
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk's tracebacks would be logged
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    return sentence
