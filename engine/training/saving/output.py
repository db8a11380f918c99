"""Whether a run's output folder can take its model: found out before the training, not after it. Standard library."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from engine.contract.config import ConfigError, RunConfig
from engine.contract.own_models import PREPARED
from engine.training.saving import places

MODELS = ("config.json", "adapter_config.json", PREPARED)


def prepare_output(config: RunConfig, run_id: int, goes_on: places.Checkpoint | None) -> None:
    """Make the output folder, where there is to be one.

    `goes_on` is what the run goes on with: what is in the folder of that one is its own. Raises `ConfigError` where
    the folder cannot be made or written, or holds another run's model or checkpoints.
    """
    folder = places.output_folder(config, run_id)
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)  # a model is for whoever the user's umask lets read it
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            "output_dir", f"--output-dir {folder} cannot be written ({error.strerror}): give another folder."
        ) from None
    if goes_on is not None and goes_on.config.output_dir == config.output_dir:
        return
    if any((folder / name).exists() for name in MODELS):
        run = model_run(folder)
        whose = "a model" if run is None else f"the model of run {run}"
        raise ConfigError(
            "output_dir",
            f"--output-dir {folder} holds {whose} already: give another folder. ({{run}} in its name becomes the run's "
            "number.)",
        )
    if others := places.checkpoints_in(folder):
        run = others[-1].run_id
        raise ConfigError(
            "output_dir",
            f"--output-dir {folder} holds checkpoints of run {run}: go on with it by --resume {folder}, or give "
            "another folder. ({run} in its name becomes the run's number.)",
        )


def said(folder: Path) -> dict[str, Any]:
    """What is written beside the model in a folder on its run; empty where that is not known."""
    return object_in(folder / PREPARED)


def object_in(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def model_run(folder: Path) -> int | None:
    """The run that wrote the model in a folder; None where that is not known."""
    return _number(said(folder).get("run"))


def model_update(folder: Path) -> int | None:
    """The update after which the model in a folder was written; None where that is not known."""
    return _number(said(folder).get("update"))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
