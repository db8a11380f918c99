"""Knobs of a user's own command that cannot go together: refusals that name the fix. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.contract.command import RUN
from engine.contract.device_name import read_device
from engine.contract.knob import ConfigError, Knob, Value

if TYPE_CHECKING:
    from engine.contract.config import RunConfig

NO_COMMAND = "There is no command: give it after --, as in traintop run -- python train.py."


def script_values(config: RunConfig, run_id: int | None = None) -> dict[str, Value]:
    """What stands in a command's placeholders, by name; `run_id` where the run has its number.

    Raises `ConfigError` on values without a place.
    """
    command = config.script
    if command is None:
        return {}
    values = {name: getattr(config, name) for name in command.knobs} | command.own_values(config.command_values)
    if run_id is None:
        return values
    place, number = f"{{{RUN}}}", str(run_id)
    told = {name: each.replace(place, number) if isinstance(each, str) else each for name, each in values.items()}
    return {RUN: number, **told}


def not_carried(knob: Knob) -> ConfigError:
    """The refusal of a knob that the command has no place for."""
    if knob.name == "gpus":
        return ConfigError(
            knob.name,
            "--gpus divides traintop's own training: let torchrun start your script, as in "
            "traintop run --gpus 2 -- torchrun --nproc_per_node={gpus} train.py, or leave --gpus out.",
        )
    return ConfigError(
        knob.name,
        f"{knob.flag} is not in the command: put {{{knob.name}}} where its value belongs, as in "
        f"--{knob.name}={{{knob.name}}}, or leave {knob.flag} out.",
    )


def check_script(config: RunConfig, knobs: Mapping[str, Knob]) -> None:
    """Raise `ConfigError` where a command cannot run so."""
    command = config.script
    for knob in knobs.values():
        if config.says(knob.name) or getattr(config, knob.name) == knob.default:
            continue
        raise not_carried(knob)
    if command is not None:
        command.filled(script_values(config))
    elif config.command_values is not None:
        raise ConfigError("command_values", f"{NO_COMMAND} Only then --command-values has something to turn.")
    if read_device(config.device).kind == "virtual":
        raise ConfigError(
            "device",
            f"--device {config.device}: your script computes with PyTorch itself, which knows no virtual GPU: "
            "use --device auto, cpu or cuda.",
        )
