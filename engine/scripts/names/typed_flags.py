"""What a command line says by its flags, as argparse and `HfArgumentParser` read them. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Said = str | bool | tuple[str, ...]
"""A flag's value; True of one without, and several words where several follow it."""

_OFF = frozenset(("false", "no", "f", "n", "0", "off"))
_ON = frozenset(("true", "yes", "t", "y", "1", "on"))


def typed_flags(words: Sequence[str]) -> dict[str, Said]:
    """By name with underscores, as it was typed last: `--lr 1`, `--lr=1`, `--bf16`, `--targets a b`, `--no_bf16`."""
    said: dict[str, list[str]] = {}
    name = None
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, has_value, value = word[2:].partition("=")
            name = name.replace("-", "_")
            said[name] = [value] if has_value else []
        elif name is not None:
            said[name].append(word)
    flags: dict[str, Said] = {}
    for name, values in said.items():
        if not values and name.startswith("no_"):
            flags[name[3:]] = False
        flags[name] = True if not values else values[0] if len(values) == 1 else tuple(values)
    return flags


def is_on(value: object) -> bool:
    """Whether a switch is on: `--bf16`, `--bf16 True`; False of what is no yes."""
    return value is True or (isinstance(value, str) and value.lower() in _ON)


def number(value: object) -> int | None:
    """A whole number; None of anything else, and of one that is not positive, which stands for "not set"."""
    try:
        read = int(str(value).replace("_", ""))
    except ValueError:
        return None
    return read if read > 0 and not isinstance(value, bool) else None


def words_of(value: object) -> str | None:
    """A text; None where there is none, or a word for none."""
    if isinstance(value, tuple):
        return ",".join(value)
    if not isinstance(value, str) or value.lower() in ("", "none", "null") or value.lower() in _OFF:
        return None
    return value


def first_of(names: Sequence[str], *said: Mapping[str, object]) -> tuple[str, object] | None:
    """The first of these names that says something, in the first of the mappings that does."""
    for values in said:
        for name in names:
            if values.get(name) not in (None, False, ""):
                return name, values[name]
    return None
