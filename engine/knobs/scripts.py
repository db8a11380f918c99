"""A run of the user's own command, from what was typed: its flags found out, and read into the knobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.contract.command import ANY, Command, read_command
from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import SCRIPT, ConfigError, typed
from engine.contract.script_flags import TRANSFORMERS, all_turned, taken_in
from engine.contract.script_word import script_word
from engine.contract.text import one_line
from engine.knobs.script_source import reads_training_arguments, unread_file


def run_of(values: Mapping[str, Any]) -> RunConfig:
    """The run that knobs as they were typed describe, `command` among them.

    Where nothing says whose flags the script has, its source is read. Raises `ConfigError`.
    """
    text, flags = values.get("command"), values.get("command_flags")
    taken: dict[str, Any] = {}
    if isinstance(text, str) and text.strip():
        words = read_command(text, KNOBS).words
        flags = flags or (TRANSFORMERS if reads_training_arguments(words) else None)
        if flags == TRANSFORMERS:
            script = script_word(words)
            text, taken = taken_in(text, 0 if script is None else script.at + 1)
        taken = _begin(read_command(text, KNOBS)) | taken
    about = {"job": SCRIPT, "command": text, "command_flags": flags, "command_values": values.get("command_values")}
    config = RunConfig.from_dict({**{name: value for name, value in about.items() if value is not None}, **taken})
    rest = {name: value for name, value in values.items() if name not in about}
    for name in rest:
        if name not in KNOBS:
            raise ConfigError(name, f"{name!r} is not a knob; the knobs are {', '.join(KNOBS)}.")
    return all_turned(config, rest)


def note_of(config: RunConfig) -> str | None:
    """A sentence on what a script's command says that is not read; None where there is nothing to say."""
    command = config.script
    if command is None or config.command_flags != TRANSFORMERS or (name := unread_file(command.words)) is None:
        return None
    return f"What {one_line(name)} sets is not read: a knob of this run says what stands in the command alone."


def _begin(command: Command) -> dict[str, str]:
    """What knobs begin with whose default the command has no word for: its first value that has one."""
    values = {}
    for place in command.places:
        keys = [key for (key, *_), _ in place.words]
        if len(place.names) == 1 and keys and ANY not in keys and typed(KNOBS[place.name].default) not in keys:
            values[place.name] = keys[0]
    return values


def with_command(config: RunConfig, text: str) -> RunConfig:
    """The run with another command: knobs that it still carries keep their values. Raises `ConfigError`."""
    command = read_command(text, KNOBS)
    kept = {name: getattr(config, name) for name in command.knobs if config.script and name in config.script.knobs}
    before = config.script.own_values(config.command_values) if config.script else {}
    own = {name: value for name, value in before.items() if name in command.own and value in command.own[name]}
    return all_turned(run_of({"command": text, "device": config.device, **kept}), own)
