"""Runs a plan, one run after the other, in the engine's thread: pause, skip, stop, and going on after a crash.

What a run needs (a device, a row, the events) is the session's business; it comes in as a function.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.contract.config import RunConfig
from engine.contract.events import Event, Logged, PlanFinished, PlanProgress, PlanStarted, RunRefused
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History, HistoryError
from engine.history.plans import COMPLETED, STOPPED
from engine.plans.course import Course, Hopeless, Plan, PlannedRun, Step, Verdict

RunOne = Callable[[RunConfig, Callable[[int], None]], RunRecord | RunRefused]
"""Does one run to its end; tells the number of its row as soon as it has one.

Raises `HistoryError` when the run cannot get a row; nothing else.
"""

log = logging.getLogger("traintop")

_SKIPPED = "Skipped by the user."
TRIES, RETRY_S = 30, 10.0
"""How often a run asks for its row, and the pause: five minutes, besides the history's own patience."""


class PlanControl:
    """What the screen asks of a plan under way. Any thread may call anything."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paused = self._stopped = self._skip = False

    @property
    def stopped(self) -> bool:
        """True once the plan was asked to stop."""
        return self._stopped

    @property
    def paused(self) -> bool:
        """True while no further run may begin."""
        return self._paused and not self._stopped

    def stop(self) -> None:
        """End the plan before its next run."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def pause(self, paused: bool = True) -> None:
        """Let no further run begin, or (False) let them."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def skip(self) -> None:
        """Remember that the run under way ends because it is not wanted."""
        with self._changed:
            self._skip = True

    def take_skip(self) -> bool:
        """Whether the run that just ended was skipped; forgets it."""
        with self._changed:
            skip, self._skip = self._skip, False
            return skip

    def wait(self) -> None:
        """Return when the next run may begin, or the plan is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._paused)

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`, or when the plan is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, seconds)


@dataclass(kw_only=True)
class PlanRunner:
    """One plan under way. `plan_id` of an earlier process's plan goes on where that one came to."""

    plan: Plan
    history: History
    run_one: RunOne
    emit: Callable[[Event], None]
    control: PlanControl = field(default_factory=PlanControl)
    hopeless: Hopeless = lambda config: None
    foretell: Callable[[Plan], Plan] = lambda plan: plan
    """Puts forecasts into the rows of a plan that begins; those of one that goes on are there."""
    plan_id: int | None = None
    _done: int = field(default=0, init=False)
    """Steps that are over, those of an earlier process included."""

    @property
    def left(self) -> list[RunConfig]:
        """The runs that are still to be done; of a search, which decides as it goes, its first."""
        done = self._done if self.plan.total is not None else 0
        return [run.config for run in self.plan.runs[done:] if run.skip is None]

    def execute(self) -> None:
        """Run to the end of the plan, or until it is stopped. Never raises: what goes wrong is in `PlanFinished`."""
        completed, problem, no_history = False, "", False
        findings: list[str] = []
        try:
            over = self._begin()
            course = Course(self.plan, self.hopeless)
            findings = course.findings
            try:
                completed = self._follow(course, over)
            finally:
                self._keep(lambda: self.history.plans.finish(self._id, COMPLETED if completed else STOPPED))
        except HistoryError as error:
            problem, no_history = str(error), True
        except Exception as error:  # a defect of ours must not leave the screen waiting for the plan's end
            log.exception("the engine could not finish a plan")
            problem = f"The engine could not finish the plan: {error}"
        self.emit(
            PlanFinished(
                plan_id=self.plan_id or 0,
                name=self.plan.name,
                completed=completed,
                done=self._done,
                total=self.plan.total,
                findings=tuple(findings),
                failed=bool(problem),
                no_history=no_history,
                message=problem or (None if completed else "Stopped before its end; it can go on later."),
            )
        )

    def _begin(self) -> dict[tuple[int, int], Verdict]:
        """Give the plan its row. What an earlier process did of it."""
        if self.plan_id is None:
            self.plan = self.foretell(self.plan)
        over = self.history.plans.steps(self.plan_id) if self.plan_id is not None else {}
        self.plan_id = self.history.plans.begin(self.plan, self.plan_id)
        name, title, total = self.plan.name, self.plan.title, self.plan.total
        self.emit(PlanStarted(plan_id=self.plan_id, name=name, title=title, total=total, done=len(over)))
        return over

    def _follow(self, course: Course, over: dict[tuple[int, int], Verdict]) -> bool:
        """True when the plan came to its end."""
        n_findings = 0
        while True:
            step = course.next()
            for finding in course.findings[n_findings:]:
                self._say(finding=finding)
            n_findings = len(course.findings)
            if step is None:
                return True
            verdict = over.get(step.key) or self._do(step, course.upcoming(step))
            if verdict is None:
                return False
            course.tell(step, verdict)
            self._done += 1

    def _do(self, step: Step, upcoming: PlannedRun | None) -> Verdict | None:
        """Do one step; None when the plan was stopped before or in it."""
        if self.control.paused:
            self._say(paused=True, upcoming=PlannedRun(config=step.config, label=step.label))
            self.control.wait()
        if self.control.stopped:
            return None
        self._say(step, skipped=step.skip, upcoming=upcoming)
        if step.skip is not None:
            return self._record(step, Verdict(why=step.skip, skipped=True))
        ended = self._run(step)
        if ended is None:
            return None
        skip = self.control.take_skip()
        if isinstance(ended, RunRefused):
            return self._record(step, Verdict(why=ended.message))
        if ended.outcome is not Outcome.STOPPED:
            return Verdict(record=ended)
        return self._record(step, Verdict(record=ended, why=_SKIPPED)) if skip else None

    def _run(self, step: Step) -> RunRecord | RunRefused | None:
        """Do the step's run; None when the plan was stopped while it waited for a row.

        Raises `HistoryError` when there is none to be had: the plan can go on from here later.
        """
        for left in reversed(range(TRIES)):
            try:
                return self.run_one(step.config, lambda run_id: self._link(step, run_id))
            except HistoryError as error:
                if not left:
                    raise
                text = f"{error} The plan waits, and tries again."
                self.emit(Logged(source="history", text=text, level="warning"))
            self.control.sleep(RETRY_S)
            if self.control.stopped:
                return None
        raise AssertionError("at least one try")

    def _record(self, step: Step, verdict: Verdict) -> Verdict:
        run_id = verdict.record.run_id if verdict.record is not None else None
        self._keep(
            lambda: self.history.plans.record_step(
                self._id, step.key, run_id=run_id, skipped=verdict.skipped, why=verdict.why
            )
        )
        return verdict

    def _link(self, step: Step, run_id: int) -> None:
        self._keep(lambda: self.history.plans.record_step(self._id, step.key, run_id=run_id))

    def _keep(self, write: Callable[[], None]) -> None:
        """Write to the history; what cannot be written now is kept there, and written later."""
        try:
            write()
        except HistoryError as error:
            self.emit(Logged(source="history", text=str(error), level="error"))

    @property
    def _id(self) -> int:
        assert self.plan_id is not None
        return self.plan_id

    def _say(
        self,
        step: Step | None = None,
        *,
        skipped: str | None = None,
        finding: str | None = None,
        paused: bool = False,
        upcoming: PlannedRun | None = None,
    ) -> None:
        event = PlanProgress(
            plan_id=self._id,
            position=self._done + (step is not None),
            total=self.plan.total,
            label=step.label if step is not None else "",
            repeat=step.repeat if step is not None else 1,
            skipped=skipped,
            by_forecast=step is not None and step.by_forecast,
            foretold=step.foretold if step is not None else None,
            finding=finding,
            paused=paused,
            upcoming=upcoming.config if upcoming is not None else None,
            upcoming_label=upcoming.label if upcoming is not None else "",
        )
        self.emit(event)
