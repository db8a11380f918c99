"""The training loop, with the meaning of the Hugging Face Trainer's, readable on one page.

Only here does the host wait for the device: once per update, when its loss is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from engine.contract.config import RunConfig
from engine.contract.events import MicroStepDone, UpdateDone
from engine.contract.records import Phase, RankShare
from engine.contract.tasks import TASKS
from engine.contract.throughput import warmup_updates
from engine.devices.precision import Precision
from engine.techniques import class_loss, gradients
from engine.techniques.preloading import Batch, batches
from engine.techniques.stopping import Stopped, between_layers
from engine.training.evaluation import evaluate
from engine.training.job import Job
from engine.training.windows import turns

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class NonFiniteLoss(Exception):  # noqa: N818 (an outcome that was asked for, not a defect)
    """The loss is nan or inf, and the run is to end there. The message says what, where and what to do."""


def train(job: Job) -> bool:
    """Train for the configured epochs. True when it ran to its end, False when it was asked to stop.

    Where `job.best` gives up waiting for a better evaluation, that is its end.
    """
    try:
        hooks = between_layers(job.model, job.should_stop, job.whereabouts.arrive)
        # inside what is compiled they would be compiled with it
        with nullcontext() if job.config.torch_compile else hooks:
            return train_epochs(job)
    except Stopped:
        return False


def train_epochs(job: Job) -> bool:
    """All epochs with their evaluations. False when it was asked to stop; `Stopped` in the midst of a micro-step."""
    job.clock.start_training(job.trained_s)
    job.whereabouts.begin()
    for epoch in range(job.epoch, job.config.epochs):
        job.order.epoch = epoch
        if not train_epoch(job, epoch, job.skipped if epoch == job.epoch else 0):
            return False
        if job.evaluates_after_epoch and not job.best.gives_up and not evaluate(job, epoch + 1):
            return False
        keep(job, epoch + 1, 0)
        if job.best.gives_up:
            break
    return True


def train_epoch(job: Job, epoch: int, first: int = 0) -> bool:
    """One pass over the data, from micro-step `first`, which begins a window, on.

    An update's loss is the mean over its window's labels, or over its micro-steps.

    It ends early where `job.best` gives up. False when it was asked to stop.
    """
    steps, accumulation = job.micro_steps_per_epoch, job.config.gradient_accumulation_steps
    window_loss, n_samples, n_tokens = None, 0, 0
    job.model.train()
    job.micro_step = epoch * steps + first + 1
    job.order.skipped = first * job.config.batch_size
    job.epoch_began = job.loader.generator.get_state() if job.loader.generator is not None else None
    ahead = turns(
        batches(job.loader, job.should_stop),
        steps=steps - first,
        accumulation=accumulation,
        task=TASKS[job.config.task],
        should_stop=job.should_stop,
        share=job.together.share,
        mass=class_loss.mass_of(job.model) if job.together.world_size > 1 else None,
    )
    for step, turn in enumerate(job.device.batches(ahead), first):
        batch = job.device.place(turn.batch)
        job.whereabouts.begin(turn.number, turn.of)
        with job.together.window(job.calls, is_last=turn.number == turn.of):
            loss = micro_step(job.calls, batch, job.precision, turn.divisor, job.clock.enter)
        window_loss = loss if window_loss is None else window_loss + loss
        n_samples += len(turn.batch["input_ids"])
        n_tokens += turn.batch["input_ids"].numel()
        if turn.number == turn.of:
            step_taken = take_step(
                job.optimizer, job.schedule, job.precision, job.config, job.clock.enter, job.together.clip
            )
            report_update(job, epoch + (step + 1) / steps, window_loss, step_taken, n_samples, n_tokens)
            window_loss, n_samples, n_tokens = None, 0, 0
            if job.evaluates_after_update:
                if not evaluate(job, epoch + (step + 1) / steps):
                    return False
                if job.best.gives_up:
                    return True
                job.model.train()
            if step + 1 < steps:  # else it is kept after what follows an epoch, which need not be done again then
                keep(job, epoch, step + 1)
        else:
            report_micro_step(job)
        job.clock.enter(Phase.DATA)
        job.whereabouts.begin()
        if job.should_stop():
            return False
        job.micro_step += 1
    return True


def keep(job: Job, epoch: int, step: int) -> None:
    """Write what is due: `epoch` epochs are over, and `step` micro-steps of the next one."""
    if job.keeper is not None and job.keeper.after_update(job, epoch, step):
        job.clock.start()  # the next update's time begins after it


def micro_step(
    model: torch.nn.Module, batch: Batch, precision: Precision, divisor: float, enter: Callable[[Phase], None]
) -> torch.Tensor:
    """One forward and backward; gradients are added to what the window has so far. The loss, a scalar, / divisor."""
    enter(Phase.FORWARD)
    with precision.autocast():
        loss: torch.Tensor = model(**batch).loss / divisor
    enter(Phase.BACKWARD)
    precision.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an optimizer step did."""

    norm: torch.Tensor | None
    """Of the gradients before clipping; None when clipping is off."""
    rate: float
    """The learning rate that was used."""
    skipped: bool
    """fp16: gradients overflowed, and the step was not taken."""


def take_step(
    optimizer: Optimizer,
    schedule: LRScheduler,
    precision: Precision,
    config: RunConfig,
    enter: Callable[[Phase], None],
    clip: Callable[..., torch.Tensor] = gradients.clip,
) -> Step:
    """Clip, step, decay, forget the gradients. `clip` is `gradients.clip`, or what ranks have in its place."""
    norm, scaler = None, precision.scaler
    enter(Phase.CLIP)
    if config.max_grad_norm > 0:
        scaler.unscale_(optimizer)
        norm = clip(optimizer, config.max_grad_norm, in_step=not scaler.is_enabled())
    enter(Phase.OPTIMIZER)
    rate = float(schedule.get_last_lr()[0])
    scale = precision.loss_scale()
    scaler.step(optimizer)
    scaler.update()
    # the scaler tells in no other way that it skipped the step; a scale that was halved down to 0 stays there
    skipped = scale is not None and (scaler.get_scale() < scale or scale == 0)
    if not skipped:
        schedule.step()
    gradients.forget(optimizer)
    return Step(norm=norm, rate=rate, skipped=skipped)


def report_micro_step(job: Job) -> None:
    """Say that a micro-step was given to the device, without waiting for it."""
    total = job.config.epochs * job.micro_steps_per_epoch
    job.emit(MicroStepDone(run_id=job.run_id, micro_step=job.micro_step, micro_steps=total, t=job.clock.now()))


def report_update(
    job: Job,
    epoch: float,
    loss: torch.Tensor | None,
    step: Step,
    n_samples: int,
    n_tokens: int,
) -> None:
    """Wait for the device, read the update's figures, and tell. Raises `NonFiniteLoss` where the run is to end."""
    shares, seconds = job.clock.take()  # here the host waits, and hears of what failed on the device
    update, scale = job.update + 1, job.precision.loss_scale()
    own = RankShare(
        rank=job.together.rank,
        n_samples=n_samples,
        n_tokens=n_tokens,
        update_s=seconds,
        shares=shares,
        memory=job.device.memory(),
    )
    last_loss = loss.item() if loss is not None else math.nan
    with job.device.on_host():
        told = job.together.update_done(last_loss, own, job.asked())
    job.stops = told.stops
    done = UpdateDone(
        run_id=job.run_id,
        update=update,
        epoch=epoch,
        loss=told.loss,
        learning_rate=step.rate,
        grad_norm=step.norm.item() if step.norm is not None else None,
        loss_scale=scale,
        skipped=step.skipped,
        n_samples=told.whole.n_samples,
        n_tokens=told.whole.n_tokens,
        update_s=told.whole.update_s,
        warmup=update - job.began_at <= warmup_updates(job.planned_updates),
        t=job.clock.now(),
        shares=told.whole.shares,
        memory=told.whole.memory,
        ranks=told.ranks,
    )
    job.emit(done)
    job.update = update
    if job.config.non_finite_loss == "stop" and not math.isfinite(told.loss):
        ways = ["a smaller --learning-rate", "--max-grad-norm 1"]
        if job.config.precision == "fp16":
            ways.append(f"--precision {'bf16' if job.device.info.sixteen_bits == 'bf16' else 'fp32'} in place of fp16")
        raise NonFiniteLoss(
            f"The loss is {done.loss} in update {job.update}: use {', '.join(ways[:-1])} or {ways[-1]}. "
            "(--non-finite-loss continue would train on.)"
        )
