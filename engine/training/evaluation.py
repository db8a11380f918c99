"""Scoring the held-out samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from engine.contract.events import EvalDone
from engine.contract.records import Phase
from engine.devices.precision import Precision
from engine.techniques.preloading import Batch, batches
from engine.training.job import Job


@dataclass(slots=True, kw_only=True)
class Scores:
    """Sums over the batches of an evaluation, on the device."""

    loss: torch.Tensor
    scored: torch.Tensor | int = 0
    """Samples, or tokens of a language model, that the loss sums over."""
    right: torch.Tensor | int = 0
    samples: int = 0

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
            self.right = self.right + (output.logits.argmax(-1) == labels).sum()
        self.samples += len(labels)


@torch.no_grad()
def evaluate(job: Job, loader: Iterable[Batch], epoch: float) -> bool:
    """Score the held-out samples: mean loss, and for classes accuracy by argmax. False when it was asked to stop."""
    job.clock.enter(Phase.EVALUATE)
    started = job.clock.now()
    job.model.eval()
    scores = Scores(loss=torch.zeros((), device=job.device.torch_device))
    for host_batch in job.device.batches(batches(loader, job.should_stop)):
        batch = job.device.place(host_batch)
        job.whereabouts.begin()
        scores.add(job.model, batch, job.precision)
        if job.should_stop():
            return False
    n = scores.samples
    mean_loss = (scores.loss / scores.scored).item()
    accuracy = int(scores.right) / n if job.config.task == "classification" else None
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
    )
    job.emit(done)
    return True
