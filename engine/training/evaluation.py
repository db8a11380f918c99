"""Scoring the held-out samples."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from engine.contract.events import EvalDone
from engine.contract.records import Phase
from engine.contract.tasks import TASKS, Task
from engine.devices.precision import Precision
from engine.techniques.preloading import Batch, batches
from engine.training.job import Job
from engine.training.windows import counted


@dataclass(slots=True, kw_only=True)
class Scores:
    """Sums over the batches of an evaluation, on the device."""

    task: Task
    loss: torch.Tensor
    scored: int = 0
    """Samples, or tokens that have a label, that the loss sums over."""
    right: torch.Tensor | int = 0
    samples: int = 0

    def add(self, model: torch.nn.Module, batch: Batch, n_labels: int, precision: Precision) -> None:
        """Score one more batch, its loss a mean over `n_labels`; what it computed is gone before the next one."""
        with precision.autocast():
            output = model(**batch)
        if n_labels:  # a mean over none is nan
            self.loss += output.loss * n_labels
        self.scored += n_labels
        if self.task.score is not None:
            self.right = self.right + _right(output, batch)
        self.samples += len(batch["input_ids"])


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
def evaluate(job: Job, loader: Iterable[Batch], epoch: float) -> bool:
    """Score the held-out samples: mean loss, and the task's score. False when it was asked to stop."""
    job.clock.enter(Phase.EVALUATE)
    started = job.clock.now()
    job.model.eval()
    task = TASKS[job.config.task]
    scores = Scores(task=task, loss=torch.zeros((), device=job.device.torch_device))
    for host_batch, n_labels in job.device.batches(counted(batches(loader, job.should_stop), task)):
        batch = job.device.place(host_batch)
        job.whereabouts.begin()
        scores.add(job.model, batch, n_labels, job.precision)
        if job.should_stop():
            return False
    mean_loss = scores.loss.item() / scores.scored if scores.scored else math.nan
    accuracy = int(scores.right) / scores.scored if task.score and scores.scored else None
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
    )
    job.emit(done)
    return True
