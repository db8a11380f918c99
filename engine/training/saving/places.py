"""Where a run's checkpoints are, and what each says of itself. Standard library only: no PyTorch to find one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract import paths
from engine.contract.config import ConfigError, RunConfig

META, STATE, TOLD = "checkpoint.json", "state.pt", "told.json"
FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d+)", re.ASCII)
_RUN = "{run}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint in `folder`."""

    folder: Path
    run_id: int
    """The run that wrote it."""
    started_at: float
    """When that run began, in Unix time: numbers are given again where a history begins anew."""
    update: int
    """Updates done."""
    epoch: int
    """Epochs that are over, their evaluation too."""
    step: int
    """Micro-steps done in the epoch after them."""
    elapsed_s: float
    """Of training, evaluations included."""
    threads: int
    """That computed: sums are in another order with others."""
    config: RunConfig
    data: str
    """Fingerprint of the samples, the held-out ones too."""
    frozen: str
    """Fingerprint of the weights that are not trained, and so not in it."""
    versions: dict[str, str]


def output_folder(config: RunConfig, run_id: int) -> Path | None:
    """Where the run's model is kept; None where it is not. Raises `ConfigError` where it has no such place."""
    if config.output_dir is None:
        return None
    try:
        return Path(config.output_dir.replace(_RUN, str(run_id))).expanduser().absolute()
    except (RuntimeError, ValueError):
        raise ConfigError("output_dir", f"--output-dir {config.output_dir!r} names no folder: give another.") from None


def checkpoint_folder(config: RunConfig, run_id: int) -> Path:
    """Where the run's checkpoints are: in its output folder, as the Trainer has them, else beside the history."""
    return output_folder(config, run_id) or paths.history_file().parent / "checkpoints" / f"run-{run_id}"


def checkpoint_name(update: int) -> str:
    """Of the folder of one checkpoint."""
    return f"checkpoint-{update}"


def checkpoints_in(folder: Path) -> list[Checkpoint]:
    """The whole checkpoints in a folder, the oldest first; what cannot be read is passed over."""
    found = []
    try:
        places = [place for place in folder.iterdir() if _NAME.fullmatch(place.name)]
    except OSError:
        return []
    for place in places:
        try:
            found.append(read_checkpoint(place))
        except ConfigError:
            continue
    return sorted(found, key=lambda checkpoint: checkpoint.update)


def read_checkpoint(folder: Path) -> Checkpoint:
    """What a checkpoint says of itself. Raises `ConfigError` where it is none that this version can go on from."""
    try:
        said = json.loads((folder / META).read_text(encoding="utf-8"))
        if said["format"] != FORMAT:
            raise ConfigError("", f"The checkpoint {folder} was written by another version of traintop: use that one.")
        config = RunConfig.from_dict(said["config"])
        (folder / STATE).stat()
        return Checkpoint(folder=folder, config=config, **{name: said[name] for name in _plain_fields()})
    except ConfigError as error:
        raise ConfigError("", f"The checkpoint {folder} cannot be used: {error.message}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError("", f"{folder} is no checkpoint of traintop, or not a whole one: give another.") from None


def write_meta(checkpoint: Checkpoint, folder: Path) -> None:
    """Write what a checkpoint says of itself into `folder`. Raises `OSError`."""
    said: dict[str, Any] = {name: getattr(checkpoint, name) for name in _plain_fields()}
    text = json.dumps({"format": FORMAT, **said, "config": checkpoint.config.to_dict()}, indent=1)
    (folder / META).write_text(text, encoding="utf-8")


def remove_old(folder: Path, run_id: int, started_at: float, keep: int | None) -> None:
    """Remove the run's own checkpoints but for the newest `keep`."""
    if keep is None:
        return
    own = [each for each in checkpoints_in(folder) if (each.run_id, each.started_at) == (run_id, started_at)]
    for old in own[:-keep]:
        shutil.rmtree(old.folder, ignore_errors=True)


def _plain_fields() -> Iterator[str]:
    return (name for name in Checkpoint.__dataclass_fields__ if name not in ("folder", "config"))
