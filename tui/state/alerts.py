"""When to call somebody who is not looking: a loss that is no number, a run that stands still, an end. Pure: no clock.

The times given are the caller's clock in seconds; the events carry the run's own.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

from engine.contract.events import (
    BatchScored,
    EvalDone,
    Event,
    FigureLogged,
    MicroStepDone,
    PlanFinished,
    PlanStarted,
    Prefilled,
    RankBeat,
    RunFinished,
    RunRefused,
    RunStarted,
    Sampled,
    Saved,
    ScriptKnown,
    TokensDone,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.host_load import HostLoad, is_busy, taken
from engine.contract.numbers import UNKNOWN, number, rate
from engine.contract.records import HostSample, Outcome
from engine.contract.script_entries import BATCH
from engine.contract.text import capitalised
from tui.state.answer_course import AnswerEvent
from tui.state.run_view import STALE_S
from tui.state.script_knobs import may_turn
from tui.state.standing import Standing
from tui.state.state import State

Progress = TrainingStarted | MicroStepDone | UpdateDone | EvalDone | AnswerEvent | ScriptKnown | FigureLogged
"""What tells that a run goes on."""
STALL_S, STALL_FACTOR = 30.0, 10.0
"""A run stands still when nothing came for this long, and for this many times what a step usually takes."""
STEPS_KEPT, STEPS_NEEDED = 64, 3
ASLEEP_S = 5.0
"""Between two looks at the clock: the process was stopped, or the laptop suspended, and the run with it."""
THRASH_WINDOW, THRASH_UPDATES = 10, 5
"""Of the last updates, so many in which the allocator had to ask again."""
BUSY_READINGS = 10
"""Readings of the host, 5 seconds, over which other programs must have been busy."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to tell. `text` is empty where the screen says it anyway; `rings` calls who is not looking."""

    text: str = ""
    level: str = "warning"
    rings: bool = True


class Alerts:
    """Watches over the run under way. Everything is told once, until it is over."""

    def __init__(self) -> None:
        self._in_plan = False
        self._looked_at: float | None = None
        self._sampled_at: float | None = None
        self.unread_s: float | None = None
        """How long no reading of the GPU and the host has come, which is too long; None while they come."""
        self._follow(None)

    def _follow(self, run: RunStarted | None) -> None:
        self._run = run
        self._run_id = None if run is None else run.run_id
        self._host: deque[HostSample] = deque(maxlen=BUSY_READINGS)
        self._told_busy = False
        self._steps = _Steps()
        self.stalled_s: float | None = None
        """How long the run has stood still; None while it goes on."""
        self._told_loss = self._told_thrash = False
        self._helps = ""
        """What a person can do about a loss that is no number."""
        self._retries: int | None = None
        self._asked_again: deque[bool] = deque(maxlen=THRASH_WINDOW)
        self._standing = Standing((run.config.gpus or 1) if run is not None else 1)
        self._stands = False
        """Whether it was told which rank stands still."""

    def see(self, event: Event, now: float) -> Alert | None:
        """Take an event; what there is to tell about it."""
        if isinstance(event, Sampled):
            self._sampled_at, self.unread_s = now, None
            return self._judge_host(event)
        if isinstance(event, RunStarted):
            self._follow(event)
            self._helps = _against_overflow(event)
        elif isinstance(event, PlanStarted):
            self._in_plan = True
        elif isinstance(event, PlanFinished):
            self._in_plan = False
            return Alert(level="info") if event.completed or event.failed else None
        elif isinstance(event, Saved):
            self._steps.saved(event, now)
            return Alert(event.problem) if event.problem is not None else None
        elif isinstance(event, RunRefused):
            self._follow(None)
        elif isinstance(event, RunFinished):
            self._follow(None)
            stopped = event.record.outcome is Outcome.STOPPED  # by the person, who knows
            return None if self._in_plan or stopped else Alert(level="info")
        elif isinstance(event, RankBeat):
            if event.run_id == self._run_id:
                self._standing.see(event, now)
        elif isinstance(event, Progress) and event.run_id == self._run_id:
            return self._progress(event, now)
        return None

    def look(self, now: float) -> Alert | None:
        """Look at the clock, several times a second; the alert when the run has just come to stand still."""
        since, self._looked_at = self._looked_at, now
        if since is not None and now - since > ASLEEP_S:
            self._steps.at = min(now, self._steps.at + now - since)
            self._standing.slept(now - since)
            if self._sampled_at is not None:
                self._sampled_at = min(now, self._sampled_at + now - since)
        if self._sampled_at is not None and now - self._sampled_at > STALE_S:
            self.unread_s = now - self._sampled_at
        usual, limit = self._steps.usual, self._steps.limit
        waited = now - self._steps.at
        if where := self._standing.look(now, usual):
            told, self._stands, self.stalled_s = self._stands, True, waited
            return None if told else Alert(f"Run {self._run_id}: {where}. {_LOOK}")
        if limit is None or usual is None or waited < limit:
            return None
        told, self.stalled_s = self._stands or self.stalled_s is not None, waited
        if told:
            return None
        step = "micro-step"
        if self._run is not None and self._run.config.answers:
            step = "token" if self._run.config.task != "classification" else "batch"
        is_script = self._run is not None and self._run.config.is_script
        step = "update" if is_script else step
        what = "evaluation" if self._steps.evaluating else step
        perhaps = " It may be evaluating or saving." if is_script else ""
        return Alert(
            f"Run {self._run_id} stands still: no {what} is done for {waited:.0f} s (a {step} usually takes "
            f"{rate(usual)} s).{perhaps} See the log (l), or stop it (s)."
        )

    def _progress(self, event: Progress, now: float) -> Alert | None:
        stood, self.stalled_s, self._stands = self.stalled_s, None, False
        self._steps.take(event, now, stood=stood is not None)
        alert = self._judge(event) if isinstance(event, UpdateDone) else None
        if alert is None and stood is not None:
            return Alert(f"Run {self._run_id} goes on after {stood:.0f} s.", "info", rings=False)
        return alert

    def _judge_host(self, event: Sampled) -> Alert | None:
        run = self._run
        if run is None or event.run_id != run.run_id or event.t is None or self._told_busy:
            return None
        self._host.append(event.host)
        load = HostLoad.over(self._host)
        cores, free = load.cores, load.free
        if load.n < BUSY_READINGS or cores is None or free is None:
            return None
        if not is_busy(cores, free, run.device, run.config):
            return None
        self._told_busy = True
        words = f"Run {run.run_id}: host busy: {taken(cores, free)}; it is slower than on a quiet one."
        return Alert(words, rings=False)

    def _judge(self, event: UpdateDone) -> Alert | None:
        if event.loss is not None and not math.isfinite(event.loss) and not self._told_loss:
            self._told_loss = True
            return Alert(f"Run {event.run_id}: the loss is {event.loss} from update {event.update} on. {self._helps}")
        retries = event.memory.alloc_retries
        if retries is not None and self._retries is not None and not event.warmup:
            self._asked_again.append(retries > self._retries)
        self._retries = retries
        if sum(self._asked_again) >= THRASH_UPDATES and not self._told_thrash:
            self._told_thrash = True
            return Alert(
                f"Run {event.run_id}: the allocator gives memory back and asks again in most updates, which is slow: "
                "take a smaller batch."
            )
        return None


_LOOK = "See its log (] and l), or stop the run (s)."


def _against_overflow(run: RunStarted) -> str:
    """What helps against a loss that is no number; bf16 only where the card has it. Of a script only what its command
    carries, or may carry, can be turned here.
    """
    config, ways = run.config, []
    if may_turn(config, "learning_rate"):
        ways.append("a smaller learning rate")
    if may_turn(config, "max_grad_norm"):
        ways.append("max grad norm 1")
    if config.precision == "fp16":
        ways.append(f"{'bf16' if run.device.sixteen_bits == 'bf16' else 'fp32'} in place of fp16")
    listed = " or ".join(ways) if len(ways) < 3 else f"{', '.join(ways[:-1])}, or {ways[-1]}"
    told = capitalised(f"{listed} may help") if ways else ""
    if not config.is_script:
        return f"{told}; non-finite loss: stop ends such a run."
    unturned = "" if ways else "Its learning rate is the script's own: put {learning_rate} into the command to turn it"
    return f"{told or unturned}; s stops the run."


class _Steps:
    """When the last micro-step was done, and how long they usually take."""

    def __init__(self) -> None:
        self.at = 0.0
        """By the caller's clock."""
        self.evaluating = False
        """True from an epoch's last micro-step until its evaluation is done."""
        self._t = 0.0  # the run's own
        self._took: deque[float] = deque(maxlen=STEPS_KEPT)
        self._training: TrainingStarted | None = None

    def take(self, event: Progress, now: float, *, stood: bool) -> None:
        """A step is done, or an evaluation. `stood` says that it took far too long to count as usual."""
        self.at = now
        if isinstance(event, TrainingStarted):
            self._training = event
            return
        if isinstance(event, AnswerEvent):
            self._answered(event)
            return
        if isinstance(event, (ScriptKnown, FigureLogged)):
            return
        if isinstance(event, (MicroStepDone, UpdateDone)) and not self.evaluating and not stood:
            self._took.append(event.t - self._t)
        self._t = event.t
        self.evaluating = (
            isinstance(event, UpdateDone) and self._has_evaluation and event.epoch is not None and event.epoch % 1 == 0
        )

    def _answered(self, event: AnswerEvent) -> None:
        """What may take as long again: a prefill, the slowest token of several, a batch."""
        if isinstance(event, Prefilled):
            self._took.append(event.ttft_s)
        elif isinstance(event, TokensDone) and event.gaps:
            self._took.append(max(event.gaps))
        elif isinstance(event, BatchScored):
            self._took.append(event.seconds)

    def saved(self, event: Saved, now: float) -> None:
        """Something was written, for which the run waited: that is no step."""
        self.at = now
        self._t += event.seconds

    @property
    def _has_evaluation(self) -> bool:
        return self._training is not None and self._training.n_eval > 0

    @property
    def usual(self) -> float | None:
        """The median, in seconds; None while too few are known."""
        return median(self._took) if len(self._took) >= STEPS_NEEDED else None

    @property
    def limit(self) -> float | None:
        """Seconds after which the run stands still. An evaluation may take as long as training on its samples."""
        usual, training = self.usual, self._training
        if usual is None:
            return None
        # a GPU takes micro-steps ahead of doing them: the wait at the end of the window is usual too
        longest = max(usual, max(self._took) / 2)
        if self.evaluating and training is not None:
            longest *= max(1.0, training.n_eval * training.micro_steps_per_epoch / max(1, training.n_train))
        return max(STALL_S, STALL_FACTOR * longest)


def window_title(state: State) -> str:
    """What the terminal's window is called: `traintop: run 7 batch 8 43 %`."""
    run = state.run
    if run is None:
        return "traintop"
    name = f"traintop: run {run.run_id}"
    if not run.under_way:
        return f"{name} {run.outcome.words}"
    share = int(run.reached / run.planned * 100) if run.planned else 0
    stands = " stands still" if state.stalled_s is not None else ""
    answer = run.answer
    if answer is not None and answer.n_requests and not answer.scores:
        return f"{name} request {answer.at} of {answer.n_requests}{stands} {share} %"
    if run.script is not None:
        size = BATCH.of(run.as_record())
        what = f" batch {size}" if size != UNKNOWN else ""
        return f"{name}{what}{stands} {f'{share} %' if run.planned else f'update {number(run.reached)}'}"
    return f"{name} batch {run.config.batch_size}{stands} {share} %"
