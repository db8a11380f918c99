"""The run that the screen shows, as far as its events have told. Pure: no Textual, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields, replace
from statistics import fmean

from engine.contract.config import RunConfig
from engine.contract.events import (
    AnsweringStarted,
    CachesHold,
    EvalDone,
    Event,
    FigureLogged,
    MicroStepDone,
    RequestDone,
    Sampled,
    ScriptKnown,
    UpdateDone,
)
from engine.contract.pace import WholeTime
from engine.contract.records import DeviceInfo, Memory, Outcome, Place, RunRecord, Shares
from engine.contract.run_figures import RunFigures, new_record
from engine.gpus.units import to_mib
from tui.drawing.plot import Columns, Range
from tui.state.answer_course import AnswerEvent
from tui.state.answer_view import AnswerView
from tui.state.ranks import Ranks, merged, summed
from tui.state.script_view import ScriptView

STALE_S = 2.0
"""Seconds without a reading, which comes twice a second, after which the last one is not of now."""
RECENT_S, RECENT_STEP_S = 60.0, 5.0
"""The last minute moves on in steps: a plot that shifts with every frame would be sent anew with every frame."""


@dataclass(slots=True)
class RunView:
    """The run under way, or the last one: what its panes show."""

    run_id: int
    config: RunConfig
    device: DeviceInfo
    started_at: float
    card_speed: float | None = None
    """Of a virtual GPU: the card's samples/s, as they were forecast when the run began."""
    outcome: Outcome = Outcome.RUNNING
    detail: str = "starting"
    """What it does before training starts, in words."""
    n_parameters: int | None = None
    n_train: int | None = None
    """Samples of an epoch; None until training starts."""
    majority: float | None = None
    """The share of the held-out samples' largest class."""
    planned: int | None = None
    """The updates of a training, the tokens that are to be written or the texts to be scored; None until it starts, and
    of a script that does not say."""
    reached: int = 0
    """How many of them are done."""
    progress: float = 0.0
    """The same, with the micro-steps of the update under way as its fraction: where the plots are."""
    t: float | None = None  # seconds since training started
    moved_t: float = 0.0
    """The same at the last micro-step, update or evaluation that was told."""
    place: Place | None = None
    """Where it is within a step that takes long."""
    last: UpdateDone | None = None
    evaluation: EvalDone | None = None
    warmup: bool = True
    """True until the first update after warm-up."""
    shares: Shares = field(default_factory=Shares)
    """Seconds over all updates after warm-up; over those of the warm-up until there are any."""
    timed_updates: int = 0
    """Updates in `shares`."""
    losses: Columns = field(default_factory=Columns)
    eval_losses: Columns = field(default_factory=Columns)
    """Of the evaluations, at the updates after which they were."""
    speeds: Columns = field(default_factory=Columns)
    warmup_speeds: Columns = field(default_factory=Columns)
    used_mib: Columns = field(default_factory=Columns)
    allocated_mib: Columns = field(default_factory=Columns)
    utilization: Columns = field(default_factory=Columns)
    marks: deque[tuple[float, float]] = field(default_factory=lambda: deque([(0.0, 0.0)], maxlen=int(RECENT_S) + 2))
    """(t, progress) about once a second of the last minute."""
    window: tuple[float, Range] = (0.0, (0.0, 0.0))
    """Until which t the last minute is this part of the x axis."""
    reading: Memory = field(default_factory=Memory)
    """The last one."""
    sampled_t: float | None = None
    """When the sampler's last reading was taken, as `t`."""
    record: RunRecord | None = None
    """None until the run is finished."""
    ranks: Ranks = field(init=False)
    """Empty with one GPU."""
    answer: AnswerView | None = field(init=False, default=None)
    """Of a run that answers; None of one that trains."""
    script: ScriptView | None = field(init=False, default=None)
    """Of a user's own script."""
    figures: RunFigures = field(init=False)
    whole: WholeTime = field(init=False)
    _row: RunRecord | None = field(init=False, default=None)
    """Its row since the last event: one repaint asks for it ten times."""

    def __post_init__(self) -> None:
        began = new_record(self.run_id, self.config, self.device, self.started_at)
        if self.config.answers:
            self.answer = AnswerView(self.config)
        if self.config.is_script:
            self.script = ScriptView()
        self.ranks = Ranks(1 if self.script is not None else self.config.gpus or 1)
        self.whole = WholeTime(self.config)
        self.figures = RunFigures(replace(began, forecast_samples_per_s=self.card_speed))

    @property
    def unit(self) -> str:
        """What is counted along the x axis."""
        return "update" if self.answer is None else self.answer.unit

    @property
    def x_end(self) -> float | None:
        """The end of the x axis: all that is planned; of a script that does not say how much, a little more than what
        is done, and at its end just that. None until it starts.
        """
        if self.script is None or self.script.known is None:
            return float(self.planned) if self.planned else None
        if self.planned:
            return float(max(self.planned, self.reached))
        return self.script.end if self.under_way else max(1.0, self.progress)

    @property
    def under_way(self) -> bool:
        """True until the run's end is known."""
        return self.outcome is Outcome.RUNNING

    def as_record(self) -> RunRecord:
        """The run's row while it runs, known in part; the record itself once it is finished."""
        if self.record is not None:
            return self.record
        if self._row is None:
            self._row = self.figures.as_record()
        return self._row

    def count(self, event: Event) -> None:
        """Take an event into the figures of the row."""
        self.figures.add(event)
        self._row = None

    @property
    def memory(self) -> Memory:
        """The last reading, with the run's peaks."""
        row = self.as_record()
        return replace(
            self.reading,
            peak_used=row.peak_used,
            peak_reserved=row.peak_reserved,
            peak_allocated=row.peak_allocated,
        )

    @property
    def planned_s(self) -> float | None:
        """Seconds that the whole training, or all answers, will take at this pace; None before the end of warm-up."""
        if self.warmup or not self.planned or not self.moved_t or self.reached > self.planned:
            return None
        if self.answer is not None:
            return self.moved_t * self.planned / self.progress if self.progress else None
        return self.whole.seconds(self.progress / self.planned, self.moved_t)

    def micro_step(self, event: MicroStepDone) -> None:
        """Move along the x axis within an update."""
        self.t, self.place = event.t, None
        self.moved_t = event.t
        if self.planned and event.micro_steps:
            share = min(1.0, event.micro_step / event.micro_steps)
            self.progress = max(self.progress, share * self.planned)
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
        self.last, self.reached = event, event.update
        self.t, self.place = event.t, None
        self.moved_t = event.t
        self.progress = max(self.progress, float(event.update))
        self._mark()
        if self.script is not None:
            self.script.updated(event, self.losses)
        else:
            self.losses.append(event.update, event.loss)
        if event.update_s > 0 and event.n_samples is not None:
            speeds = self.warmup_speeds if event.warmup else self.speeds
            speeds.append(event.update, event.n_samples / event.update_s)
        anew = self.warmup and not event.warmup
        if anew:
            self.warmup, self.shares, self.timed_updates = False, Shares(), 0
        self.timed_updates += 1
        self.shares = summed(self.shares, event.shares)
        self.ranks.updated(event, self.progress, anew=anew)
        self.remember(event.memory)

    def known(self, event: ScriptKnown) -> str:
        """Take what is known of a script's training; what of it is to be told, in words."""
        if self.script is None:
            return ""
        self.t = self.t or 0.0
        self.n_parameters, self.planned = event.n_parameters, event.planned_updates
        return self.script.learn(event)

    def logged(self, event: FigureLogged) -> None:
        """Take what a script's trainer logged."""
        if self.script is not None:
            self.script.log(event, self.losses, self.eval_losses)

    def evaluated(self, event: EvalDone) -> None:
        """Take one evaluation's figures."""
        self.evaluation, self.place = event, None
        self.t = self.moved_t = event.t
        self.eval_losses.append(event.update, event.loss)

    def answered(self, answer: AnswerView, event: AnswerEvent) -> None:
        """Take what is told of answers."""
        answer.take(event)
        self.warmup, self.progress, self.reached = answer.warmup, answer.progress, int(answer.progress)
        if isinstance(event, AnsweringStarted):
            self.t, self.planned, self.n_parameters = 0.0, answer.course.planned, event.n_parameters
            return
        self.t, self.moved_t, self.place = event.t, event.t, None
        self._mark()
        if not isinstance(event, (RequestDone, CachesHold)):
            self.remember(event.memory)

    def sampled(self, event: Sampled) -> None:
        """Take one reading of the sampler."""
        self.remember(event.memory)
        if event.t is None:
            return
        if self.sampled_t is not None and event.t - self.sampled_t > STALE_S:
            self.utilization.append(self.progress, None)  # a line would tell of a time that nobody read
        self.sampled_t = event.t
        self.t, self.place = max(self.t or 0.0, event.t), event.place
        self.ranks.sampled(event, self.progress)
        self.utilization.append(self.progress, _utilization(event))

    def remember(self, memory: Memory) -> None:
        """Take a memory reading."""
        self.reading = merged(self.reading, memory)
        if self.x_end is not None:
            self.used_mib.append(self.progress, to_mib(memory.used))
            self.allocated_mib.append(self.progress, to_mib(memory.allocated))

    def finish(self, record: RunRecord) -> None:
        """Take the run's end. What an older version did not record, the events still tell."""
        told = self.figures.as_record()
        gaps = {f.name: getattr(told, f.name) for f in fields(RunRecord) if getattr(record, f.name) is None}
        self.outcome, self.record = record.outcome, replace(record, **gaps)
        self.ranks.finished(record.peak_used_by_rank or ())
        self.t = record.train_runtime_s if record.train_runtime_s is not None else self.t


def _utilization(event: Sampled) -> float | None:
    """Percent: of several GPUs the mean of those that tell, of none the host's."""
    known = [gpu.utilization for gpu in event.gpus if gpu is not None and gpu.utilization is not None]
    if known:
        return fmean(known)
    return event.gpu.utilization if event.gpu is not None else event.host.cpu
