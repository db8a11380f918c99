"""The plan under way, as far as its events have told. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.contract.config import RunConfig
from engine.contract.events import PlanFinished, PlanProgress, PlanStarted
from engine.contract.numbers import UNKNOWN, n_of
from engine.contract.text import enumerated
from tui.drawing.text import clean
from tui.state.knobs import describe

TITLE_LIMIT = 60


@dataclass(frozen=True, slots=True)
class PlanView:
    """Which plan, and where it is."""

    plan_id: int
    title: str
    total: int | None
    """None where a search decides."""
    position: int = 0
    """Of the run under way or the last one, counted from 1."""
    label: str = ""
    """What tells its run from the others: `batch size 8`."""
    paused: bool = False
    upcoming: RunConfig | None = None
    upcoming_label: str = ""
    failed: tuple[int, ...] = ()
    """The numbers of its runs that failed, in this process."""

    @property
    def where(self) -> str:
        """`plan 3/12`, or `plan 3` where nobody knows how many there will be."""
        total = f"/{self.total}" if self.total is not None else ""
        return f"plan {self.position or UNKNOWN}{total}{' paused' if self.paused else ''}"

    @property
    def next(self) -> str:
        """What it does after the run under way."""
        if not self.label:
            return UNKNOWN
        if self.upcoming is not None:
            return self.upcoming_label or describe(self.upcoming)
        return "a search decides" if self.total is None else "nothing (last run)"


@dataclass(frozen=True, slots=True)
class QueuedPlan:
    """A plan that was asked for, and begins when what is under way has ended."""

    title: str
    first: str
    """What tells its first run from the others; empty where an earlier process began it."""


def fold_plan(
    plan: PlanView | None, event: PlanStarted | PlanProgress | PlanFinished
) -> tuple[PlanView | None, list[str]]:
    """The plan after an event (None when it is over), and lines for the log."""
    if isinstance(event, PlanStarted):
        title = clean(event.title, TITLE_LIMIT)
        total = f", {n_of(event.total, 'run')}" if event.total is not None else ""
        done = f", {event.done} of them done before" if event.done else ""
        return PlanView(event.plan_id, title, event.total, event.done), [f"plan {title}{total}{done}"]
    if isinstance(event, PlanProgress):
        before = plan or PlanView(event.plan_id, "", event.total)
        after = replace(before, total=event.total, position=event.position, paused=event.paused)
        after = replace(after, label=clean(event.label, TITLE_LIMIT) or after.label)
        if event.label or event.paused:  # it came to a run, or waits before one
            after = replace(after, upcoming=event.upcoming, upcoming_label=clean(event.upcoming_label, TITLE_LIMIT))
        lines = [f"{event.label} is passed over: {event.skipped}"] if event.skipped else []
        lines += [event.finding] if event.finding else []
        if event.paused != before.paused:
            lines.append(f"{after.where}: {'waits after this run' if event.paused else 'goes on'}")
        return after, lines
    total = f" of {event.total}" if event.total is not None else ""
    end = "is done" if event.completed else "was stopped and can go on later"
    title = (plan.title if plan is not None else "") or clean(event.name, TITLE_LIMIT)
    lines = [f"plan {title} {end}: {event.done}{total} runs{_failed(plan)}"]
    return None, [*lines, *([event.message] if event.message else [])]


def _failed(plan: PlanView | None) -> str:
    """`; run 3, 4 and 6 failed`, and where they say why; empty where none did."""
    if plan is None or not plan.failed:
        return ""
    return f"; run {enumerated(list(map(str, plan.failed)))} failed: Enter in the results says why"
