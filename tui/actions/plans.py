"""Starting runs and plans, pausing, skipping, stopping."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.history.history import HistoryError
from engine.plans.course import NAMED
from tui.actions.explain import ExplainActions

if TYPE_CHECKING:
    from engine.contract.events import PlanFinished
    from engine.plans.course import Plan
    from tui.screens.plans import Chosen


class RunActions(ExplainActions):
    """What the session is asked to do."""

    def action_run(self) -> None:
        """Start a run with the knobs as they are; before the engine is ready it waits for it.

        One that is forecast to be out of memory is asked about first.
        """
        if not self._may_start():
            return
        made = self._forecast_of_next()
        if made is None or made.fits:
            self._start()
            return
        from tui.screens.question import WontFitScreen

        self.push_screen(WontFitScreen(made), self._start_or_not)

    def _start(self) -> None:
        self.state.queued += 1
        self.state.editor.problem = None
        self.session.start(self.state.editor.config)
        self._say()

    def _start_or_not(self, answer: str | None) -> None:
        if answer == "run" and self._may_start():
            self._start()
        elif answer == "fit":
            self._propose_for_next()
        self._back()

    def _may_start(self) -> bool:
        """Whether something can be started now; says why not."""
        state = self.state
        if state.failed:
            self._show_error("The engine could not start", state.failed)
        elif state.plan is not None:
            self._say("a plan is under way: P pauses it, s stops it")
        elif state.queued or state.running or self.session.busy:
            self._say("a run is under way: s stops it")
        else:
            return True
        return False

    def action_plans(self) -> None:
        """Choose a plan to start, or one to go on with."""
        from tui.screens.plans import PlansScreen

        state = self.state
        if state.ready is None and not state.failed:
            self._say("the engine is loading: plans are sized to its device")
            return
        if not self._may_start() or state.ready is None:
            return
        try:
            plans = self.history.plans.newest()
        except HistoryError as error:
            self._say(str(error))
            return
        self.push_screen(PlansScreen(state.editor.config, state.ready, plans), self._start_plan)

    def _start_plan(self, chosen: Chosen | None) -> None:
        if chosen is not None and chosen.shows_table and chosen.plan_id is not None:
            self._show_plan_table(chosen.plan, chosen.plan_id)
            return
        if chosen is not None and self._may_start():
            self.state.queued += 1
            self.session.start_plan(chosen.plan, chosen.plan_id)
        self._back()

    def _plan_finished(self, event: PlanFinished) -> None:
        """Set an experiment that came to its end beside the lecture, unless a dialog is open."""
        if event.name not in NAMED or not event.completed or self.screen is not self.main:
            return
        self._paint()  # what is seen behind the table is the plan's end
        try:
            stored = next((plan for plan in self.history.plans.newest() if plan.plan_id == event.plan_id), None)
        except HistoryError as error:
            self._say(str(error))
            return
        if stored is not None:
            self._show_plan_table(stored.plan, stored.plan_id)

    def _show_plan_table(self, plan: Plan, plan_id: int) -> None:
        from tui.screens.plan_table import PlanTableScreen

        try:
            steps = self.history.plans.steps(plan_id)
        except HistoryError as error:
            self._say(str(error))
            return
        records = [step.record for step in steps.values() if step.record is not None]
        self.push_screen(PlanTableScreen(plan, sorted(records, key=lambda record: record.run_id)), self._back)

    def _offer_plans(self) -> None:
        """Say that a plan was cut off and can go on."""
        try:
            cut_off = [stored for stored in self.history.plans.interrupted() if stored.ended is None]
        except HistoryError as error:
            self.state.notice = str(error)
            return
        if cut_off:
            self.state.notice = f"plan {cut_off[0].plan.title} was cut off: p goes on with it"

    def action_pause(self) -> None:
        """Let the plan wait after its current run, or go on."""
        plan = self.state.plan
        if plan is None:
            self._say("no plan is under way: p chooses one")
            return
        self.state.pausing = not self.state.pausing
        self.session.pause_plan(self.state.pausing)
        waits = "the plan waits after this run: P goes on" if self.state.running else "the plan waits: P goes on"
        self._say(waits if self.state.pausing else "the plan goes on")

    def action_skip(self) -> None:
        """End the current run of the plan, and go on with the next."""
        if self.state.plan is None or not self.state.running:
            self._say("no run of a plan is under way")
            return
        self.state.stopping = True
        self.session.skip_run()
        self._say("on to the plan's next run")

    def action_stop(self) -> None:
        """Stop after the current micro-step; the row is kept. Of a plan, ask what is meant."""
        if not self.session.busy:
            self._say("nothing is running")
        elif self.state.plan is not None and self.state.running and not self.state.stopping:
            from tui.screens.question import StopScreen

            self.push_screen(StopScreen(self.state), self._stop_what)
        else:
            self._stop_all()

    def _stop_what(self, what: str | None) -> None:
        if what == "run":
            self.action_skip()
        elif what == "plan":
            self._stop_all()
        self._back()

    def _stop_all(self) -> None:
        self.state.stopping, self.state.queued = self.state.running, 0
        self.session.stop()
        self._say()
