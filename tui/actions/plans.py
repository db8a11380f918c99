"""Choosing plans, pausing them, and their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.desk.desk import Desk
from tui.desk.readings import Readings
from tui.drawing.text import clean
from tui.state.plan_view import TITLE_LIMIT, QueuedPlan

if TYPE_CHECKING:
    from engine.contract.events import PlanFinished
    from engine.contract.records import RunRecord
    from engine.history.history import History
    from engine.history.plans import StoredPlan
    from engine.plans.course import Plan
    from engine.session.engine import Engine
    from tui.screens.plans import Chosen


class PlanControl:
    """Owns the choice of a plan: it is under way from the key until the dialog with the plans is there."""

    def __init__(self, desk: Desk, readings: Readings, session: Engine) -> None:
        self._desk, self._readings, self._session = desk, readings, session
        self._state = desk.state
        self._is_choosing = False

    def choose(self) -> None:
        """Choose a plan to start, or one to go on with."""
        if self._state.ready is None and not self._state.failed:
            self._desk.say("the engine is loading: plans are sized to its device")
        elif self._state.failed:
            self._desk.show_error("The engine could not start", self._state.failed)
        elif not self._is_choosing:
            self._is_choosing = True
            self._readings.ask(lambda history: history.plans.newest(), self._offer, self._no_plans)

    def _no_plans(self, problem: str) -> None:
        self._is_choosing = False
        self._desk.say(problem)

    def _offer(self, plans: list[StoredPlan]) -> None:
        from tui.screens.plans import PlansScreen

        self._is_choosing = False
        state = self._state
        if self._desk.shows_panes and state.ready is not None:
            waits_for = self._under_way()
            self._desk.open(PlansScreen(state.editor.config, state.ready, plans, waits_for), self._start)

    def _under_way(self) -> str:
        """What ends before a plan that is chosen now begins; empty while nothing does."""
        state = self._state
        if state.queued_plans:
            return f"the plan {state.queued_plans[-1].title}"
        if state.plan is not None:
            return f"the plan {state.plan.title}"
        if state.running and state.run is not None:
            return f"run {state.run.run_id}"
        return "what is queued" if state.queued or self._session.busy else ""

    def _start(self, chosen: Chosen | None) -> None:
        if chosen is not None and chosen.shows_table and chosen.plan_id is not None:
            self._show_table(chosen.plan, chosen.plan_id)
        elif chosen is not None:
            waits_for = self._under_way()
            first = next((run.label for run in chosen.plan.runs if not run.skip), "")
            title = clean(chosen.plan.title, TITLE_LIMIT)
            begun = chosen.plan_id is not None
            self._state.queued_plans.append(QueuedPlan(title, "" if begun else clean(first, TITLE_LIMIT)))
            self._state.queued += 1
            self._session.start_plan(chosen.plan, chosen.plan_id)
            if waits_for:
                self._state.notice = f"{title} begins when {waits_for} has ended"

    def finished(self, event: PlanFinished) -> None:
        """Set an experiment that came to its end beside the lecture, unless a dialog is open."""
        from engine.plans.course import NAMED

        if event.name not in NAMED or not event.completed or not self._desk.shows_panes:
            return
        self._desk.painter.paint()  # what is seen behind the table is the plan's end

        def show(stored: StoredPlan | None) -> None:
            if stored is not None:
                self._show_table(stored.plan, stored.plan_id)

        def find(history: History) -> StoredPlan | None:
            return next((plan for plan in history.plans.newest() if plan.plan_id == event.plan_id), None)

        self._readings.ask(find, show)

    def _show_table(self, plan: Plan, plan_id: int) -> None:
        from tui.screens.plan_table import PlanTableScreen

        def records(history: History) -> list[RunRecord]:
            steps = history.plans.steps(plan_id).values()
            found = [step.record for step in steps if step.record is not None]
            return sorted(found, key=lambda record: record.run_id)

        def show(found: list[RunRecord]) -> None:
            if self._desk.shows_panes:
                self._desk.open(PlanTableScreen(plan, found))

        self._readings.ask(records, show)

    def pause(self) -> None:
        """Let the plan wait after its current run, or go on."""
        state = self._state
        if state.plan is None:
            self._desk.say("no plan is under way: p chooses one")
            return
        state.pausing = not state.pausing
        self._session.pause_plan(state.pausing)
        waits = "the plan waits after this run: S goes on" if state.running else "the plan waits: S goes on"
        self._desk.say(waits if state.pausing else "the plan goes on")
