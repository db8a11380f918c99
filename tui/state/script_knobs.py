"""The knobs of a user's own command: which of them can be turned, and what those say that the command leaves out.

Pure: no Textual.
"""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.contract.script_flags import bare, is_turnable

SCRIPTS_OWN = "script's"
"""A knob that can be turned, and was not: its value is what the script has."""
NOT_CARRIED = "not in the command"


def may_turn(config: RunConfig, name: str) -> bool:
    """Whether a knob can be turned: of a script, one that its command carries, or that can be added to it."""
    return not config.is_script or name == "job" or is_turnable(config, name)


def carried(config: RunConfig) -> tuple[str, ...]:
    """The knobs that a command carries, in its order."""
    return config.script.knobs if config.script is not None else ()


def own_choices(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """The knobs that only the script knows, with their values."""
    return dict(config.script.own) if config.script is not None else {}


def own_value(config: RunConfig, name: str) -> str:
    """The value of a knob that only the script knows. `KeyError` on a name that is not in the command."""
    command = config.script
    return str(command.own_values(config.command_values)[name]) if command is not None else ""


def own_step(config: RunConfig, name: str, direction: int) -> str:
    """The value one step further in a knob of the script's own, round at the ends; one between them goes to an end."""
    choices, now = own_choices(config)[name], own_value(config, name)
    if now not in choices:
        return choices[0] if direction > 0 else choices[-1]
    return choices[(choices.index(now) + direction) % len(choices)]


def is_same_command(one: RunConfig, other: RunConfig) -> bool:
    """Whether two commands are equal but for the words that knobs fill."""
    return bare(one) == bare(other)
