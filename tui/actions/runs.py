"""Starting a run, skipping it, stopping."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract.stop_reason import BY_USER
from tui.actions.card import CardControl
from tui.actions.forecast import ForecastControl
from tui.desk.desk import Desk
from tui.state.state import UNDER_WAY

if TYPE_CHECKING:
    from engine.session.engine import Engine


class RunControl:
    """Asks the session for runs. Between two of its events `state.queued`, which plans count too, is what was asked."""

    def __init__(self, desk: Desk, forecasts: ForecastControl, cards: CardControl, session: Engine) -> None:
        self._desk, self._forecasts, self._cards, self._session = desk, forecasts, cards, session
        self._state = desk.state

    def run(self) -> None:
        """Start a run with the knobs as they are; before the engine is ready it waits for it.

        One that would share its card, or that is forecast to be out of memory, is asked about first.
        """
        if not self.may_start():
            return
        ready, neighbours = self._state.ready, self._cards.neighbours
        if ready is not None and neighbours:
            from tui.screens.question import BusyCardScreen

            self._desk.open(BusyCardScreen(ready, neighbours), self._share_or_not)
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

    def _share_or_not(self, answer: str | None) -> None:
        if answer == "run":
            self._cards.accept()
            self.run()
        elif answer == "free":
            if self._cards.take_free() and self.may_start():
                self._start()
        elif answer == "choose":
            self._cards.choose()

    def may_start(self) -> bool:
        """Whether a run can be started now; says why not."""
        state = self._state
        if state.failed:
            self._desk.show_error("The engine could not start", state.failed)
        elif state.plan is not None:
            self._desk.say("a plan is under way: S pauses it, s stops it")
        elif state.queued or state.running or self._session.busy:
            self._desk.say(UNDER_WAY)
        else:
            return True
        return False

    def skip(self) -> None:
        """End the run under way, and go on with the plan's next run, or with the plan that waits."""
        state = self._state
        if not state.running or (state.plan is None and not state.queued_plans):
            self._desk.say("no run of a plan is under way")
            return
        state.stopping = True
        self._session.skip_run()
        self._desk.say("on to the plan's next run" if state.plan is not None else "on to the plan that waits")

    def stop(self) -> None:
        """Stop at the next layer; the row is kept. With a plan, under way or waiting, ask what is meant."""
        state = self._state
        if not self._session.busy:
            self._desk.say("nothing is running")
        elif state.running and not state.stopping and (state.plan is not None or state.queued_plans):
            from tui.screens.question import StopScreen, StopWithQueueScreen

            self._desk.open(
                StopScreen(state) if state.plan is not None else StopWithQueueScreen(state), self._stop_what
            )
        else:
            self.stop_all()

    def _stop_what(self, what: str | None) -> None:
        if what == "run":
            self.skip()
        elif what == "plan":
            self.stop_all()
        elif what == "queue":
            self.forget_queued()

    def forget_queued(self) -> None:
        """Forget the plans that wait; the run under way goes on."""
        self._state.queued, self._state.queued_plans = 0, []
        self._session.forget_queued()
        self._desk.say("the run goes on, and no plan waits for its end")

    def stop_all(self, why: str = BY_USER) -> None:
        """Stop the run under way, its plan, and forget what is queued. `why` is what the run's row says."""
        self._state.stopping = self._state.running
        self._state.queued, self._state.queued_plans = 0, []
        self._session.stop(why)
        self._desk.say()
