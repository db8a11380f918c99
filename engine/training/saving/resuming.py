"""Going on with a checkpoint: what has to be as it was, and putting everything back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from engine.contract.config import KEEPING, KNOBS, ConfigError, RunConfig
from engine.contract.events import EvalDone, Event
from engine.contract.own_data import data_name
from engine.training.saving.output import model_update
from engine.training.saving.places import Checkpoint, output_folder
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

MAY_CHANGE = KEEPING | {
    "device",
    "vram_limit",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "non_finite_loss",
}
"""Knobs that a run may have other values of than the one that it goes on with: what is learned does not hang on them."""


def refuse_changes(checkpoint: Checkpoint, config: RunConfig) -> None:
    """Raise `ConfigError`, naming the knobs, where `config` would learn something else than the checkpoint's run."""
    before = checkpoint.config
    changed = [
        name for name in KNOBS if name not in MAY_CHANGE and getattr(config, name) != getattr(before, name)
    ]
    if changed:
        flags = ", ".join(KNOBS[name].flag for name in changed)
        raise ConfigError(
            changed[0],
            f"--resume goes on with run {checkpoint.run_id} as it was, and {flags} would change what it learns: leave "
            f"{'it' if len(changed) == 1 else 'them'} out, or start a new run.",
        )


def refuse_other_data(checkpoint: Checkpoint, data: str) -> None:
    """Raise `ConfigError` where the samples are not those of the checkpoint's run."""
    if data != checkpoint.data:
        raise ConfigError(
            "data",
            f"{data_name(checkpoint.config)} is not as it was when run {checkpoint.run_id} began (or its tokenizer is "
            "not), so that run cannot go on: put the old one back, or start a new run.",
        )


def go_on(job: Job, keeper: Keeper | None, checkpoint: Checkpoint) -> list[Event]:
    """Put the training where the checkpoint's was; what that one had told up to there, as told by this run.

    The random numbers are put back by `put_back_random_of`, when nothing draws any more before the first micro-step.
    Raises `ConfigError` where the checkpoint is damaged, or of another model.
    """
    folder = checkpoint.folder
    if frozen_fingerprint(job.model) != checkpoint.frozen:
        raise ConfigError(
            "model",
            f"The weights of {checkpoint.config.model} are not those that run {checkpoint.run_id} began with, so it "
            "cannot go on: put the old ones back, or start a new run.",
        )
    try:
        state = read_state(folder)
        told = read_told(folder)
        events = list(told.events(job.run_id))
        put_back(job, state)
    except Exception as error:  # PyTorch raises anything over a damaged file
        log.warning("the checkpoint %s cannot be read", folder, exc_info=error)
        raise ConfigError(
            "", f"The checkpoint {folder} is damaged: go on with an older one, by --resume FOLDER."
        ) from None
    job.random = state["random"]
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
