"""Scoring the held-out samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from engine.contract.confusion import MOST_CLASSES, macro_f1
from engine.contract.events import EvalDone
from engine.contract.records import Phase
from engine.devices.precision import Precision
from engine.techniques.preloading import Batch, batches
from engine.training.job import Job

MOST_COUNTED = 1000
"""Classes; the square of more would be memory that counts."""


@dataclass(slots=True, kw_only=True)
class Scores:
    """Sums over the batches of an evaluation, on the device."""

    loss: torch.Tensor
    scored: torch.Tensor | int = 0
    """Samples, or tokens of a language model, that the loss sums over."""
    right: torch.Tensor | int = 0
    samples: int = 0
    counts: torch.Tensor | None = None
    """Samples by class and answer, (classes²,) in int64, as in `engine.contract.confusion`; None: not counted."""

    @classmethod
    def begin(cls, model: torch.nn.Module, task: str, device: torch.device) -> Scores:
        """Nothing scored yet."""
        n_classes = int(model.config.num_labels) if task == "classification" else 0  # type: ignore[union-attr, arg-type]
        counts = None
        if 0 < n_classes <= MOST_COUNTED:
            counts = torch.zeros(n_classes * n_classes, dtype=torch.int64, device=device)
        return cls(loss=torch.zeros((), device=device), counts=counts)

    def add(self, model: torch.nn.Module, batch: Batch, precision: Precision) -> None:
        """Score one more batch; what it computed is gone before the next one."""
        with precision.autocast():
            output = model(**batch)
        labels = batch["labels"]
        # a language model's loss is the mean over the tokens that have one before them to be predicted from
        scored = len(labels) if labels.dim() == 1 else (labels[:, 1:] != -100).sum()
        self.loss += output.loss * scored
        self.scored = self.scored + scored
        if labels.dim() == 1:
            answers = output.logits.argmax(-1)
            self.right = self.right + (answers == labels).sum()
            if self.counts is not None:
                cells = labels * output.logits.size(-1) + answers
                self.counts.index_add_(0, cells, torch.ones_like(cells))
        self.samples += len(labels)


@torch.no_grad()
def evaluate(job: Job, epoch: float) -> bool:
    """Score the held-out samples: mean loss, and for classes by argmax accuracy, macro-F1 and who was taken for whom.

    The job's `best` hears of it. False when it was asked to stop.
    """
    job.clock.enter(Phase.EVALUATE)
    started = job.clock.now()
    job.model.eval()
    scores = Scores.begin(job.model, job.config.task, job.device.torch_device)
    for host_batch in job.device.batches(batches(job.eval_loader or (), job.should_stop)):
        batch = job.device.place(host_batch)
        job.whereabouts.begin()
        scores.add(job.model, batch, job.precision)
        if job.should_stop():
            return False
    n = scores.samples
    mean_loss = (scores.loss / scores.scored).item()
    accuracy = int(scores.right) / n if job.config.task == "classification" else None
    counts = _rows(scores.counts)
    of_class = list(zip(*counts, strict=True))
    job.clock.start()  # the next update's time begins after the evaluation
    done = EvalDone(
        run_id=job.run_id,
        epoch=epoch,
        update=job.update,
        accuracy=accuracy,
        loss=mean_loss,
        n_samples=n,
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
