"""`--device free`: the emptiest of the cards that CUDA shows to this process, by memory and utilization over two
seconds, never one that another process computes on unless that was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from engine.contract.cards import Card, CardProcess
from engine.contract.config import ConfigError
from engine.contract.device_name import DeviceName
from engine.contract.neighbours import used_by, who
from engine.contract.numbers import mib
from engine.devices import visible
from engine.gpus.units import MIB
from engine.telemetry.cards import CardReader
from engine.telemetry.nvml import Nvml

READINGS, INTERVAL_S = 5, 0.5
BUSY = 10.0
"""Percent of utilization from which a card is at work, whoever it is: idle ones have 0 to a few."""
UNSEEN = 2048 * MIB
"""Memory that no process accounts for, from which somebody must be there whom a container hides. A driver and a desktop
take less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One card over the readings."""

    index: int
    """CUDA's ordinal."""
    card: Card
    """The last reading."""
    used: int
    """The most, in bytes."""
    total: int
    utilization: float
    """The mean, in percent."""
    others: tuple[CardProcess, ...] = ()
    """Processes but this one that computed there."""
    is_ours: bool = False
    """Whether this process has a context there: its own memory makes a card no less free, and moving would leave it."""

    @property
    def is_taken(self) -> bool:
        """Whether another process computes there, or must be taken to."""
        if self.others or self.card.compute_mode == "prohibited":
            return True
        drawn = used_by(self.card.processes or ())
        return not self.is_ours and (self.used - drawn >= UNSEEN or self.utilization >= BUSY)

    @property
    def rank(self) -> tuple[object, ...]:
        """The lower, the better: where this process is already, an idle card, the most free memory."""
        busy = self.utilization >= BUSY and not self.is_ours
        return self.is_taken, not self.is_ours, busy, -(self.total - self.used), self.utilization, self.index


def choose(
    name: DeviceName, nvml: Nvml, *, n_readings: int = READINGS, wait: Callable[[float], None] = time.sleep
) -> int:
    """The ordinal of the emptiest card. Raises `ConfigError` where none is free."""
    return choose_several(name, nvml, 1, n_readings=n_readings, wait=wait)[0]


def choose_several(
    name: DeviceName,
    nvml: Nvml,
    n_wanted: int | None,
    *,
    n_readings: int = READINGS,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[int, ...]:
    """The ordinals of the `n_wanted` emptiest cards, in CUDA's order; all that are free where that is None.

    Raises `ConfigError` where too few are.
    """
    found = look(nvml, n_readings=n_readings, wait=wait)
    if not found:
        why = nvml.status or "NVML shows none of the GPUs that CUDA shows; use --device cuda:N."
        raise ConfigError("device", f"--device free cannot be answered: {why}")
    usable = sorted((seen for seen in found if name.shared or not seen.is_taken), key=lambda seen: seen.rank)
    if not usable or len(usable) < (n_wanted or 1):
        raise ConfigError("device", _too_few(found, usable, n_wanted or 1, shared=name.shared))
    return tuple(sorted(seen.index for seen in usable[:n_wanted]))


def _too_few(found: Sequence[Seen], usable: Sequence[Seen], n_wanted: int, *, shared: bool) -> str:
    taken = "; ".join(f"cuda:{seen.index}: {_by_whom(seen)}" for seen in found if seen.is_taken)
    if not usable:
        anyway = "Wait, or use --device free:shared for the emptiest of them."
        return f"--device free: no card is free ({taken}). {anyway}"
    n = len(usable)
    if shared or not taken:
        return f"--device free: --gpus {n_wanted} needs a card for each rank, and there are {n}: use --gpus {n} or all."
    are = "is" if n == 1 else "are"
    return (
        f"--device free: {n} of {len(found)} cards {are} free, and --gpus {n_wanted} needs a card for each rank "
        f"({taken}). Wait, use --gpus {n}, or --device free:shared for the emptiest of all."
    )


def look(nvml: Nvml, *, n_readings: int = 1, wait: Callable[[float], None] = time.sleep) -> list[Seen]:
    """The cards that CUDA shows and NVML can read, by ordinal. Takes `n_readings` - 1 intervals."""
    reader = CardReader(nvml)
    uuids = [visible.uuid_of(index) for index in range(visible.count())]
    readings: list[list[Card]] = [[] for _ in uuids]
    for turn in range(n_readings):
        if turn:
            wait(INTERVAL_S)
        for index, uuid in enumerate(uuids):
            card = reader.card(uuid)
            if card is not None and card.memory_used is not None and card.memory_total is not None:
                readings[index].append(card)
    hidden = reader.namespaced  # then this process stands among the others, under the host's number
    return [_over(index, several, hidden=hidden) for index, several in enumerate(readings) if several]


def _over(index: int, readings: Sequence[Card], *, hidden: bool) -> Seen:
    """One card's readings as one."""
    is_ours = visible.has_context(index)
    others = {process.pid: process for card in readings for process in card.foreign}
    if hidden and is_ours and len(others) == 1:
        others = {}
    return Seen(
        index=index,
        card=readings[-1],
        used=max(card.memory_used or 0 for card in readings),
        total=readings[-1].memory_total or 0,
        utilization=fmean(card.utilization or 0.0 for card in readings),
        others=tuple(others.values()),
        is_ours=is_ours,
    )


def _by_whom(seen: Seen) -> str:
    if seen.others:
        return who(seen.others)
    if seen.card.compute_mode == "prohibited":
        return "its compute mode is prohibited"
    return f"{mib(seen.used)} MiB and {seen.utilization:.0f} % of somebody who is not seen from here"
