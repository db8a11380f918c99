"""What calls somebody who is not looking: the bell, the window's title, a line in the log."""

from __future__ import annotations

from time import monotonic

from engine.contract.events import Event
from tui.desk.desk import Desk
from tui.state.alerts import Alert, Alerts, window_title


class AlertControl:
    """Asks `tui.state.alerts`, which it owns, and tells. Whoever only looks at the runs of others is not rung for."""

    def __init__(self, desk: Desk, *, rings: bool = True) -> None:
        self._desk = desk
        self._alerts = Alerts()
        self._rings = rings

    def see(self, event: Event) -> None:
        """Take an event that was just folded."""
        self._call_out(self._alerts.see(event, monotonic()))

    def keep_watch(self) -> None:
        """Look at the clock; name the window."""
        state = self._desk.state
        if not state.playback:  # a recording that is paused does not stand still
            self._call_out(self._alerts.look(monotonic()))
        state.stalled_s = self._alerts.stalled_s
        if state.unread_s != self._alerts.unread_s:
            state.unread_s = self._alerts.unread_s
            self._desk.painter.mark()
        self._desk.painter.link.show_title(window_title(state))

    def _call_out(self, alert: Alert | None) -> None:
        if alert is None:
            return
        state = self._desk.state
        if alert.text:
            state.write("alert", alert.text, alert.level)
            state.notice = alert.text
            self._desk.painter.mark()
        if alert.rings and self._rings and not state.playback:
            self._desk.app.bell()
