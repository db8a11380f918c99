"""Starting a run, skipping it, stopping."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.actions.forecast import ForecastControl
from tui.desk.desk import Desk

if TYPE_CHECKING:
    from engine.session.engine import Engine


class RunControl:
    """Asks the session for runs. Between two of its events `state.queued`, which plans count too, is what was asked."""

    def __init__(self, desk: Desk, forecasts: ForecastControl, session: Engine) -> None:
        self._desk, self._forecasts, self._session = desk, forecasts, session
        self._state = desk.state

    def run(self) -> None:
        """Start a run with the knobs as they are; before the engine is ready it waits for it.

        One that is forecast to be out of memory is asked about first.
        """
        if not self.may_start():
            return
        made = self._forecasts.of_next()
        if made is None or made.fits:
            self._start()
            return
        from tui.screens.question import WontFitScreen

        self._desk.open(WontFitScreen(made), self._start_or_not)

    def _start(self) -> None:
        self._state.queued += 1
        self._state.editor.problem = None
        self._session.start(self._state.editor.config)
        self._desk.say()

    def _start_or_not(self, answer: str | None) -> None:
        if answer == "run" and self.may_start():
            self._start()
        elif answer == "fit":
            self._forecasts.propose_for_next()

    def may_start(self) -> bool:
        """Whether something can be started now; says why not."""
        state = self._state
        if state.failed:
            self._desk.show_error("The engine could not start", state.failed)
        elif state.plan is not None:
            self._desk.say("a plan is under way: P pauses it, s stops it")
        elif state.queued or state.running or self._session.busy:
            self._desk.say("a run is under way: s stops it")
        else:
            return True
        return False

    def skip(self) -> None:
        """End the current run of the plan, and go on with the next."""
        if self._state.plan is None or not self._state.running:
            self._desk.say("no run of a plan is under way")
            return
        self._state.stopping = True
        self._session.skip_run()
        self._desk.say("on to the plan's next run")

    def stop(self) -> None:
        """Stop at the next layer; the row is kept. Of a plan, ask what is meant."""
        if not self._session.busy:
            self._desk.say("nothing is running")
        elif self._state.plan is not None and self._state.running and not self._state.stopping:
            from tui.screens.question import StopScreen

            self._desk.open(StopScreen(self._state), self._stop_what)
        else:
            self.stop_all()

    def _stop_what(self, what: str | None) -> None:
        if what == "run":
            self.skip()
        elif what == "plan":
            self.stop_all()

    def stop_all(self) -> None:
        """Stop the run under way, its plan, and forget what is queued."""
        self._state.stopping, self._state.queued = self._state.running, 0
        self._session.stop()
        self._desk.say()
