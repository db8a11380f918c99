"""What a forecast knows of a model by its name: what a run would find, as far as that is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.presets import PRESETS
from engine.training import models
from engine.training.hub import Hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model that a run would train."""

    model: models.ModelSource
    stamp: float
    """When a local model's configuration was written."""
    is_to_come: bool = False
    """Whether a run would fetch weights and a tokenizer that are not here yet."""


class _Here(Hub):
    """The hub as seen by one who does not ask it."""

    def reachable(self) -> bool:
        return False


def find_source(config: RunConfig, hub: Hub | None, stamp: float) -> Source:
    """The model of `config`. A preset is looked for on this machine only: its shape is known.

    Raises `ConfigError` as a run does.
    """
    name = config.model
    if name not in PRESETS or Path(name).expanduser().is_dir():
        return Source(model=models.resolve(name, hub or _Here()), stamp=stamp)
    if config.workload == "dummy":  # no tokenizer is needed
        return Source(model=models.preset_source(name), stamp=stamp)
    found = models.resolve(name, _Here())
    fetches = found.location is None and PRESETS[name].hub_name is not None and hub is not None and hub.reachable()
    return Source(model=found, stamp=stamp, is_to_come=fetches)
