"""The end of a file that grows, read beside the screen: a file system that does not answer keeps no key waiting."""

from __future__ import annotations

import os
import stat
import threading
from time import monotonic

from tui.drawing.text import clean

EVERY_S = 1.0
LINES, BYTES = 500, 64 * 1024
"""That are kept of its end."""
_WIDTH = 2000


class Tail:
    """Owns one path at a time, and the thread that reads it; no second one begins while that has not ended."""

    def __init__(self) -> None:
        self._path = ""
        self._seen: tuple[int, int] | None = None
        """Size and time of the last change, as they were read."""
        self._began = 0.0
        self._thread: threading.Thread | None = None
        self._read: tuple[str, list[str]] | None = None

    def look(self, path: str) -> list[str] | None:
        """Its last lines, harmless ones, where they are others than those told before; never waits."""
        read, self._read = self._read, None
        if path != self._path:
            self._path, self._seen, self._began, read = path, None, 0.0, None
        now = monotonic()
        idle = self._thread is None or not self._thread.is_alive()
        if idle and now - self._began >= EVERY_S:
            self._began = now
            self._thread = threading.Thread(target=self._look, args=(path,), name="rank-log", daemon=True)
            self._thread.start()
        return read[1] if read is not None and read[0] == path else None

    def _look(self, path: str) -> None:
        try:
            about = os.stat(path)
            if not stat.S_ISREG(about.st_mode):
                lines = [f"{path} is no file"]
            elif (about.st_size, about.st_mtime_ns) == self._seen:
                return
            else:
                self._seen = about.st_size, about.st_mtime_ns
                lines = _end_of(path, about.st_size)
        except OSError as error:
            if self._seen == (-1, error.errno or 0):
                return
            self._seen = -1, error.errno or 0
            lines = [f"{path}: {error.strerror or error}"]
        self._read = path, [clean(line, _WIDTH) for line in lines]


def _end_of(path: str, size: int) -> list[str]:
    with open(path, "rb") as file:
        file.seek(max(0, size - BYTES))
        text = file.read(BYTES).decode("utf-8", "replace")
    lines = text.splitlines()
    return lines[1:][-LINES:] if size > BYTES else lines[-LINES:]
