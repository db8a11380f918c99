"""What the events of one run add up to: the one place where a run's figures are made. Pure; standard library only.

The run that trains, the history's row of a run under way (which stays when the process dies) and the screen all fold
the same events with it, so they tell the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from typing import Any

from engine.contract.answer_figures import AnswerFold
from engine.contract.best import Best
from engine.contract.config import RunConfig
from engine.contract.distribution import Distribution
from engine.contract.events import (
    BatchScored,
    EvalDone,
    Event,
    MemoryMoment,
    Prefilled,
    Sampled,
    TokensDone,
    TrainingStarted,
    UpdateDone,
    WorkCounted,
)
from engine.contract.host_load import HostLoad
from engine.contract.records import DeviceInfo, Memory, Outcome, RunRecord
from engine.contract.script_fold import ScriptFold
from engine.contract.throughput import steady

ANSWERED = "answered"
"""The moment after the last answer: what is compared and measured from then on is none of the run's own doing."""


def new_record(run_id: int, config: RunConfig, device: DeviceInfo, started_at: float) -> RunRecord:
    """The record of a run of which nothing is known but its start. `started_at` in Unix time."""
    return RunRecord(
        run_id=run_id,
        config=config,
        outcome=Outcome.RUNNING,
        device=device,
        started_at=started_at,
        memory_total=device.memory_total,
    )


class RunFigures:
    """Folds one run's events into its record. Takes events of that run only, in their order.

    Time ends with the last update or evaluation: what an update that was cut short took is in no figure. Where a
    device keeps no peak of a memory, the largest reading stands for it. The steady rate is the exact median of all
    updates after warm-up, at 8 bytes an update; an event costs the same at any length of the run.
    """

    def __init__(self, record: RunRecord) -> None:
        """`record`: the run as it began."""
        self._began = record
        self._updates = record.updates
        self._n_losses = self._n_samples = self._n_tokens = 0
        self._loss_sum = 0.0
        self._rates = Distribution()
        self._last_loss: float | None = None
        self._t: float | None = None
        self._training: TrainingStarted | None = None
        self._script = ScriptFold() if record.config.is_script else None
        self._work: WorkCounted | None = None
        self._evaluation: EvalDone | None = None
        self._best = Best(record.config)
        self._host = HostLoad()
        self._total = record.memory_total
        self._peaks: dict[int, int | None] = {}  # by rank, of updates
        self._first_used: int | None = None  # outside updates it is the first rank that is read
        self._update_s = self._waited_s = 0.0
        self._uncounted_s = 0.0  # of updates whose samples are not known, as a script's first may be
        self._memory = Memory()
        self._answers = AnswerFold(record.config) if record.config.answers else None
        self._is_answered = False

    def add(self, event: Event) -> None:
        """Take one event in; most kinds say nothing about figures."""
        if self._answers is not None:
            self._answers.add(event)
        if self._script is not None:
            self._script.add(event)
        if self._is_answered:
            return  # what looks back at the answers is in no figure of memory, nor of the host
        if isinstance(event, UpdateDone):
            self._updates, self._last_loss, self._t = event.update, event.loss, event.t
            if event.loss is not None:
                self._n_losses += event.n_updates
                self._loss_sum += event.loss * event.n_updates
            self._n_samples += event.n_samples or 0
            if event.n_samples is None:
                self._uncounted_s += event.update_s
            self._n_tokens += event.n_tokens or 0
            if not event.warmup and event.update_s > 0:
                if event.n_samples is not None:
                    self._rates.add(event.n_samples / event.update_s)
                self._update_s += event.update_s
                self._waited_s += event.shares.waiting
            self._remember(event.memory)
            for share in event.ranks:
                used = larger(self._peaks.get(share.rank), share.memory.peak_used, share.memory.used)
                self._peaks[share.rank] = used
        elif isinstance(event, (Sampled, MemoryMoment)):
            self._remember(event.memory)
            self._first_used = larger(self._first_used, event.memory.peak_used, event.memory.used)
            if isinstance(event, Sampled) and event.t is not None:
                self._host = self._host.plus(event.host)
            self._is_answered = isinstance(event, MemoryMoment) and event.moment == ANSWERED
        elif isinstance(event, (Prefilled, TokensDone, BatchScored)):
            self._remember(event.memory)
        elif isinstance(event, EvalDone):
            self._evaluation, self._t = event, event.t
            self._best.take(event)
        elif isinstance(event, TrainingStarted):
            self._training = event
        elif isinstance(event, WorkCounted):
            self._work = event

    def after(self, events: Iterable[Event]) -> RunFigures:
        """The figures when these events have happened too; this object keeps what it has."""
        following = copy(self)
        following._best = copy(self._best)
        following._peaks = dict(self._peaks)
        following._rates = self._rates.copy()
        following._answers = self._answers.copy() if self._answers is not None else None
        following._script = self._script.copy() if self._script is not None else None
        for event in events:
            following.add(event)
        return following

    def as_record(self) -> RunRecord:
        """The run as far as it is known."""
        record = self._of_a_training()
        if self._script is not None:
            return replace(record, **self._of_script(self._script))
        return replace(record, **self._of_answers(self._answers)) if self._answers is not None else record

    def _of_script(self, script: ScriptFold) -> dict[str, Any]:
        known = script.known
        return {
            "script": script.figures(),
            "planned_updates": known.planned_updates if known else None,
            "n_parameters": known.n_parameters if known else None,
            "tokens_per_s": self._tokens_per_s() if self._n_tokens else None,
            "wait_share": None,  # what it waits for others is in its phases
            "eval_loss": script.figure("eval_loss"),
            "eval_accuracy": script.figure("eval_accuracy"),
        }

    def _of_answers(self, answers: AnswerFold) -> dict[str, Any]:
        started, rates = answers.started, answers.steady_samples_per_s
        return {
            "answer": answers.figures(),
            "train_runtime_s": answers.seconds,
            "samples_per_s": answers.samples_per_s,
            "steady_samples_per_s": rates[0] if rates else None,
            "steady_spread": rates[1] if rates else None,
            "tokens_per_s": answers.tokens_per_s,
            "n_parameters": started.n_parameters if started else self._began.n_parameters,
            "threads": started.threads if started else self._began.threads,
        }

    def _of_a_training(self) -> RunRecord:
        training, evaluation, runtime = self._training, self._evaluation, self._t
        best, rate = self._best.evaluation, steady(self._rates)
        tokens_per_s = self._tokens_per_s()
        return replace(
            self._began,
            updates=self._updates,
            planned_updates=training.planned_updates if training else self._began.planned_updates,
            train_runtime_s=runtime,
            samples_per_s=self._samples_per_s(runtime),
            steady_samples_per_s=rate.samples_per_s if rate else None,
            steady_spread=rate.spread if rate else None,
            tokens_per_s=tokens_per_s,
            mfu=self._work.mfu(tokens_per_s) if self._work and tokens_per_s is not None else None,
            train_loss=self._loss_sum / self._n_losses if self._n_losses else None,
            last_loss=self._last_loss,
            eval_accuracy=evaluation.accuracy if evaluation else None,
            eval_loss=evaluation.loss if evaluation else None,
            eval_macro_f1=evaluation.macro_f1 if evaluation else None,
            eval_confusion=evaluation.confusion if evaluation else None,
            label_names=(training.label_names or None) if training else self._began.label_names,
            best_update=best.update if best else None,
            best_epoch=best.epoch if best else None,
            best_accuracy=best.accuracy if best else None,
            best_loss=best.loss if best else None,
            best_macro_f1=best.macro_f1 if best else None,
            n_eval=evaluation.n_samples if evaluation else None,
            eval_majority=training.majority if training else self._began.eval_majority,
            n_train=training.n_train if training else self._began.n_train,
            n_parameters=training.n_parameters if training else self._began.n_parameters,
            resumed_from=training.resumed_from if training else self._began.resumed_from,
            resumed_at=training.resumed_at if training else self._began.resumed_at,
            threads=training.threads if training else self._began.threads,
            host_cores=self._host.cores,
            host_free_cores=self._host.free,
            peak_used_by_rank=self._used_by_rank(),
            wait_share=self._waited_s / self._update_s if self._peaks and self._update_s else None,
            peak_used=self._memory.peak_used,
            peak_reserved=self._memory.peak_reserved,
            peak_allocated=self._memory.peak_allocated,
            memory_total=self._total,
        )

    def _samples_per_s(self, runtime: float | None) -> float | None:
        counted_s = (runtime or 0.0) - self._uncounted_s
        return self._n_samples / counted_s if self._n_samples and counted_s > 0 else None

    def _tokens_per_s(self) -> float | None:
        rate = steady(self._rates)
        return rate.samples_per_s * self._n_tokens / self._n_samples if rate else None

    def _used_by_rank(self) -> tuple[int | None, ...]:
        peaks = [self._peaks[rank] for rank in sorted(self._peaks)]
        return (larger(peaks[0], self._first_used), *peaks[1:]) if peaks else ()

    def _remember(self, memory: Memory) -> None:
        self._memory = with_peaks(self._memory, memory)
        self._total = memory.total if memory.total is not None else self._total


def with_peaks(before: Memory, now: Memory) -> Memory:
    """A reading with the peaks so far; where a device keeps no peak, the largest reading stands for it."""
    return replace(
        now,
        peak_used=larger(before.peak_used, now.peak_used, now.used),
        peak_reserved=larger(before.peak_reserved, now.peak_reserved, now.reserved),
        peak_allocated=larger(before.peak_allocated, now.peak_allocated, now.allocated),
    )


def larger(*values: int | None) -> int | None:
    """The largest known value."""
    return max((value for value in values if value is not None), default=None)
