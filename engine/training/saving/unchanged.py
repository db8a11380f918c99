"""What has to be as it was where a run goes on with another one's checkpoint. Standard library only."""

from __future__ import annotations

from engine.contract.config import KEEPING, KNOBS, ConfigError, RunConfig
from engine.contract.own_data import data_name
from engine.training.saving.places import Checkpoint

MAY_CHANGE = KEEPING | {
    "device",
    "vram_limit",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "non_finite_loss",
    "bucket_mib",
    "reshard_after_forward",
}
"""Knobs that a run may have other values of than the one that it goes on with: it learns the same."""


def refuse_changes(checkpoint: Checkpoint, config: RunConfig) -> None:
    """Raise `ConfigError`, naming the knobs, where `config` would learn something else than the checkpoint's run."""
    before = checkpoint.config
    changed = [name for name in KNOBS if name not in MAY_CHANGE and getattr(config, name) != getattr(before, name)]
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
