"""What the instrument tells, read: each field as the type that it should have, or None. See `inside/` for who tells it.

It comes from the user's process, of any version, so that nothing is taken for granted: a field that is missing, or of
another type, is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.contract.records import Phase, Shares

_MOST = 2**62
_MOST_SECONDS = 1e9
_MOST_FIGURES = 64
_LONGEST = 300
_SHARES = tuple(f.name for f in fields(Shares) if f.name != "waiting")
_PHASES = {phase.value: phase for phase in (Phase.DATA, Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A process that imported torch, and has something to tell."""

    pid: int | None
    rank: int | None
    """Under torchrun, with more than one process."""
    local_rank: int | None
    world_size: int
    local_size: int
    """Processes on this machine, as far as that is told: else all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The CUDA device of a process."""

    name: str
    total: int | None  # bytes
    uuid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What it trains, told after its first update."""

    optimizer: str | None
    model: str | None
    n_trained: int | None
    n_parameters: int | None
    torch_version: str | None
    card: Card | None
    """None: on the CPU."""
    rank: int | None = None
    """In the group that its processes have formed, where they have, of `world_size`."""
    world_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What its trainer is going to do."""

    told_by: str | None
    updates: int | None
    epochs: float | None
    batch_size: int | None
    gradient_accumulation_steps: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One update of one process."""

    update: int
    t: float
    micro_steps: int | None
    loss: float | None
    learning_rate: float | None
    grad_norm: float | None
    loss_scale: float | None
    skipped: bool
    """By a gradient scaler."""
    n_samples: int | None
    n_tokens: int | None
    seconds: float | None
    shares: Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocator:
    """PyTorch's caching allocator for CUDA, in bytes."""

    allocated: int | None = None
    reserved: int | None = None
    peak_allocated: int | None = None
    peak_reserved: int | None = None
    alloc_retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """Updates since the last message, and the memory after the last of them."""

    rows: tuple[Row, ...]
    held: Mapping[str, int]
    allocator: Allocator


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What its trainer logged."""

    told_by: str | None
    update: int
    epoch: float | None
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Off:
    """It is watched no more."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A process ends by itself, or by an error that nobody caught."""

    updates: int
    micro_steps: int
    """Of the update that it was at."""
    phase: Phase | None
    error: str | None
    out_of_memory: bool
    held: Mapping[str, int]
    allocator: Allocator


Told = Hello | Model | Planned | Updates | Figures | Off | End


def read(message: Mapping[str, Any]) -> Told | None:
    """A message by its `kind`; None where this version knows none of that name. Never raises."""
    reader = _READERS.get(message["kind"])
    return None if reader is None else reader(message)


def _hello(told: Mapping[str, Any]) -> Hello:
    # environment variables, which are text
    rank, local_rank = _digits(told.get("rank")), _digits(told.get("local_rank"))
    world_size = _digits(told.get("world_size")) or 1
    return Hello(
        pid=_whole(told.get("pid")),
        rank=rank if world_size > 1 else None,
        local_rank=local_rank,
        world_size=world_size,
        local_size=_digits(told.get("local_world_size")) or world_size,
    )


def _model(told: Mapping[str, Any]) -> Model:
    device = _mapping(told.get("device"))
    name = _text(device.get("name"))
    return Model(
        optimizer=_text(told.get("optimizer")),
        model=_text(told.get("model")),
        n_trained=_whole(told.get("trained")),
        n_parameters=_whole(told.get("parameters")),
        torch_version=_text(told.get("torch")),
        card=None
        if name is None
        else Card(name=name, total=_whole(device.get("total")), uuid=_text(device.get("uuid"))),
        rank=_whole(told.get("rank")),
        world_size=_whole(told.get("world_size")) or 1,
    )


def _planned(told: Mapping[str, Any]) -> Planned:
    updates, epochs = _whole(told.get("updates")), _number(told.get("epochs"))
    return Planned(
        told_by=_text(told.get("by")),
        updates=updates or None,  # a trainer that does not know has 0 or -1
        epochs=epochs if epochs is not None and epochs > 0 else None,
        batch_size=_whole(told.get("batch_size")) or None,
        gradient_accumulation_steps=_whole(told.get("gradient_accumulation_steps")) or None,
    )


def _updates(told: Mapping[str, Any]) -> Updates:
    rows = told.get("rows")
    read_rows = [_row(each) for each in rows if isinstance(each, dict)] if isinstance(rows, list) else []
    return Updates(
        rows=tuple(row for row in read_rows if row is not None),
        held=_sizes(told.get("held")),
        allocator=_allocator(told.get("memory")),
    )


def _row(told: Mapping[str, Any]) -> Row | None:
    update, t = _whole(told.get("update")), _number(told.get("t"))
    if not update or t is None or not 0 <= t < _MOST_SECONDS:
        return None
    return Row(
        update=update,
        t=t,
        micro_steps=_whole(told.get("micro_steps")),
        loss=_number(told.get("loss")),
        learning_rate=_number(told.get("lr")),
        grad_norm=_number(told.get("grad_norm")),
        loss_scale=_number(told.get("loss_scale")),
        skipped=told.get("skipped") is True,
        n_samples=_whole(told.get("samples")),
        n_tokens=_whole(told.get("tokens")),
        seconds=_seconds(told.get("seconds")),
        shares=_shares(told.get("shares")),
    )


def _shares(told: object) -> Shares:
    seconds = {name: _seconds(value) or 0.0 for name, value in _mapping(told).items()}
    known = {name: seconds.pop(name, 0.0) for name in _SHARES}
    return Shares(**{**known, "other": known["other"] + sum(seconds.values())})


def _figures(told: Mapping[str, Any]) -> Figures:
    figures = {str(name)[:_LONGEST]: _number(value) for name, value in _mapping(told.get("figures")).items()}
    known = {name: value for name, value in figures.items() if value is not None}
    return Figures(
        told_by=_text(told.get("by")),
        update=_whole(told.get("update")) or 0,
        epoch=_number(told.get("epoch")),
        figures=dict(list(known.items())[:_MOST_FIGURES]),
    )


def _off(told: Mapping[str, Any]) -> Off:
    return Off(why=_text(told.get("why")) or "it does not say why")


def _end(told: Mapping[str, Any]) -> End:
    error = told.get("error")
    return End(
        updates=_whole(told.get("updates")) or 0,
        micro_steps=_whole(told.get("micro_steps")) or 0,
        phase=_PHASES.get(str(told.get("phase"))),
        error=error[:2000] if isinstance(error, str) else None,
        out_of_memory=told.get("out_of_memory") is True,
        held=_sizes(told.get("held")),
        allocator=_allocator(told.get("allocator")),
    )


def _allocator(told: object) -> Allocator:
    sizes = _mapping(told)
    return Allocator(**{f.name: _whole(sizes.get(f.name)) for f in fields(Allocator)})


def _sizes(told: object) -> dict[str, int]:
    sizes = {str(name)[:_LONGEST]: _whole(value) for name, value in list(_mapping(told).items())[:_MOST_FIGURES]}
    return {name: size for name, size in sizes.items() if size is not None}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value[:_LONGEST] if isinstance(value, str) and value else None


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST else None


def _digits(value: object) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10 else None


def _number(value: object) -> float | None:
    """One that may be infinite or none, as a loss can be."""
    try:
        return float(value) if type(value) in (int, float) else None  # type: ignore[arg-type]
    except OverflowError:
        return None


def _seconds(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number < _MOST_SECONDS else None


_READERS: dict[str, Callable[[Mapping[str, Any]], Told]] = {
    "hello": _hello,
    "model": _model,
    "plan": _planned,
    "updates": _updates,
    "log": _figures,
    "off": _off,
    "end": _end,
}
