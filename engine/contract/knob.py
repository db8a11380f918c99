"""What a knob is: its unit, bounds and reason, how a value is read from text, and when it is refused.

Standard library only.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.contract.numbers import UNKNOWN
from engine.contract.text import one_line

Value = str | int | float | bool | None

GROUPS: dict[str, str] = {
    "script": "your own command, and what is turned in it",
    "what": "the model, and how long it is trained",
    "batch": "how much is computed at once",
    "memory": "less memory for more time, or for less that is trained",
    "compute": "how it is computed",
    "optimizer": "how it learns",
    "data": "what it learns from, and how that is brought to it",
    "evaluation": "when it is scored, and when that ends it",
    "saving": "what is kept of it",
    "prompts": "what is answered, and how much is written",
    "answering": "space for computation, the common case, speculation: how it is answered",
    "parallel": "several GPUs, and what each of them holds",
    "where": "the device, and how much of it; the folder of what is kept",
}
"""Groups of knobs in their order, and what is in each: the screen's list and the help of the command line have them."""

_ANSWERING: dict[str, str] = {
    "what": "the model, and what it does",
    "memory": "what takes fewer bytes",
    "data": "where in a file the prompts are",
    "where": "the device, and how much of it",
}
"""Of those of them that have knobs of both jobs, what is in them for answers, where that is another thing."""

TRAIN, ANSWER, SCRIPT = "train", "answer", "script"
JOBS: tuple[str, ...] = (TRAIN, ANSWER, SCRIPT)
"""What a run can do: train a model, let it answer, or run the user's own command."""
OWN_JOBS: tuple[str, ...] = (TRAIN, ANSWER)
"""Those whose model is ours to build, and to forecast."""


def about_group(name: str, job: str) -> str:
    """What is in a group of knobs, for a job."""
    return _ANSWERING.get(name, GROUPS[name]) if job == ANSWER else GROUPS[name]


class ConfigError(ValueError):
    """A configuration that cannot run. The message says what, where, and what to do.

    `knob` is the name of the field at fault.
    """

    def __init__(self, knob: str, message: str) -> None:
        super().__init__(message)
        self.knob = knob
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """What the screen, the command line and the documentation know about one field of `RunConfig`."""

    name: str = ""
    """The field's name; `--` and dashes make it the flag."""
    label: str
    """Short name for the screen."""
    why: str
    """One line: what turning it does to memory, speed or accuracy."""
    why_answering: str = ""
    """The same for a model that answers, where that is something else."""
    default: Value = None
    """Of the field."""
    group: str
    """One of `GROUPS`."""
    jobs: tuple[str, ...] = (TRAIN,)
    """The jobs that it means something for; with another one it is not shown."""
    kind: type = str
    """`int`, `float`, `bool` or `str`."""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    steps: tuple[Value, ...] = ()
    """Values that up and down visit, in order; any other value in the bounds can still be typed."""
    optional: bool = False
    """True when None ("not set") is a value."""
    hint: str = ""
    """What None means, for the screen."""
    none: str = ""
    """How None is written, where it is a value that people know: `all`."""

    @property
    def flag(self) -> str:
        """The command-line flag, such as `--batch-size`."""
        return "--" + self.name.replace("_", "-")

    def why_in(self, job: str) -> str:
        """What turning it does in a job."""
        return self.why_answering if job == ANSWER and self.why_answering else self.why


def setting(default: Value, label: str, why: str, **more: Any) -> Any:
    """A field of a dataclass that is a knob; its name and kind are those of the field."""
    return field(default=default, metadata={"knob": Knob(label=label, why=why, default=default, **more)})


def check(knob: Knob, value: object) -> None:
    if value is None:
        if not knob.optional:
            raise ConfigError(knob.name, f"{knob.flag} needs a value.")
        return
    accepted = (int, float) if knob.kind is float else (knob.kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and knob.kind is not bool):
        raise ConfigError(knob.name, f"{knob.flag} needs {_article(knob)}, not {value!r}.")
    if knob.choices and value not in knob.choices:
        raise ConfigError(knob.name, f"{knob.flag} {value!r} is not known: use {_either(knob.choices)}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = knob.minimum, knob.maximum
        # the negated form also refuses NaN
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            shown = str(value)[:40] if isinstance(value, int) else f"{value:g}"
            raise ConfigError(knob.name, f"{knob.flag} {shown} is out of bounds: use {low:,.10g} to {high:,.10g}.")
    if knob.kind is str and isinstance(value, str) and not value.strip():
        raise ConfigError(knob.name, f"{knob.flag} is empty: give {knob.hint or 'a value'}.")


def _article(knob: Knob) -> str:
    return {int: "a whole number", float: "a number", bool: "on or off", str: "a text"}[knob.kind]


def _either(choices: Iterable[str]) -> str:
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


_TRUE, _FALSE = {"on", "true", "yes", "1"}, {"off", "false", "no", "0"}


def coerce(knob: Knob, value: object) -> Value:
    """A knob's value from what a person typed or a file held. Raises `ConfigError` when it cannot be read."""
    if isinstance(value, str) and knob.kind is not str:
        text = value.strip().lower()
        if knob.optional and text in ("", "none", "off", "-", knob.none):
            return None
        try:
            if knob.kind is bool:
                if text not in _TRUE | _FALSE:
                    raise ValueError
                return text in _TRUE
            return int(text.replace("_", "")) if knob.kind is int else float(text)
        except ValueError:
            raise ConfigError(knob.name, f"{knob.flag} needs {_article(knob)}, not {value!r}.") from None
    if knob.name == "gradient_checkpointing" and (isinstance(value, bool) or str(value).lower() in ("true", "false")):
        return "on" if value in (True, "true", "True") else "off"  # as TrainingArguments writes it
    if knob.optional and knob.kind is str and isinstance(value, str) and value.strip().lower() in ("", "none"):
        return None
    if knob.kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return typing.cast(Value, value)


def shown(knob: Knob, value: Value, unset: str = UNKNOWN) -> str:
    """A knob's value as people read it, in one harmless line; `unset` where it has none."""
    if value is None:
        return knob.none or unset
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 and knob.name != "seed" else str(value)
    return one_line(value)


def typed(value: Value) -> str:
    """A knob's value as it is typed after its flag, for `coerce` to read; not yet quoted for a shell."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
