"""What calls somebody who is not looking: the bell, the window's title, a line in the log."""

from __future__ import annotations

from time import monotonic

from engine.contract.events import Event
from tui.actions.link import LinkActions
from tui.state.alerts import Alert, Alerts, window_title


class AlertActions(LinkActions):
    """Asks `tui.state.alerts`, and tells. Whoever only looks at the runs of others is not rung for."""

    alerts: Alerts
    rings: bool = True

    def _see(self, event: Event) -> None:
        """Take an event that was just folded."""
        self._call_out(self.alerts.see(event, monotonic()))

    def _keep_watch(self) -> None:
        """Look at the clock; name the window."""
        if not self.state.playback:  # a recording that is paused does not stand still
            self._call_out(self.alerts.look(monotonic()))
        self.state.stalled_s = self.alerts.stalled_s
        self.link.show_title(window_title(self.state))

    def _call_out(self, alert: Alert | None) -> None:
        if alert is None:
            return
        if alert.text:
            self.state.write("alert", alert.text, alert.level)
            self.state.notice = alert.text
            self._unpainted = True
        if alert.rings and self.rings and not self.state.playback:
            self.bell()
