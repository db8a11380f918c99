"""Which column of a table is the text and which the class; a column of classes -> numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import datasets
import numpy as np
import numpy.typing as npt

from engine.contract.config import ConfigError
from engine.workloads.files.plain_files import printable, quoted

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
_LISTED = 5  # names in a sentence
_CLEARLY_LONGER = 2.0  # times the mean length of the next string column

_STRINGS = ("string", "large_string", "string_view")
_LABELS = re.compile(r"u?int\d+|float\d+|bool|null")
MISSING_WORDS = frozenset(("nan", "null", "none", "n/a", "na", "#n/a", "#na", "<na>", "nat", "n.a."))
"""What spreadsheets and databases write into a label's cell where there is none, in small letters."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Classes:
    """A label column as numbers: `ids` has shape (rows,), `names[i]` is what the file calls class i."""

    names: tuple[str, ...]
    ids: npt.NDArray[np.int64]
    """-1 where a row has no class to train on."""
    notes: tuple[str, ...] = ()
    """Sentences on labels that were merged, taken for missing, or left out."""
    spellings: dict[str, int] = field(default_factory=dict)
    """Every label of the file without the blanks around it, to its class; those left out are not in it."""


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
        kind = _content(table, label)
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
        kind = _content(table, text)
        raise ConfigError("text_column", f"Column {quoted(text)} of {file} holds {kind}, not text: name another.")


def _holds_text(feature: object) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in _STRINGS


def _holds_labels(feature: object) -> bool:
    if isinstance(feature, datasets.Value):
        return feature.dtype in _STRINGS or bool(_LABELS.fullmatch(feature.dtype))
    return isinstance(feature, datasets.ClassLabel) or type(feature).__name__ == _MIXED


_MIXED = "Json"  # the feature of a JSON column of mixed numbers and words, say
_KINDS = {_MIXED: "mixed types", "dict": "objects", "LargeList": "lists", "Sequence": "lists", "ClassLabel": "classes"}
_JSON_KINDS = {"str": "texts", "int": "numbers", "float": "numbers", "bool": "truths", "dict": "objects"}


def _kind(feature: object) -> str:
    if isinstance(feature, datasets.Value):
        return str(feature.dtype)
    name = type(feature).__name__
    return _KINDS.get(name, name.lower() + "s")


def _content(table: datasets.Dataset, column: str) -> str:
    """What a column holds, in words; of mixed types which."""
    feature = table.features[column]
    if type(feature).__name__ != _MIXED:
        return _kind(feature)
    values = table.select_columns([column]).select(range(min(len(table), _LOOKED_AT)))[:][column]
    kinds = dict.fromkeys(_JSON_KINDS.get(type(v).__name__, "lists") for v in values if v is not None)
    return f"mixed types ({', '.join(kinds)})" if kinds else _kind(feature)


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


def encode_labels(
    values: Sequence[object], file: str, column: str, feature: object = None, *, least: int = 1
) -> Classes:
    """Labels without missing ones -> classes 0 … n-1, numbers in numeric order and words in alphabetic order.

    Numbers may be written as text and whole numbers as floats; words that differ in capitals or blanks alone are one
    class. Words of absence (`MISSING_WORDS`) are none, unless there would be less than two classes, and classes of
    fewer than `least` rows are left out. `feature` is the column's, for the class names that Parquet files from
    `datasets` carry.
    Raises `ConfigError` where the labels are not classes to train on.
    """
    where = f"The label column {quoted(column)} of {file}"
    raw = [str(value) for value in values]
    counts = Counter(raw)  # in the order of the file, so that refusals repeat
    counts, missing = _without_missing(counts)
    key = _order(counts, where)
    merged: dict[int | str, dict[str, int]] = {}
    for text, n in counts.items():
        merged.setdefault(key(text), {})[text] = n
    n_rows = sum(counts.values())
    if len(merged) > MAX_CLASSES or (len(merged) > n_rows / 2 and len(merged) > 2):
        raise _refusal(
            where, f"has {len(merged):,} different values in {n_rows:,} rows, so it is no class", "name another column"
        )
    called = {value: _name(value, spelt, feature) for value, spelt in merged.items()}
    rare = [value for value, spelt in merged.items() if sum(spelt.values()) < least]
    ordered = sorted(
        (value for value in merged if value not in rare),
        key=lambda value: value if isinstance(value, int) or value in _TRUTHS else _spelling(merged[value]),
    )
    notes = [*_missing_note(missing), *_merged_note(merged), *_rare_note([called[v] for v in rare], least)]
    if not ordered:
        least_rows = "two rows" if least == 2 else f"{least} rows"
        listed = _listed([called[value] for value in rare], limit=_LISTED)
        what = f"has no class with {least_rows}, which a held-out part needs, among {listed}"
        raise _refusal(where, what, "give more rows of each class, or name another column")
    if len(ordered) < 2:
        only = f" {quoted(called[ordered[0]])}"
        told = f" ({notes[-1].rstrip('.')})" if rare or missing else ""
        raise _refusal(where, f"has only one class,{only}{told}", "give a file with at least two")
    ids = {text: i for i, value in enumerate(ordered) for text in merged[value]}
    return Classes(
        names=tuple(called[value] for value in ordered),
        ids=np.array([ids.get(text, -1) for text in raw], dtype=np.int64),
        notes=tuple(notes),
        spellings={text.strip(): i for text, i in ids.items()},
    )


def _without_missing(counts: Counter[str]) -> tuple[Counter[str], Counter[str]]:
    """The labels that are some, and those that say that there is none."""
    missing = Counter({text: n for text, n in counts.items() if text.strip().lower() in MISSING_WORDS})
    rest = Counter({text: n for text, n in counts.items() if text not in missing})
    # none and some, say, may be the classes
    return (rest, missing) if len({text.strip().lower() for text in rest}) > 1 else (counts, Counter())


def _missing_note(missing: Counter[str]) -> list[str]:
    if not missing:
        return []
    words = ", ".join(quoted(text, 20) for text in list(missing)[:_LISTED])
    n = sum(missing.values())
    return [f"{_rows(n)} with the label {words} {'has' if n == 1 else 'have'} none, and {_were(n)} left out."]


def _merged_note(merged: dict[int | str, dict[str, int]]) -> list[str]:
    """On words that are spelt in several ways; that 1 and 1.0 are one number goes without saying."""
    several = [spelt for value, spelt in merged.items() if isinstance(value, str) and len(spelt) > 1]
    if not several or all({text.strip().lower() for text in spelt} <= _TRUTHS for spelt in several):
        return []
    told = "; ".join(", ".join(f"{quoted(text, 20)} {n:,}" for text, n in spelt.items()) for spelt in several[:_LISTED])
    more = f" and {len(several) - _LISTED:,} more" if len(several) > _LISTED else ""
    return [f"Labels that differ in capitals or blanks alone are one class: {told}{more}."]


def _rare_note(names: Sequence[str], least: int) -> list[str]:
    if not names:
        return []
    listed = ", ".join(quoted(name, 20) for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    what = f"The class {listed} has" if len(names) == 1 else f"{len(names):,} classes, {listed}{more}, have"
    few = "one row" if least == 2 else f"fewer than {least} rows"
    return [
        f"{what} only {few}{'' if len(names) == 1 else ' each'} and {_were(len(names))} left out: "
        "training and held-out part each need one."
    ]


def _rows(n: int) -> str:
    return f"{n:,} row{'s' if n != 1 else ''}"


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _refusal(where: str, what: str, fix: str) -> ConfigError:
    return ConfigError("label_column", f"{where} {what}: {fix}.")


_TRUTHS = frozenset(("true", "false"))


def _order(labels: Iterable[str], where: str) -> Callable[[str], int | str]:
    """What makes labels equal: their number, or themselves in small letters and with single blanks."""
    labels = [label.strip() for label in labels]
    if not all(_NUMBER.fullmatch(label) for label in labels):
        return lambda label: " ".join(label.split()).casefold()
    for label in labels:
        if not math.isfinite(float(label)):
            raise _refusal(where, f"holds {quoted(label)}, which is no class", "leave such rows out or name another")
        if not float(label).is_integer():
            raise _refusal(
                where,
                f"holds numbers with a fraction, such as {quoted(label)}, not classes",
                "round them or name another",
            )
    # whole floats may be larger than a float can tell apart: keep the digits of integers
    return lambda label: int(label) if label.strip().lstrip("+-").isdecimal() else int(float(label))


def _spelling(spelt: Mapping[str, int]) -> str:
    """That of most rows, the first of equals."""
    return max(spelt, key=spelt.__getitem__).strip()


def _name(value: int | str, spelt: Mapping[str, int], feature: object) -> str:
    """What a class is called: as most rows spell it."""
    if isinstance(feature, datasets.ClassLabel) and isinstance(value, int) and 0 <= value < feature.num_classes:
        return printable(str(feature.int2str(value))[:60])
    if isinstance(value, str) and value not in _TRUTHS:
        return printable(_spelling(spelt)[:60])
    return printable(str(value)[:60])
