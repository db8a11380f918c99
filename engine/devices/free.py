"""`--device free`: the emptiest of the cards that CUDA shows to this process, by memory and utilization over two
seconds, never one that another process computes on unless that was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from engine.contract.config import ConfigError
from engine.contract.device_name import DeviceName
from engine.devices import visible
from engine.gpus.units import MIB
from engine.telemetry.nvml import Nvml

READINGS, INTERVAL_S = 5, 0.5
BUSY = 10.0
"""Percent of utilization from which a card is at work, whoever it is: idle ones have 0 to a few."""
UNSEEN = 2048 * MIB
"""Memory that no process accounts for, from which somebody must be there whom a container or MPS hides. A driver and a
desktop take less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One card over the readings."""

    index: int
    """CUDA's ordinal."""
    used: int
    """The most, in bytes."""
    total: int
    utilization: float
    """The mean, in percent."""
    others: tuple[tuple[int, int | None], ...] = ()
    """Processes of others that compute there, by pid, with their bytes where they are known."""
    is_ours: bool = False
    """Whether this process has a context there: its own memory makes a card no less free, and moving would leave it."""

    @property
    def is_taken(self) -> bool:
        """Whether another process computes there, or must be taken to."""
        if self.others:
            return True
        return not self.is_ours and (self.used >= UNSEEN or self.utilization >= BUSY)

    @property
    def rank(self) -> tuple[object, ...]:
        """The lower, the better: where this process is already, an idle card, the most free memory."""
        busy = self.utilization >= BUSY and not self.is_ours
        return self.is_taken, not self.is_ours, busy, -(self.total - self.used), self.utilization, self.index


def choose(
    name: DeviceName, nvml: Nvml, *, n_readings: int = READINGS, wait: Callable[[float], None] = time.sleep
) -> int:
    """The ordinal of the emptiest card. Raises `ConfigError` where none is free, or where several are asked for."""
    if name.free > 1:
        raise ConfigError(
            "device", f"--device free:{name.free} asks for {name.free} GPUs, and a run takes one: use --device free."
        )
    found = look(nvml, n_readings=n_readings, wait=wait)
    if not found:
        raise ConfigError("device", f"--device free cannot be answered: {nvml.status or 'NVML shows no GPU'}")
    best = min(found, key=lambda card: card.rank)
    if best.is_taken and not name.shared:
        raise ConfigError("device", f"--device free: no card is free ({_who(found)}). {_ANYWAY}")
    return best.index


_ANYWAY = "Wait, or use --device free:shared for the emptiest of them."


def look(nvml: Nvml, *, n_readings: int = 1, wait: Callable[[float], None] = time.sleep) -> list[Seen]:
    """The cards that CUDA shows and NVML can read, by ordinal. Takes `n_readings` - 1 intervals."""
    keys = [visible.uuid_of(index) for index in range(visible.count())]
    readings: list[list[Seen]] = [[] for _ in keys]
    for turn in range(n_readings):
        if turn:
            wait(INTERVAL_S)
        for index, key in enumerate(keys):
            if (seen := _seen(index, key, nvml)) is not None:
                readings[index].append(seen)
    return [_over(several) for several in readings if several]


def _seen(index: int, key: str, nvml: Nvml) -> Seen | None:
    sample = nvml.sample(key)
    if sample is None or sample.memory_used is None or sample.memory_total is None:
        return None
    return Seen(
        index=index,
        used=sample.memory_used,
        total=sample.memory_total,
        utilization=sample.utilization or 0.0,
        others=tuple(nvml.processes(key) or ()),
        is_ours=visible.has_context(index),
    )


def _over(readings: Sequence[Seen]) -> Seen:
    """One card's readings as one."""
    last = readings[-1]
    others = {pid: used for seen in readings for pid, used in seen.others}
    return Seen(
        index=last.index,
        used=max(seen.used for seen in readings),
        total=last.total,
        utilization=fmean(seen.utilization for seen in readings),
        others=tuple(others.items()),
        is_ours=last.is_ours,
    )


def _who(cards: Sequence[Seen]) -> str:
    return "; ".join(f"cuda:{card.index}: {_on(card)}" for card in cards)


def _on(card: Seen) -> str:
    if not card.others:
        return f"{card.used // MIB:,} MiB and {card.utilization:.0f} % of somebody who is not seen here"
    used = [size for _, size in card.others if size is not None]
    pids = ", ".join(str(pid) for pid, _ in card.others)
    return f"process {pids}" + (f" with {sum(used) // MIB:,} MiB" if used else "")
