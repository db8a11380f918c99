"""Scoring the held-out samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from engine.contract.confusion import MOST_CLASSES, macro_f1
from engine.contract.events import EvalDone
from engine.contract.records import Phase
from engine.contract.tasks import TASKS, Task
from engine.devices.precision import Precision
from engine.techniques.parallel.together import Together
from engine.techniques.preloading import Batch, batches
from engine.training.job import Job
from engine.training.windows import counted

MOST_COUNTED = 1000
"""Classes; the square of more would be memory that counts."""


@dataclass(slots=True, kw_only=True)
class Scores:
    """Sums over the batches of an evaluation, on the device."""

    task: Task
    loss: torch.Tensor
    scored: int = 0
    """Samples, or tokens that have a label, that the loss sums over."""
    right: torch.Tensor | int = 0
    samples: int = 0
    counts: torch.Tensor | None = None
    """Samples by class and answer, (classes²,) in int64, as in `engine.contract.confusion`; None: not counted."""

    @classmethod
    def begin(cls, model: torch.nn.Module, task: Task, device: torch.device) -> Scores:
        """Nothing scored yet."""
        n_classes = int(model.config.num_labels) if task is TASKS["classification"] else 0  # type: ignore[union-attr, arg-type]
        counts = None
        if 0 < n_classes <= MOST_COUNTED:
            counts = torch.zeros(n_classes * n_classes, dtype=torch.int64, device=device)
        return cls(task=task, loss=torch.zeros((), device=device), counts=counts)

    def add(self, model: torch.nn.Module, batch: Batch, n_labels: int, precision: Precision) -> None:
        """Score one more batch, its loss a mean over `n_labels`; what it computed is gone before the next one."""
        with precision.autocast():
            output = model(**batch)
        if n_labels:  # a mean over none is nan
            self.loss += output.loss * n_labels
        self.scored += n_labels
        if self.task.score is not None:
            self.right = self.right + _right(output, batch)
        if self.counts is not None:
            cells = batch["labels"] * output.logits.size(-1) + output.logits.argmax(-1)
            self.counts.index_add_(0, cells, torch.ones_like(cells))
        self.samples += len(batch["input_ids"])

    def sum_up(self, together: Together) -> None:
        """Take in what all ranks have scored."""
        if together.world_size == 1:
            return
        counts = [] if self.counts is None else self.counts.tolist()
        loss, *whole = together.summed([self.loss.item(), self.scored, int(self.right), self.samples, *counts])
        self.loss = torch.tensor(loss, dtype=torch.float64)
        self.scored, self.right, self.samples, *counts = map(int, whole)
        if self.counts is not None:
            self.counts = torch.tensor(counts)


def _right(output: Any, batch: Batch) -> torch.Tensor:
    """How many answers are right: of classes by the largest logit, of a span where its begin and its end both are."""
    right: torch.Tensor
    if "labels" in batch:
        right = output.logits.argmax(-1) == batch["labels"]
    else:
        right = output.start_logits.argmax(-1) == batch["start_positions"]
        right &= output.end_logits.argmax(-1) == batch["end_positions"]
    return right.sum()


@torch.no_grad()
def evaluate(job: Job, epoch: float) -> bool:
    """Score the held-out samples: mean loss, the task's score, and for classes macro-F1 and who was taken for whom.

    The job's `best` hears of it. False when it was asked to stop.
    """
    job.clock.enter(Phase.EVALUATE)
    started = job.clock.now()
    job.model.eval()
    task = TASKS[job.config.task]
    scores = Scores.begin(job.model, task, job.device.torch_device)
    loaded = counted(batches(job.eval_loader or (), job.should_stop), task)
    for number, (host_batch, n_labels) in enumerate(job.device.batches(loaded)):
        batch = job.device.place(host_batch)
        job.whereabouts.begin()
        counts_too = number < job.eval_batches
        into = scores if counts_too else Scores.begin(job.model, task, job.device.torch_device)
        into.add(job.model, batch, n_labels, job.precision)
        with job.device.on_host():
            job.stops = job.together.agree(job.asked())
        if job.should_stop():
            return False
    with job.device.on_host():
        scores.sum_up(job.together)
    job.together.scored(job.model)
    mean_loss = scores.loss.item() / scores.scored if scores.scored else math.nan
    accuracy = int(scores.right) / scores.scored if task.score and scores.scored else None
    counts = _rows(scores.counts)
    of_class = list(zip(*counts, strict=True))
    job.clock.start()  # the next update's time begins after the evaluation
    done = EvalDone(
        run_id=job.run_id,
        epoch=epoch,
        update=job.update,
        accuracy=accuracy,
        loss=mean_loss,
        n_samples=scores.samples,
        eval_s=job.clock.now() - started,
        t=job.clock.now(),
        macro_f1=macro_f1([row[i] for i, row in enumerate(counts)], [*map(sum, counts)], [*map(sum, of_class)]),
        confusion=tuple(map(tuple, counts)) if 0 < len(counts) <= MOST_CLASSES else None,
    )
    job.best.take(done)
    job.emit(done)
    return True


def _rows(counts: torch.Tensor | None) -> list[list[int]]:
    """A row of counts for every class; none where they were not counted."""
    if counts is None:
        return []
    n_classes = math.isqrt(counts.numel())
    rows: list[list[int]] = counts.view(n_classes, n_classes).tolist()
    return rows
