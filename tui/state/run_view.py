"""The run that the screen shows, as far as its events have told. Pure: no Textual, no clock."""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass, field, replace

from engine.contract.config import RunConfig
from engine.contract.events import EvalDone, MicroStepDone, UpdateDone, WorkCounted
from engine.contract.records import DeviceInfo, Memory, Outcome, RunRecord, Shares
from engine.gpus.units import to_mib
from tui.drawing.plot import Columns, Range

RATES = 4096
RECENT_S, RECENT_STEP_S = 60.0, 5.0
"""The last minute moves on in steps: a plot that shifts with every frame would be sent anew with every frame."""


class Rates:
    """Samples/s of the updates after warm-up: their median, and half the 16–84 % distance."""

    def __init__(self) -> None:
        self._sorted: list[float] = []

    def add(self, rate: float) -> None:
        """Take one update's samples/s."""
        insort(self._sorted, rate)
        if len(self._sorted) >= RATES:
            del self._sorted[::2]  # every second of a sorted list keeps the percentiles

    @property
    def median(self) -> float | None:
        """None before the first update after warm-up."""
        return self._at(0.5)

    @property
    def spread(self) -> float | None:
        """None while fewer than three updates are known."""
        low, high = self._at(0.16), self._at(0.84)
        return None if low is None or high is None or len(self._sorted) < 3 else (high - low) / 2

    def _at(self, share: float) -> float | None:
        values = self._sorted
        if not values:
            return None
        position = share * (len(values) - 1)
        index = int(position)
        after = values[min(index + 1, len(values) - 1)]
        return values[index] + (after - values[index]) * (position - index)


@dataclass(slots=True)
class RunView:
    """The run under way, or the last one: what its panes show."""

    run_id: int
    config: RunConfig
    device: DeviceInfo
    started_at: float
    outcome: Outcome = Outcome.RUNNING
    detail: str = "starting"
    """What it does before training starts, in words."""
    n_parameters: int | None = None
    work: WorkCounted | None = None
    """None where it is not known what the run computes, or what its device can."""
    planned_updates: int | None = None
    """None until training starts."""
    update: int = 0
    progress: float = 0.0
    """Updates done, with the micro-steps of the one under way as its fraction: the x axis of the plots."""
    t: float | None = None  # seconds since training started
    updates_t: float = 0.0  # seconds up to the last update
    n_samples: int = 0
    n_tokens: int = 0
    loss_sum: float = 0.0
    last: UpdateDone | None = None
    evaluation: EvalDone | None = None
    warmup: bool = True
    """True until the first update after warm-up."""
    shares: Shares = field(default_factory=Shares)
    """Seconds over all updates after warm-up; over those of the warm-up until there are any."""
    timed_updates: int = 0
    """Updates in `shares`."""
    rates: Rates = field(default_factory=Rates)
    losses: Columns = field(default_factory=Columns)
    speeds: Columns = field(default_factory=Columns)
    warmup_speeds: Columns = field(default_factory=Columns)
    used_mib: Columns = field(default_factory=Columns)
    allocated_mib: Columns = field(default_factory=Columns)
    utilization: Columns = field(default_factory=Columns)
    marks: deque[tuple[float, float]] = field(default_factory=lambda: deque([(0.0, 0.0)], maxlen=int(RECENT_S) + 2))
    """(t, progress) about once a second of the last minute."""
    window: tuple[float, Range] = (0.0, (0.0, 0.0))
    """Until which t the last minute is this part of the x axis."""
    memory: Memory = field(default_factory=Memory)
    """The last reading, with the largest peaks seen."""
    record: RunRecord | None = None
    """None until the run is finished."""

    @property
    def under_way(self) -> bool:
        """True until the run's end is known."""
        return self.outcome is Outcome.RUNNING

    @property
    def mean_rate(self) -> float | None:
        """Samples/s of the whole training so far."""
        if self.record is not None and self.record.samples_per_s is not None:
            return self.record.samples_per_s
        return self.n_samples / self.updates_t if self.updates_t > 0 else None

    @property
    def token_rate(self) -> float | None:
        """Tokens/s of the whole training so far."""
        return self.n_tokens / self.updates_t if self.updates_t > 0 else None

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilization in steady updates, 0 to 1."""
        if self.record is not None and self.record.mfu is not None:
            return self.record.mfu
        if self.work is None or self.rates.median is None or not self.n_samples:
            return None
        return self.work.mfu(self.rates.median * self.n_tokens / self.n_samples)

    @property
    def mean_loss(self) -> float | None:
        """Mean over the updates so far."""
        return self.loss_sum / self.update if self.update else None

    @property
    def planned_s(self) -> float | None:
        """Seconds that the whole training will take at this pace; None before the end of warm-up."""
        if self.warmup or not self.t or not self.planned_updates or not self.progress:
            return None
        return self.t * self.planned_updates / self.progress

    def micro_step(self, event: MicroStepDone) -> None:
        """Move along the x axis within an update."""
        self.t = event.t
        if self.planned_updates and event.micro_steps:
            share = min(1.0, event.micro_step / event.micro_steps)
            self.progress = max(self.progress, share * self.planned_updates)
        self._mark()

    def recent_range(self) -> Range:
        """The part of the x axis that the last minute takes, and the next few seconds will."""
        until, ends = self.window
        t = self.t or 0.0
        if t >= until or self.progress > ends[1]:
            since, start = next((mark for mark in self.marks if mark[0] >= t - RECENT_S), self.marks[-1])
            ahead = (self.progress - start) / (t - since) * RECENT_STEP_S if t > since else 1.0
            self.window = t + RECENT_STEP_S, (start, max(self.progress + ahead, start + 1.0))
        return self.window[1]

    def _mark(self) -> None:
        if self.t is not None and self.t - self.marks[-1][0] >= 1.0:
            self.marks.append((self.t, self.progress))

    def updated(self, event: UpdateDone) -> None:
        """Take one update's figures."""
        self.last, self.update = event, event.update
        self.t = self.updates_t = event.t
        self.progress = max(self.progress, float(event.update))
        self._mark()
        self.n_samples += event.n_samples
        self.n_tokens += event.n_tokens
        self.loss_sum += event.loss
        self.losses.append(event.update, event.loss)
        if event.update_s > 0:
            self._rate(event.update, event.n_samples / event.update_s, event.warmup)
        if self.warmup and not event.warmup:
            self.warmup, self.shares, self.timed_updates = False, Shares(), 0
        self.timed_updates += 1
        before, now = self.shares, event.shares
        self.shares = Shares(
            data=before.data + now.data,
            forward=before.forward + now.forward,
            backward=before.backward + now.backward,
            optimizer=before.optimizer + now.optimizer,
        )
        self.remember(event.memory)

    def _rate(self, update: int, rate: float, warmup: bool) -> None:
        if warmup:
            self.warmup_speeds.append(update, rate)
            return
        self.rates.add(rate)
        self.speeds.append(update, rate)

    def sampled(self, t: float | None, utilization: float | None, memory: Memory) -> None:
        """Take one reading of the sampler."""
        self.remember(memory)
        if t is None:
            return
        self.t = max(self.t or 0.0, t)
        self.utilization.append(self.progress, utilization)

    def remember(self, memory: Memory) -> None:
        """Take a memory reading, and keep the largest peaks."""
        before = self.memory
        self.memory = replace(
            merged(before, memory),
            peak_used=larger(before.peak_used, memory.peak_used, memory.used),
            peak_reserved=larger(before.peak_reserved, memory.peak_reserved, memory.reserved),
            peak_allocated=larger(before.peak_allocated, memory.peak_allocated, memory.allocated),
        )
        if self.planned_updates:
            self.used_mib.append(self.progress, to_mib(memory.used))
            self.allocated_mib.append(self.progress, to_mib(memory.allocated))

    def finish(self, record: RunRecord) -> None:
        """Take the run's end."""
        self.outcome, self.record = record.outcome, record
        self.t = record.train_runtime_s if record.train_runtime_s is not None else self.t
        self.memory = replace(
            self.memory,
            peak_used=larger(self.memory.peak_used, record.peak_used),
            peak_reserved=larger(self.memory.peak_reserved, record.peak_reserved),
            peak_allocated=larger(self.memory.peak_allocated, record.peak_allocated),
        )

    def as_record(self) -> RunRecord:
        """The run's row while it runs, known in part; the record itself once it is finished."""
        if self.record is not None:
            return self.record
        memory = self.memory
        return RunRecord(
            run_id=self.run_id,
            config=self.config,
            outcome=self.outcome,
            device=self.device,
            started_at=self.started_at,
            updates=self.update,
            planned_updates=self.planned_updates,
            train_runtime_s=self.t,
            samples_per_s=self.mean_rate,
            steady_samples_per_s=self.rates.median,
            steady_spread=self.rates.spread,
            train_loss=self.mean_loss,
            last_loss=self.last.loss if self.last else None,
            eval_accuracy=self.evaluation.accuracy if self.evaluation else None,
            n_parameters=self.n_parameters,
            peak_used=memory.peak_used,
            peak_reserved=memory.peak_reserved,
            peak_allocated=memory.peak_allocated,
            memory_total=memory.total if memory.total is not None else self.device.memory_total,
        )


def merged(before: Memory, now: Memory) -> Memory:
    """The newer reading, with the older breakdown and total where the newer one does not say."""
    return replace(
        now,
        total=now.total if now.total is not None else before.total,
        by_category=now.by_category if now.by_category is not None else before.by_category,
    )


def larger(*values: int | None) -> int | None:
    """The largest known value."""
    known = [value for value in values if value is not None]
    return max(known) if known else None
