"""What a user's own script prints, passed on as it is: its stdout to one stream, its stderr to another.

Between its lines ours stand in the second stream.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TextIO

from engine.contract import paths

_CHUNK = 2**16
_OURS = "traintop: "
"""What our lines begin with."""


class PassedOn:
    """Follows the files that one run's script prints to. `pass_on` may raise `OSError`, of the stream."""

    def __init__(self, run_id: int, started_at: float, out: TextIO, err: TextIO) -> None:
        """`started_at` in Unix time: an older file of that name is another history's."""
        self._err = err
        self._tails = [
            _Tail(paths.script_log(run_id), started_at, out),
            _Tail(paths.script_errors(run_id), started_at, err),
        ]

    def pass_on(self) -> None:
        """Write what was printed since the last call."""
        for tail in self._tails:
            tail.pass_on()

    def write(self, text: str) -> None:
        """Write a line of ours to the second stream: on a line of its own, and marked as ours."""
        out, err = self._tails
        if not err.ends_line or (not out.ends_line and out.is_terminal):
            self._err.write("\n")
            err.ends_line = out.ends_line = True
        self._err.write(f"{_OURS}{text}")

    def flush(self) -> None:
        """Leave nothing of ours behind."""
        self._err.flush()

    def end(self) -> None:
        """Write the rest."""
        self.pass_on()
        for tail in self._tails:
            tail.close()


class _Tail:
    def __init__(self, path: Path, started_at: float, stream: TextIO) -> None:
        self._path, self._started_at, self._stream = path, started_at, stream
        self._file = -1
        self.ends_line = True
        self._is_over = False

    def pass_on(self) -> None:
        if self._is_over or (self._file < 0 and not self._open()):
            return
        while chunk := os.read(self._file, _CHUNK):
            self._write(chunk)

    @property
    def is_terminal(self) -> bool:
        return self._stream.isatty()

    def _open(self) -> bool:
        with contextlib.suppress(OSError):
            if self._path.stat().st_mtime >= int(self._started_at):
                self._file = os.open(self._path, os.O_RDONLY)
        return self._file >= 0

    def _write(self, chunk: bytes) -> None:
        self.ends_line = chunk.endswith(b"\n")
        self._stream.flush()
        if (raw := getattr(self._stream, "buffer", None)) is not None:  # as it is, of whatever encoding
            raw.write(chunk)
            raw.flush()
        else:
            self._stream.write(chunk.decode("utf-8", "replace"))

    def close(self) -> None:
        self._is_over = True
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
