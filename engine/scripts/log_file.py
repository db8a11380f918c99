"""What a script prints: straight into files of its run, so that nobody it prints to can slow it or end it.

Of the files, which may grow by gigabytes, a part is read as they grow: whole lines for people, at a pace that they can
be read at. Of a line that a progress bar writes again and again only its last state counts.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from engine.contract.config import ConfigError
from engine.contract.events import Logged
from engine.contract.paths import make_private, script_errors, script_log
from engine.contract.text import harmless
from engine.process.run_files import make_room

log = logging.getLogger("traintop")

LINES_PER_S = 20.0
"""That are shown; what comes faster is in the file alone."""
BAR_S = 10.0
"""A line that is written anew all the time, as by a progress bar, is shown so often before it ends."""
_BURST = 40
LINES_LONG, LINES_LONG_PER_S = 2_000.0, 2.0
"""Of a run that prints on and on: so many at first, and so many a second after them. They are kept in the history."""
_LAST = 15
"""Lines at the end that are shown however fast they came, of each stream: there is the traceback."""
_CHUNK, _CHUNKS = 2**20, 16
"""Bytes of one reading, and readings at a time."""
_KEPT = 2**16
"""Bytes of what was read at a time that lines are looked for in: of a flood its end."""
_LONGEST = 500
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\^-~])")
"""ECMA-48's control sequences: colours, cursor moves, titles."""


class Printed:
    """The files of a run, and what is told of them. `descriptors` are what the script writes to."""

    def __init__(self, run_id: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Where no file can be written, what is printed is lost: `path` is None, and a line in our log says why."""
        self._clock = clock
        self.path: Path | None = None
        self._tails: list[Tail] = []
        self.descriptors = (-1, -1)
        try:
            paths = script_log(run_id), script_errors(run_id)
            make_private(paths[0].parent)
            make_room(paths[0].parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC
            self.descriptors = tuple(os.open(path, flags, 0o600) for path in paths)  # type: ignore[assignment]
            self._tails = [Tail(path, name) for path, name in zip(paths, ("stdout", "stderr"), strict=True)]
            self.path = paths[0]
        except (OSError, ConfigError):
            log.warning("no files for what a script prints", exc_info=True)
            self.let_go()
            self.descriptors = tuple(os.open(os.devnull, os.O_WRONLY) for _ in range(2))  # type: ignore[assignment]
        self._allowed, self._long, self._allowed_at = float(_BURST), LINES_LONG, clock()
        self._left_out = 0

    def let_go(self) -> None:
        """The script has its descriptors: ours are closed."""
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)

    def news(self) -> Iterator[Logged]:
        """The lines since the last call, as many as can be read."""
        now = self._clock()
        passed = now - self._allowed_at
        self._long = min(LINES_LONG, self._long + passed * LINES_LONG_PER_S)
        self._allowed = min(_BURST, self._long, self._allowed + passed * LINES_PER_S)
        self._allowed_at = now
        for tail in self._tails:
            yield from self._some(tail, tail.read(now), int(self._allowed))

    def rest(self) -> Iterator[Logged]:
        """What is left at the end of the run, of each stream at least its last lines."""
        for tail in self._tails:
            yield from self._some(tail, tail.rest(), max(_LAST, int(self._allowed)))
        if self._left_out:
            yield self._note()

    def _some(self, tail: Tail, lines: list[str], most: int) -> Iterator[Logged]:
        tail.skipped, skipped = 0, tail.skipped
        shown = lines[max(0, len(lines) - most) :] if most else []
        self._left_out += skipped + len(lines) - len(shown)
        if not shown:
            return
        self._allowed -= len(shown)
        self._long -= len(shown)
        if self._left_out:
            yield self._note()
        for line in shown:
            yield Logged(source=tail.source, text=line)

    def _note(self) -> Logged:
        n, self._left_out = self._left_out, 0
        return Logged(source="left out", text=f"… {n:,} line{'s' if n > 1 else ''} left out: all are in {self.path}")

    @property
    def where(self) -> str | None:
        """The files that something is in, as people read it; None where there are none."""
        if self.path is None:
            return None
        errors = self._tails[1].path
        return f"{self.path} and {errors.name}" if errors.exists() and errors.stat().st_size else str(self.path)

    @property
    def last_errors(self) -> tuple[str, ...]:
        """The last lines of stderr."""
        return tuple(self._tails[1].last) if self._tails else ()

    def close(self) -> None:
        """Let go of the files. One that nothing was written to is removed, but for the first."""
        for tail in self._tails:
            tail.close()
        for tail in self._tails[1:]:
            with suppress(OSError):
                if tail.path.stat().st_size == 0:
                    tail.path.unlink()


class Tail:
    """A file that grows, as lines. `skipped` counts those that a flood brought and nobody looked for."""

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        self.skipped = 0
        self.last: deque[str] = deque(maxlen=_LAST)
        self._file = os.open(path, os.O_RDONLY)
        self._open = b""  # of a line that has not ended
        self._bar_shown, self._bar_at = "", float("-inf")

    def read(self, now: float) -> list[str]:
        """The lines that ended since the last call, and the state of one that is written anew all the time."""
        lines = self._ended(_CHUNKS)
        if b"\r" in self._open and now - self._bar_at >= BAR_S:
            bar = shown(self._open)
            if bar and bar != self._bar_shown:
                self._bar_shown, self._bar_at = bar, now
                lines.append(bar)
        return lines

    def rest(self) -> list[str]:
        """All lines that are left, one that has not ended among them."""
        lines: list[str] = []
        while True:
            before = os.lseek(self._file, 0, os.SEEK_CUR)
            lines += self._ended(_CHUNKS)
            self.skipped += max(0, len(lines) - _BURST)
            lines = lines[-_BURST:]
            if os.lseek(self._file, 0, os.SEEK_CUR) == before:
                break
        line, self._open = shown(self._open), b""
        if line:
            self.last.append(line)
            lines.append(line)
        return lines

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _ended(self, chunks: int) -> list[str]:
        text = self._open
        for _ in range(chunks):
            more = os.read(self._file, _CHUNK)
            if not more:
                break
            text += more
            if len(text) > 2 * _KEPT:  # of a flood the end; a line that never ends is cut
                cut = text[:-_KEPT]
                self.skipped += cut.count(b"\n")
                text = text[-_KEPT:]
        *ended, self._open = text.split(b"\n")
        lines = [line for line in map(shown, ended) if line]
        self.last.extend(lines[-_LAST:])
        return lines


def shown(line: bytes) -> str:
    """A line as people see it: what stands after its last carriage return, without what a terminal would obey."""
    states = [state for state in line.rstrip(b"\r").split(b"\r") if state.strip()]
    text = states[-1].decode("utf-8", "replace") if states else ""
    return harmless(_ESCAPES.sub("", text)).expandtabs().rstrip()[:_LONGEST]
