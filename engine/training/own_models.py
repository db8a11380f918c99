"""`run:N` as a model's name: the model that run N trained, from the host's memory or from its output folder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.contract.config import ConfigError, RunConfig
from engine.contract.own_models import run_number
from engine.contract.presets import model_name
from engine.contract.records import Outcome, RunRecord
from engine.techniques.dequantised import plain_state
from engine.training import adapted, adapters, models
from engine.training.hub import Hub
from engine.training.saving import places
from engine.training.saving.output import model_run

if TYPE_CHECKING:
    import torch

    from engine.training.saving.model_folder import Trained


class Kept(Protocol):
    """What is left in the host's memory of the run that trained last."""

    @property
    def record(self) -> RunRecord:
        """The run."""

    @property
    def trained(self) -> Trained | None:
        """Its model; None where it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """A model that a run of the history trained, and that is still here."""

    name: str
    """`run:12`."""
    run_id: int
    trained_on: RunConfig
    """The knobs of that run."""
    trained: Trained | None
    """In memory; else it is in `folder`."""
    folder: Path | None

    def source(self, hub: Hub) -> models.ModelSource:
        """Where its weights and its tokenizer are. Raises `ConfigError`."""
        if self.trained is not None:
            return _in_memory(self, self.trained)
        assert self.folder is not None
        folder, note = str(self.folder), f"Weights of run {self.run_id} from {model_name(str(self.folder))}."
        return replace(adapted.resolve(folder, self.trained_on.task, hub), name=self.name, note=note)


Find = Callable[[str], OwnModel]
"""From `run:12` to that run's model. Raises `ConfigError`."""


def unknown(name: str) -> OwnModel:
    """Where there is no history. Raises `ConfigError`."""
    raise ConfigError("model", f"--model {name}: there is no history here to find that run in.")


def find(name: str, run: Callable[[int], RunRecord | None], kept: Kept | None) -> OwnModel:
    """What `name`, such as `run:12`, stands for. `run` reads a run of the history.

    Raises `ConfigError` where there is no such model.
    """
    flag = f"--model {name}"
    number = run_number(name)
    record = None if number is None else run(number)
    if number is None or record is None:
        raise ConfigError("model", f"{flag}: there is no such run. `traintop runs` lists them.")
    if record.config.answers:
        raise ConfigError("model", f"{flag}: run {number} answered, and trained no model: give a run that trained.")
    if record.outcome is Outcome.RUNNING:
        raise ConfigError("model", f"{flag}: run {number} is still under way: wait for its end.")
    trained = kept.trained if kept is not None and kept.record.run_id == number else None
    folder = None if trained is not None else _folder(record)
    if trained is None and folder is None:
        raise ConfigError("model", f"{flag}: {_gone(record)}")
    return OwnModel(name=name, run_id=number, trained_on=record.config, trained=trained, folder=folder)


def _gone(record: RunRecord) -> str:
    """Why there is no model, and what to do."""
    with suppress(ConfigError):
        if folder := places.output_folder(record.config, record.run_id):
            return (
                f"the model of run {record.run_id} is not in {folder}: it was moved or never written, or traintop was "
                "started in another folder. Give the model's own folder as --model, or train again."
            )
    return (
        f"the model of run {record.run_id} is gone: it is kept until the next training begins, and for good where "
        "the run has an --output-dir: train again with one."
    )


def _folder(record: RunRecord) -> Path | None:
    """The run's output folder, where its model is there: the best, else the last."""
    try:
        folder = places.output_folder(record.config, record.run_id)
    except ConfigError:
        return None
    if folder is None or model_run(folder) != record.run_id:
        return None
    return folder if adapters.is_adapter(folder) or (folder / "config.json").is_file() else None


def _in_memory(own: OwnModel, trained: Trained) -> models.ModelSource:
    model: Any = trained.model

    def state() -> dict[str, torch.Tensor]:
        # LoRA's matrices are added to the weights in a copy: the model in memory is still to be saved
        return plain_state(copy.deepcopy(model).merge_and_unload() if trained.is_adapter else model)

    whole = model.get_base_model() if trained.is_adapter else model
    config = copy.deepcopy(whole.config)
    for name, names in trained.labels.items():
        setattr(config, name, names)
    return models.ModelSource(
        name=own.name,
        config=config,
        location=None,
        tokenizer=trained.tokenizer,
        local_only=True,
        note=f"Weights of run {own.run_id}, which are still in memory.",
        state=state,
    )
