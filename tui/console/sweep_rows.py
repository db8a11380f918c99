"""A plan's runs as lines while it goes. Events in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract.config import RunConfig
from engine.contract.events import (
    Event,
    Forecasted,
    PlanFinished,
    PlanProgress,
    PlanStarted,
    RunFinished,
    RunRefused,
    RunStarted,
)
from engine.contract.forecast_types import Forecast
from engine.contract.numbers import UNKNOWN, duration, loss, mib, number, rate
from engine.contract.records import Outcome, RunRecord
from engine.plans.course import Plan
from tui.drawing.text import clean
from tui.state.state import OUTCOME_WORDS

LABEL = 60
"""Cells that a label may take in a line."""


@dataclass(slots=True)
class Counts:
    """How the steps of a plan ended."""

    completed: int = 0
    out_of_memory: int = 0
    failed: int = 0
    refused: int = 0
    skipped: int = 0
    stopped: int = 0

    @property
    def text(self) -> str:
        """`4 completed, 1 out of memory`."""
        parts = {
            "completed": self.completed,
            "out of memory": self.out_of_memory,
            "failed": self.failed,
            "refused": self.refused,
            "skipped": self.skipped,
            "stopped": self.stopped,
        }
        return ", ".join(f"{n} {word}" for word, n in parts.items() if n) or "nothing was run"

    def count(self, record: RunRecord) -> None:
        """Count a run that is over."""
        match record.outcome:
            case Outcome.COMPLETED:
                self.completed += 1
            case Outcome.OUT_OF_MEMORY:
                self.out_of_memory += 1
            case Outcome.FAILED:
                self.failed += 1
            case _:
                self.stopped += 1


class Rows:
    """The lines of one plan. Events in, lines out."""

    def __init__(self, plan: Plan, done_before: Sequence[RunRecord] = ()) -> None:
        self.counts = Counts()
        self.records: list[RunRecord] = []
        self._plan = plan
        self._before = done_before
        self._step: PlanProgress | None = None
        self._forecasts: dict[RunConfig, Forecast] = {}
        self._memory_label = "VRAM"
        widest = max((len(_label(run.label, run.repeat)) for run in plan.runs), default=0)
        self._width = min(LABEL, max(12, widest + (len(", batch size 65536") if plan.total is None else 0)))

    def lines(self, event: Event) -> list[str]:
        """What an event adds; most add nothing."""
        match event:
            case PlanStarted():
                return self._opening(event)
            case PlanProgress():
                return self._progress(event)
            case Forecasted():
                if event.forecast is not None:
                    self._forecasts[event.config.with_values(seed=0)] = event.forecast
            case RunStarted():
                self._memory_label = event.device.memory_label
            case RunRefused():
                self.counts.refused += 1
                return [self._line(f"refused: {clean(event.message)}")]
            case RunFinished():
                return [self._finished(event.record)]
        return []

    def _opening(self, event: PlanStarted) -> list[str]:
        runs = f"{event.total} runs" if event.total is not None else "as many runs as it takes"
        before = f", {event.done} done before" if event.done else ""
        lines = [f"{clean(event.title)}: {runs}{before} (plan {event.plan_id})"]
        if self._plan.sizes:
            lines.append(f"Sizes {clean(self._plan.sizes)}")
        for record in self._before:
            self.counts.count(record)
            self.records.append(record)
        return lines

    def _progress(self, event: PlanProgress) -> list[str]:
        if event.finding:
            return [f"→ {clean(event.finding)}"]
        self._step = event
        if event.skipped:
            self.counts.skipped += 1
            return [self._line(f"skipped: {clean(event.skipped)}")]
        return []

    def _finished(self, record: RunRecord) -> str:
        self.counts.count(record)
        self.records.append(record)
        used, total = record.peak_used, record.memory_total
        share = f"{100 * used / total:5.1f} %" if used is not None and total else f"{UNKNOWN:>7}"
        figures = (
            f"{duration(record.train_runtime_s):>8} s",
            f"{rate(record.samples_per_s):>6} samples/s",
            f"{mib(used):>6} MiB {self._memory_label} {share}{self._forecast(record)}",
            f"loss {loss(record.train_loss):>7}",
        )
        text = "  ".join(figures)
        if record.eval_accuracy is not None:
            text += f"  accuracy {number(record.eval_accuracy, 3)}"
        return self._line(f"{text}  {status(record)}")

    def _forecast(self, record: RunRecord) -> str:
        if not self._forecasts:
            return ""
        made = self._forecasts.get(record.config.with_values(seed=0))
        if made is None:
            return f"  {'':>20}"
        verdict = "close" if made.near_limit else "fits" if made.fits else "not"
        return f"  (forecast {mib(made.peak_used):>5} {verdict:<5})"

    def _line(self, rest: str) -> str:
        step = self._step
        if step is None:
            return rest
        total = f"/{step.total}" if step.total is not None else ""
        where = f"{step.position}{total}"
        width = len(f"{step.total}/{step.total}") if step.total is not None else 3
        return f"{where:>{width}}  {clean(_label(step.label, step.repeat), LABEL):<{self._width}}  {rest}"

    def closing(self, event: PlanFinished) -> str:
        """The last sentence."""
        total = f" of {event.total}" if event.total is not None else ""
        how = "done" if event.completed else "stopped"
        return f"Plan {event.plan_id} {how}: {event.done}{total} runs, {self.counts.text}."


def _label(label: str, repeat: int) -> str:
    name = label or "as set"
    return f"{name} (repeat {repeat})" if repeat > 1 else name


def status(record: RunRecord) -> str:
    """How a run ended, in words."""
    words = OUTCOME_WORDS[record.outcome]
    if record.outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED) and record.failed_phase:
        words += f" in {record.failed_phase.noun}"
    return words
