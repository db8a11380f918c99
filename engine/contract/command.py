"""The user's own command as a template: which of its words are knobs, and the words for their values.

`{batch_size}` stands for a knob's value, `{precision:bf16=bfloat16,fp32=float32}` for it in the script's own words,
and `{block_size=256,512,1024}` for a knob that only the script knows, with its values. `{{word}}` is `{word}`, and all
other braces are themselves, as in JSON.

In `{precision:bf16=--amp,*=}` the star is any other value; a word that is nothing but placeholders, and so becomes
empty, is left out: that makes switches. `*` in the word for it is the value itself, as in `{save_steps:0=500,*=*}`.
Two knobs that a script has as one are joined: `{optimizer+optimizer_implementation:adamw+fused=adamw_fused,sgd+*=sgd}`.
Each place may have words of its own; one without takes those of the first that has some. `{run}` is the run's number,
which keeps apart the folders that runs write to. Standard library only.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from engine.contract.knob import TRAIN, ConfigError, Knob, Value, check, coerce, typed

_NAME = r"[A-Za-z_][\w-]*"
_INNER = rf"({_NAME}(?:\+{_NAME})*)(?::([^{{}}]*))?(?:=([^{{}}]*))?"
_PLACE = re.compile(rf"\{{\{{[A-Za-z_][^{{}}]*\}}\}}|\{{{_INNER}\}}")
RUN = "run"
"""Stands for the number of the run, also in the value of a knob that is a text."""
ANY = "*"
"""Any value; in the word for it that value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    """One `{…}` of a command."""

    names: tuple[str, ...]
    """The knob, or the knobs that are joined here."""
    words: tuple[tuple[tuple[str, ...], str], ...] = ()
    """Values, one a name, and the script's word for them; empty where the value is the word."""
    choices: tuple[str, ...] = ()
    """Of a knob that only the script knows; the first is what it begins with."""

    @property
    def name(self) -> str:
        """As it stands in the braces."""
        return "+".join(self.names)

    def filled(self, values: Mapping[str, Value]) -> str:
        """The word for these values. Raises `ConfigError` where the script has none."""
        texts = tuple(_text(name, values[name]) for name in self.names)
        if not self.words:
            if values[self.names[0]] is None:
                raise ConfigError(self.names[0], _no_value(self.names[0]))
            return texts[0]
        for keys, word in self.words:
            if all(key in (ANY, text) for key, text in zip(keys, texts, strict=True)):
                return word.replace(ANY, texts[0]) if keys == (ANY,) else word
        known, text = ", ".join("+".join(keys) for keys, _ in self.words), "+".join(texts)
        raise ConfigError(
            self.names[0],
            f"The command has no word for {self.name} {text}: use {known}, or add it to {{{self.name}:…}}, "
            f"as {text}=WORD.",
        )


def _no_value(name: str) -> str:
    return (
        f"--{name.replace('_', '-')} is not set, and the command has a place for it: give it a value, or a word for "
        f"none, as in {{{name}:none=WORD,*=*}}."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command with its placeholders read."""

    words: tuple[str, ...]
    """As they were typed."""
    parts: tuple[tuple[str | Placeholder, ...], ...]
    """What each word is made of: text, and placeholders."""
    knobs: tuple[str, ...]
    """The knobs of `RunConfig` that it carries, in the order in which they stand."""
    own: Mapping[str, tuple[str, ...]]
    """The knobs that only the script knows, with their values in the order of the command."""

    @property
    def places(self) -> tuple[Placeholder, ...]:
        """All placeholders, in the order in which they stand."""
        return tuple(part for word in self.parts for part in word if isinstance(part, Placeholder))

    @property
    def text(self) -> str:
        """The command, as equal ones are all written."""
        return as_text(self.words)

    def own_values(self, text: str | None) -> dict[str, Value]:
        """The values of its own knobs: those that `text` gives, as in `block_size=512`, and of the others the first.

        Raises `ConfigError` on a name that is not in the command, and on text that is not read.
        """
        values: dict[str, Value] = {name: choices[0] for name, choices in self.own.items()}
        for name, value in given_values(text).items():
            if name not in values:
                has = f"it has {', '.join(values)}" if values else "it has none"
                raise ConfigError(
                    "command_values", f"--command-values: the command has no knob {name} of its own ({has})."
                )
            values[name] = value
        return values

    def turned_values(self, text: str | None) -> str | None:
        """What of `own_values` is not the first of its choices, as text: equal values are all written alike."""
        values = self.own_values(text)
        return values_text({name: str(value) for name, value in values.items() if value != self.own[name][0]})

    def filled(self, values: Mapping[str, Value]) -> list[str]:
        """The words with these values in them; one that is not given takes the first of its own choices, and the run's
        number stays a placeholder.

        Raises `ConfigError` on a value that the script has no word for.
        """
        values = {RUN: f"{{{RUN}}}", **self.own_values(None), **values}
        words = []
        for parts in self.parts:
            word = "".join(part if isinstance(part, str) else part.filled(values) for part in parts)
            if word or not parts or any(isinstance(part, str) for part in parts):
                words.append(word)
        return words


def as_text(words: Iterable[str]) -> str:
    """A command as one text that `shlex.split` takes apart again; placeholders stand in it without quotes."""
    return " ".join(word if _PLAIN.fullmatch(word) else shlex.quote(word) for word in words)


_PLAIN = re.compile(r"[\w@%+=:,./{}*-]+")


def given_values(text: str | None) -> dict[str, str]:
    """What a text such as `block_size=512 dropout=0.1` gives, by name. Raises `ConfigError` where it is not read."""
    try:
        words = shlex.split(text or "")
    except ValueError as error:
        raise ConfigError("command_values", f"--command-values is not read: {error}.") from None
    values = {}
    for word in words:
        name, is_there, value = word.partition("=")
        if not is_there:
            raise ConfigError("command_values", f"--command-values {word!r} is not read: use NAME=VALUE.")
        values[_name(name)] = value
    return values


def values_text(values: Mapping[str, str]) -> str | None:
    """The inverse of `given_values`; None of none."""
    return shlex.join(f"{name}={value}" for name, value in values.items()) or None


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
    if not words or not words[0]:
        raise ConfigError("command", "There is no command after --: give one, as in traintop -- python train.py.")
    listed = _own_choices(words, knobs)
    parts = [tuple(_parts(word, knobs, listed)) for word in words]
    places = [part for word in parts for part in word if isinstance(part, Placeholder)]
    mapped: dict[tuple[str, ...], Placeholder] = {}
    for place in places:
        if place.words:
            mapped.setdefault(place.names, place)
    return Command(
        words=tuple(words),
        parts=tuple(tuple(_with_words(part, mapped) for part in word) for word in parts),
        knobs=tuple(
            dict.fromkeys(name for place in places if not place.choices for name in place.names if name in knobs)
        ),
        own={place.name: place.choices for place in places if place.choices},
    )


def _with_words(part: str | Placeholder, mapped: Mapping[tuple[str, ...], Placeholder]) -> str | Placeholder:
    if isinstance(part, str) or part.words or part.names not in mapped:
        return part
    return replace(part, words=mapped[part.names].words)


def _own_choices(words: list[str], knobs: Mapping[str, Knob]) -> dict[str, tuple[str, ...]]:
    """The values of the knobs that only the script knows: they stand at one of their places."""
    listed: dict[str, tuple[str, ...]] = {}
    for word in words:
        for found in _PLACE.finditer(word):
            name = _name(found.group(1) or "")
            if found.group(3) is None or found.group(2) is not None or "+" in name or _is_knob(name, knobs):
                continue
            each = [part.strip() for part in found.group(3).split(",")]
            is_switch = found.group(0) == word and any(each)  # the word may be left out
            choices = tuple(dict.fromkeys(part for part in each if part or is_switch))
            if choices and listed.setdefault(name, choices) != choices:
                raise ConfigError("command", f"{{{name}…}} stands twice with different values: say them once.")
    return listed


def _parts(word: str, knobs: Mapping[str, Knob], listed: Mapping[str, tuple[str, ...]]) -> Iterator[str | Placeholder]:
    at = 0
    for found in _PLACE.finditer(word):
        if at < found.start():
            yield word[at : found.start()]
        at = found.end()
        yield found.group(0)[1:-1] if found.group(1) is None else _read(found, knobs, listed)
    if at < len(word):
        yield word[at:]


def _name(text: str) -> str:
    return text.replace("-", "_")


def _is_knob(name: str, knobs: Mapping[str, Knob]) -> bool:
    return name in knobs and TRAIN in knobs[name].jobs and name != "job"


def _read(found: re.Match[str], knobs: Mapping[str, Knob], listed: Mapping[str, tuple[str, ...]]) -> Placeholder:
    names, mapped, own = tuple(_name(found.group(1)).split("+")), found.group(2), found.group(3)
    if names[0] in listed and len(names) == 1 and mapped is None:
        return Placeholder(names=names, choices=listed[names[0]])
    if names == (RUN,) and mapped is None:
        return Placeholder(names=names)
    for name in names:
        if not _is_knob(name, knobs):
            raise _no_knob(found.group(0), name, knobs)
    text = "+".join(names)
    if own is not None:
        raise ConfigError(
            "command",
            f"{{{text}=…}}: {text} is a knob and has its values: use {{{text}}}, or {{{text}:VALUE=WORD}}.",
        )
    if mapped is not None:
        return Placeholder(names=names, words=tuple(_mapped([knobs[name] for name in names], mapped)))
    if len(names) > 1:
        raise ConfigError("command", f"{{{text}}} needs the script's words: use {{{text}:VALUE+VALUE=WORD}}.")
    if text == "device":
        raise ConfigError(
            "command",
            "{device} needs the script's words, as in {device:cpu=cpu,*=cuda}: of the cards your script sees "
            "that of --device alone, as cuda:0.",
        )
    return Placeholder(names=names)


def _no_knob(written: str, name: str, knobs: Mapping[str, Knob]) -> ConfigError:
    near = difflib.get_close_matches(name, [each for each in knobs if _is_knob(each, knobs)], n=1)
    hint = f"did you mean {{{near[0]}}}? " if near else ""
    return ConfigError(
        "command",
        f"{written} is no knob: {hint}A knob of your own needs its values, {{{name}=1,2,4}}; "
        f"braces that are meant as such are {{{{{name}}}}}.",
    )


def _mapped(knobs: list[Knob], text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    name = "+".join(knob.name for knob in knobs)
    for part in text.split(","):
        value, is_there, word = part.partition("=")
        keys = [key.strip() for key in value.split("+")] if len(knobs) > 1 else [value.strip()]
        if not is_there or len(keys) != len(knobs) or not all(keys):
            shape = "+".join("VALUE" for _ in knobs)
            raise ConfigError("command", f"{{{name}:{text}}} is not read: use {{{name}:{shape}=WORD,{shape}=WORD}}.")
        yield tuple(_key(knob, key) for knob, key in zip(knobs, keys, strict=True)), word.strip()


def _key(knob: Knob, text: str) -> str:
    """A value as `typed` writes it."""
    if text == ANY:
        return text
    try:
        value = coerce(knob, text)
        check(knob, value)
    except ConfigError as error:
        raise ConfigError("command", f"{{{knob.name}:{text}=…}}: {error.message}") from None
    return _text(knob.name, value)


def _text(name: str, value: Value) -> str:
    """A value as it is typed; updates are counted in whole numbers, though a share of all may be given for them."""
    if name == "warmup_steps" and isinstance(value, float) and value.is_integer():
        return str(int(value))
    return typed(value)
