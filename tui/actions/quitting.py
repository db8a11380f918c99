"""Leaving the app: by a key, by a signal, because the terminal is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.actions.runs import RunControl
from tui.desk.desk import Desk
from tui.terminal.signals import STOP_WAIT_S

if TYPE_CHECKING:
    from engine.session.engine import Engine
    from tui.terminal.signals import Signals


class QuitControl:
    """Owns how the app is left once the run under way has stopped."""

    def __init__(self, desk: Desk, runs: RunControl, session: Engine, signals: Signals | None) -> None:
        self._desk, self._runs, self._session, self._signals = desk, runs, session, signals
        self._how: str | None = None

    @property
    def is_leaving(self) -> bool:
        """Whether the app is left as soon as nothing runs any more."""
        return self._how is not None

    def quit(self) -> None:
        """Leave; while a run is under way, ask how."""
        if not self._session.busy or self._desk.state.failed:
            self._desk.app.exit("quit")
            return
        from tui.screens.question import QuitScreen

        screen = self._desk.app.screen
        if isinstance(screen, QuitScreen):  # Ctrl-C: the second time it stops the run, the third it is left
            screen.dismiss("stop" if self._how is None else "kill")
        else:
            self._desk.open(QuitScreen(self._desk.state), self._leave)

    def _leave(self, how: str | None) -> None:
        if how == "kill":
            self._desk.app.exit("kill")
        elif how == "stop":
            self._how = "quit"
            self._runs.stop_all()
            self._desk.state.notice = "quitting when the run has stopped"

    def obey_signals(self) -> None:
        """Leave when the process is asked to end, or its terminal is gone."""
        app, signals = self._desk.app, self._signals
        if signals is None:
            return
        if signals.hung_up:
            app.exit("hangup")
        elif signals.terminations > 1:
            app.exit("kill")
        elif signals.terminations and self._how != "terminated":
            self._how = "terminated"
            self._runs.stop_all(signals.why)
            app.set_timer(STOP_WAIT_S, lambda: app.exit("terminated"))
        elif signals.warned and self._how is None:
            self._how = "warned"
            self._runs.stop_all(signals.why)

    def leave_if_stopped(self) -> None:
        """Leave, where that was asked for and nothing runs any more."""
        if self._how is not None and not self._session.busy:
            self._desk.app.exit(self._how)
