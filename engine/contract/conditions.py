"""What a run met on its card that is none of its own doing: other processes, and clocks that the card lowered itself.

Standard library only. Memory is in bytes, shares from 0 to 1 of the run's time; None means unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.contract.cards import GRAVE

WORTH_TELLING = 0.01
"""The share of its time that a card must slow itself down for before the run counts as throttled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another process that computed on the card during the run."""

    pid: int
    user: str | None = None
    command: str | None = None
    peak_memory: int | None = None
    """The most that it had on the card."""
    sm: float | None = None
    """Percent of the SMs' time, the mean of the readings that knew it."""
    share: float = 0.0
    """How long it was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """A reason for which the card lowered its clocks, in the words of `Card.throttle`."""

    reason: str
    share: float
    """Of the time that it trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a run met, from readings twice a second."""

    neighbours: tuple[Neighbour, ...] | None = None
    """Those with the most memory first; empty: it had the card to itself; None: that could not be seen."""
    shared: float | None = None
    """For how much of the run anybody was there."""
    peak_others: int | None = None
    """The most that they had on the card at once, as far as that is known."""
    slowdowns: tuple[Slowdown, ...] | None = None
    """The longest first; empty: there was none; None: that could not be seen."""

    @property
    def contended(self) -> bool:
        """Whether another process used the card."""
        return bool(self.neighbours)

    @property
    def throttled(self) -> tuple[Slowdown, ...]:
        """Slowdowns that mean trouble with cooling or supply; at its power limit a busy card always is."""
        told = (each for each in self.slowdowns or () if each.reason in GRAVE)
        return tuple(each for each in told if each.share >= WORTH_TELLING)


def to_plain(conditions: Conditions | None) -> dict[str, Any] | None:
    """As JSON can hold it."""
    return None if conditions is None else asdict(conditions)


def from_plain(value: object) -> Conditions | None:
    """What `to_plain` made; what this version cannot read is unknown. Never raises."""
    if not isinstance(value, Mapping):
        return None
    neighbours = _every(Neighbour, value.get("neighbours"))
    slowdowns = _every(Slowdown, value.get("slowdowns"))
    shared, peak = value.get("shared"), value.get("peak_others")
    return Conditions(
        neighbours=neighbours,
        shared=shared if isinstance(shared, (int, float)) else None,
        peak_others=peak if isinstance(peak, int) else None,
        slowdowns=slowdowns,
    )


_TYPES: dict[str, tuple[type, ...]] = {
    "pid": (int,),
    "user": (str, type(None)),
    "command": (str, type(None)),
    "peak_memory": (int, type(None)),
    "sm": (int, float, type(None)),
    "share": (int, float),
    "reason": (str,),
}


def _every(kind: type[Any], values: object) -> tuple[Any, ...] | None:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return None
    names = {f.name for f in fields(kind)}
    made = []
    for value in values:
        if not isinstance(value, Mapping):
            return None
        known = {name: each for name, each in value.items() if name in names and isinstance(each, _TYPES[name])}
        try:
            made.append(kind(**known))
        except TypeError:  # what every one of them has is missing
            return None
    return tuple(made)
