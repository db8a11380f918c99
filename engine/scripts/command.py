"""The user's own command as a template: which of its words are knobs, and the words for their values.

`{batch_size}` stands for a knob's value, `{precision:bf16=bfloat16,fp32=float32}` for it in the script's own words, and
`{block_size=256,512,1024}` for a knob that only the script knows, with its values. `{{word}}` is `{word}`, and all other
braces are themselves, as in JSON. A script that reads `transformers.TrainingArguments` needs no placeholders: its flags are known. Standard library only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.contract.config import KNOBS, ConfigError, Value
from engine.contract.knob import TRAIN, typed

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


def read_command(words: Sequence[str]) -> Command:
    """Read a command's placeholders. Raises `ConfigError` on one that is no knob, or that says two things."""
    if not words:
        raise ConfigError("command", "There is no command after --: give one, as in traintop -- python train.py.")
    places: dict[str, Placeholder] = {}
    for word in words:
        for found in _PLACE.finditer(word):
            if found.group(1) is None:
                continue
            place = _read(found)
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


def _read(found: re.Match[str]) -> Placeholder:
    name, mapped, listed = _name(found.group(1)), found.group(2), found.group(3)
    own = [each.strip() for each in (listed or "").split(",") if each.strip()]
    if name in KNOBS and TRAIN in KNOBS[name].jobs and name != "job":
        if own:
            raise ConfigError(
                "command",
                f"{{{name}=…}}: {name} is a knob and has its values: use {{{name}}}, or {{{name}:VALUE=WORD}}.",
            )
        return Placeholder(name=name, words=_mapped(name, mapped) if mapped is not None else {})
    if own:
        return Placeholder(name=name, choices=tuple(dict.fromkeys(own)))
    near = difflib.get_close_matches(name, KNOBS, n=1)
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
