"""A run's events as compact rows of the history, and back, equal to the last bit.

A batch of events is one JSON text, compressed by zlib: for every kind a table of columns (`loss`,
`memory.used`, ...), and one letter per event that says whose turn it is. Columns carry their names, so that a
version with one field more or less still reads the others. Measured on updates with eleven random floats and
seven memory readings, per update: 680 bytes as plain JSON; 350 in a batch of one, 155 in one of five, 88 in one
of 320. Packed binary columns take 122, 95 and 71 there, but need a format of their own for None, text, whole
numbers beyond 64 bits and every new field. Python writes the shortest digits that give a float back exactly,
and they compress to nearly its entropy.

What an event has of several ranks or cards, a tuple, gets columns for each of them (`ranks.3.memory.used`), and one
that says which are there (`ranks`: "1101"). Seconds of ranks are kept to the microsecond: with all digits, which no
screen shows and no figure needs, a random update of eight ranks takes 623 bytes instead of 360 (105 with one GPU).
"""

from __future__ import annotations

import json
import types
import typing
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any

from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    CachesHold,
    EvalDone,
    Event,
    FigureLogged,
    Logged,
    MemoryMoment,
    Prefilled,
    QualityMeasured,
    RankBeat,
    RanksStarted,
    RequestDone,
    RunProgress,
    Sampled,
    Saved,
    ScriptKnown,
    TokensCompared,
    TokensDone,
    TrainingStarted,
    UpdateDone,
    WorkCounted,
)

STORED = (
    RanksStarted,
    TrainingStarted,
    WorkCounted,
    RunProgress,
    MemoryMoment,
    UpdateDone,
    ScriptKnown,
    FigureLogged,
    EvalDone,
    AnsweringStarted,
    Prefilled,
    TokensDone,
    RequestDone,
    CachesHold,
    BatchScored,
    TokensCompared,
    QualityMeasured,
    Saved,
    Sampled,
    RankBeat,
    Logged,
)
"""The kinds that a run's series holds. Micro-steps are left out: they carry only their number."""

_BY_NAME: dict[str, type] = {kind.__name__: kind for kind in STORED}


@dataclass(frozen=True, slots=True)
class _Part:
    """One field of an event."""

    name: str
    part: Any
    """The nested class, or None."""
    several: bool
    """Whether it is a tuple of them."""
    optional: bool
    convert: Callable[[Any], Any] | None
    required: bool


@cache
def _parts(kind: type) -> tuple[_Part, ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        _part(f.name, hints[f.name], f.default is MISSING and f.default_factory is MISSING)
        for f in fields(kind)
        if f.name != "run_id"  # a column of the row
    )


def _part(name: str, hint: Any, required: bool) -> _Part:
    plain, optional = _plain(hint)
    several, convert = False, None
    if typing.get_origin(plain) is tuple:
        inner, _ = _plain(typing.get_args(plain)[0])
        several, convert = _is_nested(inner), _tuples
        plain = inner if several else plain
    elif isinstance(plain, type) and issubclass(plain, Enum):
        convert = plain
    return _Part(
        name=name,
        part=plain if _is_nested(plain) else None,
        several=several,
        optional=optional,
        convert=convert,
        required=required,
    )


def _plain(hint: Any) -> tuple[Any, bool]:
    """A type hint without its None, and whether it had one."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return next(option for option in options if option is not type(None)), type(None) in options


def _is_nested(hint: Any) -> bool:
    return isinstance(hint, type) and is_dataclass(hint)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


_Shape = tuple[tuple[str, str], ...]
"""Which parts of an event are there, a letter for each of a tuple's: `(("gpu", "0"), ("ranks", "11"))`."""
_Read = Callable[[Any], tuple[Any, ...]]


@cache
def _layout(kind: type, shape: _Shape) -> tuple[list[str], _Read]:
    """Column names, and the function that takes their values from an event of this shape."""
    there = dict(shape)
    names: list[str] = []
    several: list[tuple[Callable[[Any], Any], str, _Read]] = []
    for part in _parts(kind):
        if part.part is None:
            names.append(part.name)
        elif not part.several and there.get(part.name) != "0":
            names += [f"{part.name}.{inner}" for inner in _layout(part.part, ())[0]]
    alone = tuple(names)
    read_alone: _Read = attrgetter(*alone) if len(alone) > 1 else lambda event: tuple(getattr(event, n) for n in alone)
    for part in _parts(kind):
        letters = there.get(part.name, "")
        if part.several and (letters or part.required):
            inner, read = _layout(part.part, ())
            names.append(part.name)
            names += [
                f"{part.name}.{at}.{name}" for at, letter in enumerate(letters) if letter == "1" for name in inner
            ]
            several.append((attrgetter(part.name), letters, read))

    def read_all(event: Any) -> tuple[Any, ...]:
        values = list(read_alone(event))
        for read_tuple, letters, read in several:
            values.append(letters)
            for each in read_tuple(event):
                values += map(_rounded, read(each)) if each is not None else ()
        return tuple(values)

    return names, read_all if several else read_alone


def _rounded(value: Any) -> Any:
    """See the beginning of the file; infinity and nan stay."""
    return round(value, 6) if type(value) is float else value


@cache
def _varying(kind: type) -> tuple[tuple[str, bool], ...]:
    """The parts that an event may lack or have several of, and whether it is the latter."""
    return tuple((part.name, part.several) for part in _parts(kind) if part.part and (part.optional or part.several))


def _shape_of(event: Event) -> _Shape:
    shape = []
    kind: type = type(event)
    for name, several in _varying(kind):
        value = getattr(event, name)
        present = value if several else (value,)
        shape.append((name, "".join("0" if each is None else "1" for each in present)))
    return tuple(shape)


def pack(events: Sequence[Event], level: int = 6) -> bytes:
    """Events of one run, in order, as one compressed row. `level` is zlib's."""
    tables: dict[tuple[type, _Shape], tuple[str, list[Event]]] = {}
    order = []
    for event in events:
        kind: type = type(event)
        letter, rows = tables.setdefault((kind, _shape_of(event)), (chr(ord("a") + len(tables)), []))
        order.append(letter)
        rows.append(event)
    packed = []
    for (kind, shape), (_, rows) in tables.items():
        names, values = _layout(kind, shape)
        columns = zip(*map(values, rows), strict=True)
        packed.append([kind.__name__, dict(zip(names, columns, strict=True))])
    # default: a value of a foreign type must not keep the whole batch from being saved
    text = json.dumps({"order": "".join(order), "tables": packed}, separators=(",", ":"), default=str)
    return zlib.compress(text.encode("ascii"), level)


def unpack(run_id: int, payload: bytes) -> list[Event | None]:
    """The events of `pack`, in order; None stands for one that only another version knows.

    Raises `ValueError` when the row is damaged.
    """
    try:
        batch = json.loads(zlib.decompress(payload))
        queues = {
            chr(ord("a") + index): iter(_events(run_id, name, columns))
            for index, (name, columns) in enumerate(batch["tables"])
        }
        return [next(queues[letter]) for letter in batch["order"]]
    except (zlib.error, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"a batch of run {run_id} cannot be read: {error!r}") from None


def _events(run_id: int, name: str, columns: dict[str, list[Any]]) -> Iterable[Event | None]:
    n_events = max(map(len, columns.values()), default=0)
    kind = _BY_NAME.get(name)
    if kind is None:
        return [None] * n_events
    fixed = {"run_id": run_id} if "run_id" in {f.name for f in fields(kind)} else {}
    try:
        return typing.cast("list[Event | None]", _objects(kind, columns, "", n_events, fixed))
    except (TypeError, ValueError):  # lacks a field that this version needs, or holds a word that it does not know
        return [None] * n_events


def _objects(kind: type, columns: dict[str, list[Any]], prefix: str, n: int, fixed: dict[str, Any]) -> list[Any]:
    arguments: dict[str, Iterable[Any]] = {}
    for part in _parts(kind):
        path = prefix + part.name
        if part.several:
            if part.required or path in columns:
                arguments[part.name] = _several(part, columns, path, n)
        elif part.part is None:
            if path in columns:
                arguments[part.name] = map(part.convert, columns[path]) if part.convert else columns[path]
        elif any(column.startswith(path + ".") for column in columns):
            arguments[part.name] = _objects(part.part, columns, path + ".", n, {})
        elif part.required:
            arguments[part.name] = [None] * n if part.optional else _objects(part.part, columns, path + ".", n, {})
    if not arguments:
        return [kind(**fixed) for _ in range(n)]
    names = tuple(arguments)
    return [kind(**fixed, **dict(zip(names, values, strict=True))) for values in zip(*arguments.values(), strict=True)]


def _several(part: _Part, columns: dict[str, list[Any]], path: str, n: int) -> list[Any]:
    """The tuples of a part; a table's events have equally many, and the same ones are there."""
    letters = columns[path][0] if columns.get(path) else ""
    each = [
        _objects(part.part, columns, f"{path}.{at}.", n, {}) if letter == "1" else [None] * n
        for at, letter in enumerate(letters)
    ]
    return list(zip(*each, strict=True)) if each else [()] * n
