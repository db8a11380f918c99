"""What the app itself costs, in the last line."""

from __future__ import annotations

from time import monotonic, thread_time

from tui.desk.desk import Desk
from tui.state.meter import Meter


class MeterControl:
    """Owns the meter: there is one while it is shown."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.meter: Meter | None = None

    def toggle(self) -> None:
        """Show what the app itself costs, or hide it."""
        self.meter = Meter() if self.meter is None else None
        self._desk.state.view.meter = self.meter.text if self.meter is not None else ""
        self.read()
        self._desk.say()

    def read(self) -> None:
        """Look at the clocks, where it is shown."""
        if self.meter is not None and self.meter.read(monotonic(), thread_time(), self._desk.painter.link.n_bytes):
            self._desk.state.view.meter = self.meter.text
            self._desk.painter.mark()
