"""A column of classes -> numbers."""

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
from engine.contract.numbers import n_of
from engine.workloads.files.plain_files import printable, quoted
from engine.workloads.sources.columns import listed

MAX_CLASSES = 1_000
_LISTED = 5  # names in a sentence
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
        names = listed([called[value] for value in rare], limit=_LISTED)
        what = f"has no class with {least_rows}, which a held-out part needs, among {names}"
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
    return n_of(n, "row")


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
