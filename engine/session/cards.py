"""The machine's cards for a screen or a command, read in a thread of its own: a driver that hangs holds nobody up.

Nothing of the training is needed for it, and nothing of it is imported.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from engine.contract.cards import CardProcess, Cards

if TYPE_CHECKING:
    from engine.telemetry.cards import CardReader

INTERVAL_S = 0.5

log = logging.getLogger("traintop")


class CardWatch:
    """Reads all cards every `interval_s` seconds from `open` to `close`."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._closing = threading.Event()
        self._newest: Cards | None = None
        self._read_at = 0.0  # by a clock that nobody sets

    @property
    def newest(self) -> Cards | None:
        """The last reading; None before the first. `age_s` tells how old it is."""
        return self._newest

    @property
    def age_s(self) -> float | None:
        """Seconds since the last reading."""
        return None if self._newest is None else time.monotonic() - self._read_at

    def open(self) -> None:
        """Begin; returns at once. The first reading follows as soon as the driver answers."""
        self._closing.clear()
        threading.Thread(target=self._work, args=(self._closing,), name="cards", daemon=True).start()

    def close(self) -> None:
        """Read no more; a reading under way may still end. It can be opened again."""
        self._closing.set()
        self._closing = threading.Event()

    def _work(self, closing: threading.Event) -> None:
        try:
            reader = new_reader()
            while not closing.is_set():
                began = time.monotonic()
                newest = reader.read()
                self._read_at = time.monotonic()
                self._newest = newest
                closing.wait(max(0.0, self._interval_s - (time.monotonic() - began)))
        except Exception as error:  # a defect of ours: told where the cards would be
            log.exception("the cards cannot be read")
            why = f"The cards cannot be read ({type(error).__name__}: {error}); the log file has the details."
            self._read_at, self._newest = time.monotonic(), Cards(at=time.time(), problem=why)


def new_reader() -> CardReader:
    """What reads all cards, once for each `read()`."""
    from engine.telemetry.cards import CardReader
    from engine.telemetry.nvml import door

    return CardReader(door())


def environment_of(process: CardProcess) -> dict[str, str]:
    """The Slurm and CUDA variables of a process; empty where they cannot be read."""
    from engine.telemetry import processes

    return processes.environment_of(process.pid, process.started_at)


def end(process: CardProcess, *, force: bool = False) -> str | None:
    """End one of this user's own processes, by SIGTERM or with `force` by SIGKILL; a sentence where it cannot be."""
    from engine.telemetry import processes

    return processes.end(process.pid, process.started_at, force=force)


def is_there(process: CardProcess) -> bool:
    """Whether the process is still there."""
    from engine.telemetry import processes

    return processes.is_there(process.pid, process.started_at)
