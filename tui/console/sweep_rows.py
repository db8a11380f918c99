"""A plan's runs as lines while it goes. Events in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.compare.scaling import Scaling, nothing_known
from engine.contract.answer_entries import (
    ACCEPTANCE,
    AGREEMENT,
    HIT_RATE,
    KV_MIB,
    PER_FORWARD,
    TG,
    TPOT_P50,
    TTFT_P50,
    shown,
)
from engine.contract.events import (
    Event,
    PlanFinished,
    PlanProgress,
    PlanStarted,
    RunFinished,
    RunRefused,
)
from engine.contract.figures import (
    ACCURACY,
    CARD_SPEED,
    LOSS,
    MEMORY,
    SHARE,
    SPEED,
    STATUS,
    TIME,
    WAITING,
    heading_of,
    is_virtual,
    label_of,
    scaling_entry,
    short_of,
    unit_of,
)
from engine.contract.forecast_types import Foretold
from engine.contract.numbers import forecast_rate, mib, n_of
from engine.contract.records import Outcome, RunRecord
from engine.plans.course import NAMED, Plan, PlannedRun
from tui.drawing.text import clean

LABEL = 60
"""Cells that a label may take in a line."""
_MOST_FAILED, _LONGEST = 5, 400
"""Runs whose failures the end tells again, and the characters of a reason."""


@dataclass(slots=True)
class Counts:
    """How the steps of a plan ended."""

    completed: int = 0
    out_of_memory: int = 0
    failed: int = 0
    refused: int = 0
    by_forecast: int = 0
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
            "by forecast": self.by_forecast,
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

    def __init__(self, plan: Plan, done_before: Sequence[RunRecord] = (), scaling: Scaling = nothing_known) -> None:
        """`scaling` knows that of a run on several GPUs."""
        self._scaling = scaling
        self.counts = Counts()
        self.records: list[RunRecord] = []
        self._plan = plan
        self._before = done_before
        self._step: PlanProgress | None = None
        self._told: dict[str, PlanProgress] = {}
        """The last step of every label."""
        self._labels: dict[int, str] = {}
        """What the runs of this process are called, by their numbers."""
        widest = max((len(_label(run.label, run.repeat)) for run in plan.runs), default=0)
        self._width = min(LABEL, max(12, widest + (len(", batch size 65536") if plan.total is None else 0)))

    def lines(self, event: Event) -> list[str]:
        """What an event adds; most add nothing."""
        match event:
            case PlanStarted():
                return self._opening(event)
            case PlanProgress():
                return self._progress(event)
            case RunRefused():
                self.counts.refused += 1
                return [self._line(f"refused: {clean(event.message)}")]
            case RunFinished():
                return [self._finished(event.record)]
        return []

    def _opening(self, event: PlanStarted) -> list[str]:
        runs = n_of(event.total, "run") if event.total is not None else "as many runs as it takes"
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
        self._told[event.label] = event
        if not event.skipped:
            return []
        if event.by_forecast and event.foretold is not None:
            self.counts.by_forecast += 1
            return [self._line(_only_forecast(event.foretold, event.skipped))]
        self.counts.skipped += 1
        return [self._line(f"skipped: {clean(event.skipped)}")]

    @property
    def plan(self) -> Plan:
        """The plan with the forecasts, and the reasons to pass over rows, that its steps told."""
        return replace(self._plan, runs=tuple(map(self._as_told, self._plan.runs)))

    def _as_told(self, run: PlannedRun) -> PlannedRun:
        event = self._told.get(run.label)
        if event is None or run.search:
            return run
        skip, told = event.skipped or run.skip, event.foretold or run.foretold
        return replace(run, skip=skip, by_forecast=event.by_forecast, foretold=told)

    def _finished(self, record: RunRecord) -> str:
        self.counts.count(record)
        self.records.append(record)
        if self._step is not None:
            self._labels[record.run_id] = _label(self._step.label, self._step.repeat)
        unit = unit_of(MEMORY, [record])
        memory = f"{mib(record.peak_used):>6} {unit} {label_of(MEMORY, [record])} {SHARE.of(record):>5} %"
        memory += self._forecast()
        parts = self._answered(record, memory) if record.config.answers else self._trained(record, memory)
        why = f": {why_failed(record)}" if record.outcome is Outcome.FAILED else ""
        return self._line("  ".join((*parts, f"{STATUS.of(record)}{why}")))

    def _trained(self, record: RunRecord, memory: str) -> list[str]:
        return [
            f"{TIME.of(record):>8} {short_of(TIME, [record]) or TIME.unit}",
            f"{SPEED.of(record):>6} {heading_of(SPEED, [record])}{self._card(record)}",
            memory,
            f"{LOSS.label} {LOSS.of(record):>7}",
            *([f"{ACCURACY.label} {ACCURACY.of(record)}"] if record.eval_accuracy is not None else []),
            *self._together(record),
        ]

    def _answered(self, record: RunRecord, memory: str) -> list[str]:
        """Of a run that answers: speed, latency, what it holds, and the price of what was turned."""
        always = (SPEED,) if record.config.task == "classification" else (TG, TTFT_P50, TPOT_P50)
        where_known = (PER_FORWARD, ACCEPTANCE, HIT_RATE, AGREEMENT)
        told = [f"{label_of(entry, [record])} {entry.of(record):>6} {entry.unit}".lstrip() for entry in always]
        told.append(memory)
        told += [f"{KV_MIB.label} {KV_MIB.of(record)} {KV_MIB.unit}"] if KV_MIB.read(record) else []
        return told + [f"{entry.label} {entry.of(record)}" for entry in shown([record], where_known)]

    def _card(self, record: RunRecord) -> str:
        """Of a virtual GPU the card's own speed, by forecast."""
        return f" (card {CARD_SPEED.of(record):>6})" if is_virtual([record]) else ""

    def _together(self, record: RunRecord) -> list[str]:
        """Of a run on several GPUs how much of their speed it gets, and how much of the time they wait."""
        entries = (WAITING, scaling_entry(self._scaling))
        return [
            f"{heading_of(entry, [record])} {entry.of(record)}" for entry in entries if entry.read(record) is not None
        ]

    def _forecast(self) -> str:
        made = self._step.foretold if self._step is not None else None
        if made is None:
            return f"  {'':>22}" if self._plan.name in NAMED else ""
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

    def closing(self, event: PlanFinished) -> list[str]:
        """The last sentences: the runs that failed and why, and how all ended."""
        failed = [record for record in self.records if record.outcome is Outcome.FAILED]
        lines = [f"Run {each.run_id}{self._named(each)} failed: {why_failed(each)}" for each in failed[:_MOST_FAILED]]
        if len(failed) > _MOST_FAILED:
            lines.append(f"{len(failed) - _MOST_FAILED} more failed: their rows say why.")
        total = f" of {event.total}" if event.total is not None else ""
        how = "done" if event.completed else "stopped"
        return [*lines, f"Plan {event.plan_id} {how}: {event.done}{total} runs, {self.counts.text}."]

    def _named(self, record: RunRecord) -> str:
        label = self._labels.get(record.run_id)
        return f" ({clean(label, LABEL)})" if label else ""


def _only_forecast(made: Foretold, why: str) -> str:
    """`by forecast: 8263 MiB VRAM of 7611, out of memory in optimizer (the software of 2023 does not run here)`."""
    end = "fits" if made.fits else f"out of memory in {made.failing_phase}"
    speed = f", {forecast_rate(made.samples_per_s)} samples/s" if made.samples_per_s and made.fits else ""
    need = f"{mib(made.peak_used)} of {mib(made.limit)} {MEMORY.unit}"
    return f"by forecast for {clean(made.gpu)}: {need}, {end}{speed} ({clean(why)})"


def why_failed(record: RunRecord) -> str:
    """Why a run failed, in a line; of a script with its exit code, which its own words may leave out."""
    told = clean(record.message or "it did not say why", _LONGEST)
    code = record.script.exit_code if record.script is not None else None
    return told if code is None or "exit code" in told else f"exit code {code}: {told}"


def _label(label: str, repeat: int) -> str:
    name = label or "as set"
    return f"{name} (repeat {repeat})" if repeat > 1 else name
