"""Which column of a table is the text and which the class; a column of classes -> numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import numpy.typing as npt

from engine.contract.config import ConfigError
from engine.workloads.files import printable, quoted

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

MAX_CLASSES = 1_000
_LOOKED_AT = 10_000  # rows that tell a column's content
_MAX_CLASSES_BY_CONTENT = 50
_CLEARLY_LONGER = 2.0  # times the mean length of the next string column

_STRINGS = ("string", "large_string", "string_view")
_LABELS = re.compile(r"u?int\d+|float\d+|bool|null")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Classes:
    """A label column as numbers: `ids` has shape (rows,), `names[i]` is what the file calls class i."""

    names: tuple[str, ...]
    ids: npt.NDArray[np.int64]


def find_columns(table: datasets.Dataset, file: str, text: str | None, label: str | None) -> tuple[str, str]:
    """The names of the text and the label column: as given, else by usual name, else by content.

    `file` is what sentences call the table, in quotes where it is a file.
    Raises `ConfigError` when a column is missing, of the wrong kind, or not the only candidate.
    """
    if text is not None and text == label:
        raise ConfigError(
            "label_column", f"--text-column and --label-column are both {quoted(text)}: name two columns."
        )
    strings = [name for name in table.column_names if _holds_text(table.features[name])]
    readable = [name for name in table.column_names if name in strings or _holds_labels(table.features[name])]
    sample = table.select_columns(readable).select(range(min(len(table), _LOOKED_AT)))[:]
    text = _given(table, file, text, "text") or _find_text(table, file, sample, [n for n in strings if n != label])
    _check_text(table, file, text)
    labels = [n for n in table.column_names if n != text and _holds_labels(table.features[n])]
    label = _given(table, file, label, "label") or _find_label(table, file, sample, labels)
    if label != text and label not in labels:
        kind = _kind(table.features[label])
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
    strings = [name for name in table.column_names if _holds_text(table.features[name])]
    sample = table.select_columns(strings).select(range(min(len(table), _LOOKED_AT)))[:]
    text = _given(table, file, text, "text") or _find_text(table, file, sample, [n for n in strings if n != label])
    _check_text(table, file, text)
    return text


def _check_text(table: datasets.Dataset, file: str, text: str) -> None:
    if not _holds_text(table.features[text]):
        kind = _kind(table.features[text])
        raise ConfigError("text_column", f"Column {quoted(text)} of {file} holds {kind}, not text: name another.")


def _holds_text(feature: object) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in _STRINGS


def _holds_labels(feature: object) -> bool:
    if isinstance(feature, datasets.Value):
        return feature.dtype in _STRINGS or bool(_LABELS.fullmatch(feature.dtype))
    # a JSON column of mixed numbers and words arrives as the feature Json
    return isinstance(feature, datasets.ClassLabel) or type(feature).__name__ == "Json"


def _kind(feature: object) -> str:
    return str(feature.dtype) if isinstance(feature, datasets.Value) else type(feature).__name__.lower() + "s"


def _given(table: datasets.Dataset, file: str, name: str | None, role: str) -> str | None:
    if name is None or name in table.column_names:
        return name
    raise ConfigError(f"{role}_column", f"{file} has no column {quoted(name)}: it has {_listed(table.column_names)}.")


def _listed(names: Sequence[str], features: Mapping[str, object] | None = None, limit: int = 10) -> str:
    rest = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    kinds = {name: f" ({_kind(features[name])})" if features else "" for name in names[:limit]}
    return ", ".join(quoted(name) + kind for name, kind in kinds.items()) + rest


def _usual(candidates: Sequence[str], usual: Sequence[str]) -> list[str]:
    """The candidates with a usual name; one of `_WINNERS` alone if it is there."""
    named = [name for name in candidates if name.strip().lower() in usual]
    return next(([n] for winner in _WINNERS for n in named if n.strip().lower() == winner), named)


def _one(found: list[str], file: str, role: str) -> str:
    if len(found) == 1:
        return found[0]
    what = f"Several columns of {file} could be the {role} ({_listed(found)})"
    raise ConfigError(f"{role}_column", f"{what}: name one with --{role}-column.")


def _find_text(table: datasets.Dataset, file: str, sample: dict[str, list[str]], strings: list[str]) -> str:
    if named := _usual(strings, TEXT_NAMES):
        return _one(named, file, "text")
    lengths = {
        n: sum(len(v) for v in sample[n] if v) / len(sample[n]) for n in strings if _usual([n], LABEL_NAMES) == []
    }
    if not any(lengths.values()):
        raise ConfigError(
            "text_column",
            f"{file} has no column of text among {_listed(table.column_names, table.features)}: "
            "name one with --text-column, or give another file.",
        )
    longest = max(lengths.values())
    return _one([name for name, length in lengths.items() if length * _CLEARLY_LONGER > longest], file, "text")


def _find_label(table: datasets.Dataset, file: str, sample: dict[str, list[object]], labels: list[str]) -> str:
    if named := _usual(labels, LABEL_NAMES):
        return _one(named, file, "label")
    few = []
    for name in labels:
        distinct = {str(value) for value in sample[name] if not is_missing(value)}
        if 2 <= len(distinct) <= min(_MAX_CLASSES_BY_CONTENT, len(sample[name]) / 2):
            few.append(name)
    if not few:
        raise ConfigError(
            "label_column",
            f"{file} has no column of classes among {_listed(table.column_names, table.features)}: "
            "name one with --label-column, or give another file.",
        )
    label = _one(few, file, "label")
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


def encode_labels(values: Sequence[object], file: str, column: str, feature: object = None) -> Classes:
    """Labels without missing ones -> classes 0 … n-1, numbers in numeric order and words in alphabetic order.

    Numbers may be written as text and whole numbers as floats; `feature` is the column's, for the class names that
    Parquet files from `datasets` carry.
    Raises `ConfigError` where the labels are not classes to train on.
    """
    where = f"The label column {quoted(column)} of {file}"
    raw = [str(value).strip() for value in values]
    distinct, rows = dict.fromkeys(raw), len(raw)  # in the order of the file, so that refusals repeat
    key = _order(distinct, where)
    canonical = {text: key(text) for text in distinct}
    ordered = sorted(set(canonical.values()))
    if len(ordered) > MAX_CLASSES or (len(ordered) > rows / 2 and len(ordered) > 2):
        raise _refusal(
            where, f"has {len(ordered):,} different values in {rows:,} rows, so it is no class", "name another column"
        )
    sizes = Counter(canonical[text] for text in raw)
    names = tuple(_name(value, feature) for value in ordered)
    if len(ordered) < 2:
        only = f" {quoted(names[0])}" if names else ""
        raise _refusal(where, f"has only one class,{only}", "give a file with at least two")
    for value, name in zip(ordered, names, strict=True):
        if sizes[value] < 2:
            raise _refusal(
                where,
                f"has only one row of class {quoted(name)}, and training and held-out part each need one",
                "add rows of that class or leave it out",
            )
    index = {text: ordered.index(value) for text, value in canonical.items()}
    return Classes(names, np.array([index[text] for text in raw], dtype=np.int64))


def _refusal(where: str, what: str, fix: str) -> ConfigError:
    return ConfigError("label_column", f"{where} {what}: {fix}.")


def _order(labels: Iterable[str], where: str) -> Callable[[str], int | str]:
    """What makes labels equal and sorts them: their number, true or false, or themselves."""
    if not all(_NUMBER.fullmatch(label) for label in labels):
        return str.lower if {label.lower() for label in labels} == {"true", "false"} else str
    for label in labels:
        if not float(label).is_integer():
            raise _refusal(
                where,
                f"holds numbers with a fraction, such as {quoted(label)}, not classes",
                "round them or name another",
            )
    # whole floats may be larger than a float can tell apart: keep the digits of integers
    return lambda label: int(label) if label.lstrip("+-").isdecimal() else int(float(label))


def _name(value: int | str, feature: object) -> str:
    if isinstance(feature, datasets.ClassLabel) and isinstance(value, int) and 0 <= value < feature.num_classes:
        return printable(str(feature.int2str(value))[:60])
    return printable(str(value)[:60])
