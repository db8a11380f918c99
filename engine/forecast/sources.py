"""What a forecast knows of a model by its name: what a run would find, as far as that is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.contract.config import ConfigError, RunConfig
from engine.contract.own_models import is_own
from engine.models.catalogue import ARCHITECTURES, known
from engine.training import adapted, models
from engine.training.hub import Hub
from engine.training.own_models import Find


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


def find_source(config: RunConfig, hub: Hub | None, stamp: float, own_model: Find | None = None) -> Source:
    """The model of `config`. An architecture of which the shape is known is looked for on this machine only.

    `own_model` finds what a run of the history trained. Raises `ConfigError` as a run does.
    """
    name = config.model
    if own_model is not None and is_own(name):
        return Source(model=own_model(name).source(hub or _Here()), stamp=stamp)
    architecture = known(name)
    if architecture is None or Path(name).expanduser().is_dir():
        asked = hub or _Here()
        found = adapted.resolve(name, config.task, asked) if config.answers else models.resolve(name, asked)
        return Source(model=found, stamp=stamp)
    if config.workload == "dummy" and name.lower() in ARCHITECTURES:  # no tokenizer is needed
        return Source(model=models.preset_source(name), stamp=stamp)
    try:
        found = models.resolve(name, _Here())
    except ConfigError:  # a name of the hub
        found = models.preset_source(name)
    fetches = found.location is None and architecture.hub_name is not None and hub is not None and hub.reachable()
    return Source(model=found, stamp=stamp, is_to_come=fetches)
