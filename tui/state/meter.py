"""What the app itself costs: its screen's share of a processor core, and what it sends to the terminal. Pure."""

from __future__ import annotations

from engine.contract.numbers import number, percent

EVERY_S = 2.0


class Meter:
    """Rates over the last `EVERY_S` seconds or more, from readings that the caller takes."""

    def __init__(self) -> None:
        self._before: tuple[float, float, int] | None = None
        self.text = "app –"

    def read(self, now: float, cpu_s: float, n_bytes: int) -> bool:
        """Take a reading: the clock, the screen's processor seconds, the bytes sent. True when the text is new."""
        if self._before is None:
            self._before = (now, cpu_s, n_bytes)
            return False
        then, cpu_then, bytes_then = self._before
        if now - then < EVERY_S:
            return False
        self._before = (now, cpu_s, n_bytes)
        share = (cpu_s - cpu_then) / (now - then) * 100
        rate = (n_bytes - bytes_then) / (now - then) / 1024
        self.text = f"app {percent(share)} of a core  {number(rate, 1, 'KB/s')}"
        return True
