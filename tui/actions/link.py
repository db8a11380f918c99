"""Painting at the pace of the terminal's link, and what the app itself costs."""

from __future__ import annotations

from contextlib import ExitStack
from time import monotonic, thread_time

from textual import events

from tui.actions.base import ActionsBase
from tui.state.meter import Meter
from tui.terminal.link import Link

HOLD_S = 0.3
"""After so long without anything taken nothing at all is drawn, dialogs and new sizes neither."""


class LinkActions(ActionsBase):
    """Paints nothing while what was painted before has not left."""

    link: Link
    _unpainted = False
    """Something changed that the next turn shows."""
    _owed = False
    """Something should have been shown while the link was behind."""
    _hold: ExitStack | None = None
    _missed = False
    """A dialog or a new size was to be drawn meanwhile."""
    _resized: bool | None = None
    """The terminal was given a size since the last turn; None before the first one, which draws everything anyway."""
    _meter: Meter | None = None

    def _mind_link(self) -> None:
        """Stop drawing while the terminal does not read; once it does again, draw the newest screen."""
        if self._resized:
            self.screen.refresh()
        self._resized = False
        if self._hold is None and self.link.waiting_s > HOLD_S:
            self._hold = ExitStack()
            self._hold.enter_context(self.batch_update())
        elif self._hold is not None and not self.link.behind:
            self._hold.close()
            self._hold = None
            if self._missed:
                self.screen.refresh()
            self._missed = False
            self._paint()
        elif self._owed and not self.link.behind:
            self._paint()

    def on_resize(self, event: events.Resize) -> None:
        """Draw everything again: a size that went there and back looks like none, but the terminal cut what it had."""
        self._resized = None if self._resized is None else True

    def post_display_hook(self) -> None:
        """Textual has drawn something, or has let it be: while held, that is lost."""
        self._missed |= self._hold is not None

    def _read_meter(self) -> None:
        if self._meter is not None and self._meter.read(monotonic(), thread_time(), self.link.n_bytes):
            self.state.view.meter = self._meter.text
            self._unpainted = True

    def action_meter(self) -> None:
        """Show what the app itself costs, or hide it."""
        self._meter = Meter() if self._meter is None else None
        self.state.view.meter = self._meter.text if self._meter is not None else ""
        self._read_meter()
        self._say()
