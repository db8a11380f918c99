"""Which column of a table is the text and which the class."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import datasets

from engine.contract.config import ConfigError
from engine.contract.numbers import n_of
from engine.workloads.files.plain_files import quoted
from engine.workloads.standalone.chats import is_written_list

TEXT_NAMES = (
    "text", "sentence", "review", "review_text", "review_body", "reviewtext", "content", "body", "comment", "tweet",
    "message", "document", "phrase", "headline",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "stars", "star_rating", "rating", "sentiment", "polarity", "class", "category", "target",
    "score", "y",
)  # fmt: skip
"""Usual names, as in the hub's classification data sets; the first (and `labels`) win over the others."""
_WINNERS = ("text", "label", "labels")

_LOOKED_AT = 10_000  # rows that tell a column's content
_MAX_CLASSES_BY_CONTENT = 50
_CLEARLY_LONGER = 2.0  # times the mean length of the next string column

_STRINGS = ("string", "large_string", "string_view")
_LABELS = re.compile(r"u?int\d+|float\d+|bool|null")


def find_columns(table: datasets.Dataset, file: str, text: str | None, label: str | None) -> tuple[str, str]:
    """The names of the text and the label column: as given, else by usual name, else by content.

    `file` is what sentences call the table, in quotes where it is a file.
    Raises `ConfigError` when a column is missing, of the wrong kind, or not the only candidate.
    """
    if text is not None and text == label:
        raise ConfigError(
            "label_column", f"--text-column and --label-column are both {quoted(text)}: name two columns."
        )
    strings = [name for name in table.column_names if holds_text(table.features[name])]
    readable = [name for name in table.column_names if name in strings or _holds_labels(table.features[name])]
    sample = table.select_columns(readable).select(range(min(len(table), _LOOKED_AT)))[:]
    text = given(table, file, text, "text") or _find_text(table, file, sample, [n for n in strings if n != label])
    check_text(table, file, text)
    labels = [n for n in table.column_names if n != text and _holds_labels(table.features[n])]
    label = given(table, file, label, "label") or _find_label(table, file, sample, labels)
    if label != text and label not in labels:
        kind = content_of(table, label)
        raise ConfigError(
            "label_column", f"Column {quoted(label)} of {file} holds {kind}: name one with numbers or words."
        )
    if label == text:
        raise ConfigError("label_column", f"Column {quoted(text)} of {file} is already the text: name another.")
    return text, label


def find_text_column(table: datasets.Dataset, file: str, text: str | None, label: str | None = None) -> str:
    """The name of the text column alone: as given, else by usual name, else the one with the longest texts.

    `label` names a column that is none. Raises `ConfigError` as `find_columns` does.
    """
    strings = [name for name in table.column_names if holds_text(table.features[name])]
    sample = table.select_columns(strings).select(range(min(len(table), _LOOKED_AT)))[:]
    text = given(table, file, text, "text") or _find_text(table, file, sample, [n for n in strings if n != label])
    check_text(table, file, text)
    return text


def check_text(table: datasets.Dataset, file: str, text: str, knob: str = "text_column") -> None:
    """Raises `ConfigError`, at fault the value of `knob`, unless a column holds text."""
    if not holds_text(table.features[text]):
        kind = content_of(table, text)
        raise ConfigError(knob, f"Column {quoted(text)} of {file} holds {kind}, not text: name another.")


def holds_text(feature: object) -> bool:
    """Whether a column of this feature holds text."""
    return isinstance(feature, datasets.Value) and feature.dtype in _STRINGS


def holds_messages(table: datasets.Dataset, name: str) -> bool:
    """Whether a column holds lists, as messages are, or lists written as JSON."""
    feature = table.features[name]
    if holds_text(feature) or type(feature).__name__ == _MIXED:
        first = next((value for value in table.select_columns([name])[:_FEW][name] if value), None)
        return isinstance(first, list) or (isinstance(first, str) and is_written_list(first))
    return type(feature).__name__ in _LISTS


def _holds_labels(feature: object) -> bool:
    if isinstance(feature, datasets.Value):
        return feature.dtype in _STRINGS or bool(_LABELS.fullmatch(feature.dtype))
    return isinstance(feature, datasets.ClassLabel) or type(feature).__name__ == _MIXED


_FEW = 100  # rows that tell whether texts are lists written as JSON
_LISTS = ("List", "LargeList", "Sequence", "list")
_MIXED = "Json"  # the feature of a JSON column of mixed numbers and words, say
_KINDS = {_MIXED: "mixed types", "dict": "objects", "LargeList": "lists", "Sequence": "lists", "ClassLabel": "classes"}
_JSON_KINDS = {"str": "texts", "int": "numbers", "float": "numbers", "bool": "truths", "dict": "objects"}


def _kind(feature: object) -> str:
    if isinstance(feature, datasets.Value):
        return str(feature.dtype)
    name = type(feature).__name__
    return _KINDS.get(name, name.lower() + "s")


def content_of(table: datasets.Dataset, column: str) -> str:
    """What a column holds, in words; of mixed types which."""
    feature = table.features[column]
    if type(feature).__name__ != _MIXED:
        return _kind(feature)
    values = table.select_columns([column]).select(range(min(len(table), _LOOKED_AT)))[:][column]
    kinds = dict.fromkeys(_JSON_KINDS.get(type(v).__name__, "lists") for v in values if v is not None)
    return f"mixed types ({', '.join(kinds)})" if kinds else _kind(feature)


def given(table: datasets.Dataset, file: str, name: str | None, role: str) -> str | None:
    """The column that was named for a role, if one was. Raises `ConfigError` where there is none of that name."""
    if name is None or name in table.column_names:
        return name
    raise ConfigError(f"{role}_column", f"{file} has no column {quoted(name)}: it has {listed(table.column_names)}.")


def listed(names: Sequence[str], features: Mapping[str, object] | None = None, limit: int = 10) -> str:
    """Names in a sentence, with what each holds where `features` tell it."""
    rest = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    kinds = {name: f" ({_kind(features[name])})" if features else "" for name in names[:limit]}
    return ", ".join(quoted(name) + kind for name, kind in kinds.items()) + rest


def usual(candidates: Sequence[str], usual: Sequence[str]) -> list[str]:
    """The candidates with a usual name; one of `_WINNERS` alone if it is there."""
    named = [name for name in candidates if name.strip().lower() in usual]
    return next(([n] for winner in _WINNERS for n in named if n.strip().lower() == winner), named)


def one(found: list[str], file: str, role: str) -> str:
    """The only candidate for a role. Raises `ConfigError` where there are several."""
    if len(found) == 1:
        return found[0]
    what = f"Several columns of {file} could be the {role} ({listed(found)})"
    raise ConfigError(f"{role}_column", f"{what}: name one with --{role}-column.")


def _find_text(table: datasets.Dataset, file: str, sample: dict[str, list[str]], strings: list[str]) -> str:
    if named := usual(strings, TEXT_NAMES):
        return one(named, file, "text")
    lengths = {
        n: sum(len(v) for v in sample[n] if v) / len(sample[n]) for n in strings if usual([n], LABEL_NAMES) == []
    }
    if not any(lengths.values()):
        raise ConfigError(
            "text_column",
            f"{file} has no column of text among {listed(table.column_names, table.features)}: "
            "name one with --text-column, or give another file.",
        )
    longest = max(lengths.values())
    return one([name for name, length in lengths.items() if length * _CLEARLY_LONGER > longest], file, "text")


def _find_label(table: datasets.Dataset, file: str, sample: dict[str, list[object]], labels: list[str]) -> str:
    if named := usual(labels, LABEL_NAMES):
        return one(named, file, "label")
    few = []
    for name in labels:
        distinct = {str(value) for value in sample[name] if not is_missing(value)}
        if 2 <= len(distinct) <= min(_MAX_CLASSES_BY_CONTENT, len(sample[name]) / 2):
            few.append(name)
    if not few:
        raise ConfigError(
            "label_column",
            f"{file} has no column of classes among {listed(table.column_names, table.features)}: "
            "name one with --label-column, or give another file.",
        )
    label = one(few, file, "label")
    if label in sample[label]:
        raise ConfigError(
            "data",
            f"{file} has no header: its first line, with {quoted(label)}, is a row; "
            "add a first line such as text,label with the columns in your order.",
        )
    return label


def is_missing(value: object) -> bool:
    """True for null, NaN and blank text."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def nul_notes(texts: Iterable[str]) -> list[str]:
    """On texts with NUL characters, which JSON and Parquet can hold; nothing where there are none."""
    n = sum("\0" in text for text in texts)
    told = f"{n_of(n, 'text has', 'texts have')} NUL characters, which are tokens like others"
    return [f"{told}: take them out if they are not meant."] if n else []
