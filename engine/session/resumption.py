"""What `--resume` stands for: a run's number, a folder with checkpoints, or one checkpoint. No PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History
from engine.training.saving import places
from engine.training.saving.places import Checkpoint
from engine.training.saving.unchanged import refuse_changes

__all__ = ["Checkpoint", "config_of", "find"]

_OVER = {
    Outcome.RUNNING: "is still under way",
    Outcome.COMPLETED: "came to its end, so there is nothing to go on with",
}


def find(target: str, history: History) -> Checkpoint:
    """The newest whole checkpoint of a run, by its number or its folder, or the one in the folder that is named.

    Raises `ConfigError` where there is none, and `HistoryError`.
    """
    words = target.strip()
    if words.isdecimal() and len(words) < 19:
        return _of_run(int(words), history)
    folder = Path(words).expanduser()
    if (folder / places.META).exists():
        return places.read_checkpoint(folder)
    if not folder.is_dir():
        raise ConfigError(
            "", f"--resume {target!r} is neither a run's number nor a folder: `traintop runs` lists the runs."
        )
    found = places.checkpoints_in(folder)
    if not found:
        raise ConfigError("", f"--resume {target!r} holds no whole checkpoint: give a run's number, or another folder.")
    return found[-1]


def config_of(found: Checkpoint, changes: Mapping[str, Value]) -> RunConfig:
    """The knobs of the run that goes on: the checkpoint's, but for those that were given anew.

    Raises `ConfigError` where one of them would change what is learned.
    """
    config = RunConfig.from_dict({**found.config.to_dict(), **changes})
    refuse_changes(found, config)
    return config


def _of_run(run_id: int, history: History) -> Checkpoint:
    record = history.run(run_id)
    if record is None:
        raise ConfigError("", f"--resume {run_id}: there is no such run. `traintop runs` lists them.")
    if record.config.is_script:
        raise ConfigError(
            "",
            f"--resume {run_id}: run {run_id} is a script of yours, which goes on by a flag of its own: add it to the "
            "command, traintop run -- COMMAND.",
        )
    if record.outcome in _OVER:
        raise ConfigError("", f"--resume {run_id}: run {run_id} {_OVER[record.outcome]}.")
    first, seen = run_id, {run_id}
    while True:
        found = _own(record)
        if found:
            return found[-1]
        before = record.resumed_from
        record = None if before is None or before in seen else history.run(before)
        if record is None:
            break
        seen.add(record.run_id)
    raise ConfigError(
        "",
        f"--resume {first}: run {first} left no checkpoint, so it can only begin anew. (--save-steps N keeps one every "
        "N updates.)",
    )


def _own(record: RunRecord) -> list[Checkpoint]:
    folder = places.checkpoint_folder(record.config, record.run_id)
    return [
        each
        for each in places.checkpoints_in(folder)
        if each.run_id == record.run_id and each.started_at == record.started_at
    ]
