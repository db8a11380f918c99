"""The user's own command as a template: which of its words are knobs, and the words for their values.

`{batch_size}` stands for a knob's value, `{precision:bf16=bfloat16,fp32=float32}` for it in the script's own words,
and `{block_size=256,512,1024}` for a knob that only the script knows, with its values. `{{word}}` is `{word}`, and all
other braces are themselves, as in JSON. Standard library only.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engine.contract.knob import TRAIN, ConfigError, Knob, Value, typed

_INNER = r"([A-Za-z_][\w-]*)(?::([^{}]*))?(?:=([^{}]*))?"
_PLACE = re.compile(rf"\{{\{{[A-Za-z_][^{{}}]*\}}\}}|\{{{_INNER}\}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    """One `{…}` of a command."""

    name: str
    words: Mapping[str, str] = field(default_factory=dict)
    """The script's word for a value, where it is not the value itself."""
    choices: tuple[str, ...] = ()
    """Of a knob that only the script knows; the first is what it begins with."""

    @property
    def is_own(self) -> bool:
        """Whether only the script knows it."""
        return bool(self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command with its placeholders read."""

    words: tuple[str, ...]
    """As they were typed."""
    places: Mapping[str, Placeholder]
    """By name, in the order in which they stand."""

    @property
    def knobs(self) -> tuple[str, ...]:
        """The knobs of `RunConfig` that it carries."""
        return tuple(name for name, place in self.places.items() if not place.is_own)

    @property
    def own(self) -> dict[str, tuple[str, ...]]:
        """The knobs that only the script knows, with their values in the order of the command."""
        return {name: place.choices for name, place in self.places.items() if place.is_own}

    def own_values(self, text: str | None) -> dict[str, Value]:
        """The values of its own knobs: those that `text` gives, as in `block_size=512`, and of the others the first.

        Raises `ConfigError` on a name that is not in the command, and on text that is not read.
        """
        values: dict[str, Value] = {name: choices[0] for name, choices in self.own.items()}
        try:
            words = shlex.split(text or "")
        except ValueError as error:
            raise ConfigError("command_values", f"--command-values is not read: {error}.") from None
        for word in words:
            name, is_there, value = word.partition("=")
            if not is_there:
                raise ConfigError("command_values", f"--command-values {word!r} is not read: use NAME=VALUE.")
            if _name(name) not in values:
                has = f"it has {', '.join(values)}" if values else "it has none"
                raise ConfigError(
                    "command_values", f"--command-values: the command has no knob {name} of its own ({has})."
                )
            values[_name(name)] = value
        return values

    def filled(self, values: Mapping[str, Value]) -> list[str]:
        """The words with these values in them; one that is not given takes the first of its own choices.

        Raises `ConfigError` on a value that the script has no word for.
        """
        return ["".join(self._parts(word, values)) for word in self.words]

    def _parts(self, word: str, values: Mapping[str, Value]) -> Iterator[str]:
        at = 0
        for found in _PLACE.finditer(word):
            yield word[at : found.start()]
            at = found.end()
            yield found.group(0)[1:-1] if found.group(1) is None else self._value(_name(found.group(1)), values)
        yield word[at:]

    def _value(self, name: str, values: Mapping[str, Value]) -> str:
        place = self.places[name]
        value = values.get(name, place.choices[0] if place.is_own else None)
        text = typed(value)
        if place.words and text not in place.words:
            known = ", ".join(place.words)
            raise ConfigError(
                name,
                f"The command has no word for {name} {text}: use {known}, or add it to {{{name}:…}}, as {text}=WORD.",
            )
        return place.words.get(text, text)


_READ: dict[str, Command] = {}
_MOST_READ = 256


def read_command(text: str, knobs: Mapping[str, Knob]) -> Command:
    """Read a command, as in a shell, and its placeholders; `knobs` are those of `RunConfig`.

    Raises `ConfigError` on a placeholder that is no knob, or that says two things, and on a quote that is open.
    """
    known = _READ.get(text)
    if known is None:
        while len(_READ) >= _MOST_READ:
            _READ.pop(next(iter(_READ)), None)
        known = _READ[text] = _read_anew(text, knobs)
    return known


def _read_anew(text: str, knobs: Mapping[str, Knob]) -> Command:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError("command", f"The command is not read: {error}; close it, or write \\' for one.") from None
    if not words:
        raise ConfigError("command", "There is no command after --: give one, as in traintop -- python train.py.")
    places: dict[str, Placeholder] = {}
    for word in words:
        for found in _PLACE.finditer(word):
            if found.group(1) is None:
                continue
            place = _read(found, knobs)
            before = places.setdefault(place.name, place)
            if before != place and (place.words or place.choices):
                if before.words or before.choices:
                    raise ConfigError(
                        "command", f"{{{place.name}…}} stands twice with different values: say them once."
                    )
                places[place.name] = place
    return Command(words=tuple(words), places=places)


def _name(text: str) -> str:
    return text.replace("-", "_")


def _read(found: re.Match[str], knobs: Mapping[str, Knob]) -> Placeholder:
    name, mapped, listed = _name(found.group(1)), found.group(2), found.group(3)
    own = [each.strip() for each in (listed or "").split(",") if each.strip()]
    if name in knobs and TRAIN in knobs[name].jobs and name != "job":
        if own:
            raise ConfigError(
                "command",
                f"{{{name}=…}}: {name} is a knob and has its values: use {{{name}}}, or {{{name}:VALUE=WORD}}.",
            )
        return Placeholder(name=name, words=_mapped(name, mapped) if mapped is not None else {})
    if own:
        return Placeholder(name=name, choices=tuple(dict.fromkeys(own)))
    near = difflib.get_close_matches(name, knobs, n=1)
    hint = f"did you mean {{{near[0]}}}? " if near else ""
    raise ConfigError(
        "command",
        f"{found.group(0)} is no knob: {hint}A knob of your own needs its values, {{{name}=1,2,4}}; "
        f"braces that are meant as such are {{{{{name}}}}}.",
    )


def _mapped(name: str, text: str) -> dict[str, str]:
    words = {}
    for part in text.split(","):
        value, is_there, word = part.partition("=")
        if not is_there or not value.strip():
            raise ConfigError("command", f"{{{name}:{text}}} is not read: use {{{name}:VALUE=WORD,VALUE=WORD}}.")
        words[value.strip()] = word.strip()
    return words
