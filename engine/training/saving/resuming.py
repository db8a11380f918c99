"""Going on with a checkpoint: putting everything back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from engine.contract.config import ConfigError
from engine.contract.events import EvalDone, Event
from engine.training.saving.output import model_update
from engine.training.saving.places import Checkpoint, checkpoints_in, output_folder
from engine.training.saving.state import (
    frozen_fingerprint,
    put_back,
    put_back_random,
    read_state,
    read_told,
)

if TYPE_CHECKING:
    import torch

    from engine.training.job import Job
    from engine.training.saving.keeper import Keeper

log = logging.getLogger("traintop")


def go_on(job: Job, keeper: Keeper | None, checkpoint: Checkpoint) -> list[Event]:
    """Put the training where the checkpoint's was; what that one had told up to there, as told by this run.

    The random numbers are put back by `put_back_random_of`, when nothing draws any more before the first micro-step.
    Raises `ConfigError` where the checkpoint is damaged, or of another model.
    """
    folder = checkpoint.folder
    if frozen_fingerprint(job.model, job.together) != checkpoint.frozen:
        raise ConfigError(
            "model",
            f"The weights of {checkpoint.config.model} are not those that run {checkpoint.run_id} began with, so it "
            "cannot go on: put the old ones back, or start a new run.",
        )
    try:
        state = read_state(folder)
        told = read_told(folder)
        events = list(told.events(job.run_id))
        put_back(job, state, folder)
    except Exception as error:  # PyTorch raises anything over a damaged file
        log.warning("the checkpoint %s cannot be read", folder, exc_info=error)
        before = [each for each in checkpoints_in(folder.parent) if each.update < checkpoint.update]
        own = [each.folder for each in before if each.started_at == checkpoint.started_at]
        fix = (
            f"go on with the one before, by --resume {own[-1]}" if own else "start a new run, as there is no older one"
        )
        raise ConfigError("", f"The checkpoint {folder} is damaged: {fix}.") from None
    job.update = job.began_at = checkpoint.update
    job.epoch, job.skipped, job.trained_s = checkpoint.epoch, checkpoint.step, checkpoint.elapsed_s
    for event in events:
        if isinstance(event, EvalDone):
            job.best.take(event)
    if keeper is not None:
        keeper.told = told
        best, output = job.best.evaluation, output_folder(job.config, job.run_id)
        if best is not None and output is not None and model_update(output) == best.update:
            keeper.best_update = best.update
    return list[Event](events)


def put_back_random_of(job: Job, device: torch.device) -> None:
    """The random numbers that come next are those that came next in the run that this one goes on with."""
    if job.random is not None:
        put_back_random(job.random, device)


def words(checkpoint: Checkpoint) -> str:
    """As the transcript says it."""
    return f"Goes on with run {checkpoint.run_id} after update {checkpoint.update}, from {checkpoint.folder}."
