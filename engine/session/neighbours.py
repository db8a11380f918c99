"""Who else computes on the cards that a session reads or runs on: asked with every reading, told when it changes.

The same readings tell what a run met there, and the energy that it took.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from engine.contract.cards import Card, CardProcess
from engine.contract.events import Logged, Neighbours
from engine.contract.neighbours import joined, used_by
from engine.contract.numbers import mib
from engine.contract.records import DeviceInfo, RankInfo, RunRecord
from engine.gpus.units import MIB
from engine.process.family import is_descendant
from engine.telemetry.cards import CardReader
from engine.telemetry.conditions import RunConditions
from engine.telemetry.nvml import Nvml

_WORTH_TELLING = 64 * MIB
"""By how much their memory must change."""

Others = tuple[CardProcess, ...]


class NeighbourWatch:
    """May be asked from any thread; `emit` gets `Neighbours`, and what a run met is kept for its record."""

    def __init__(self, nvml: Nvml, emit: Callable[[Neighbours | Logged], None]) -> None:
        self._reader = CardReader(nvml)
        self._emit = emit
        self._lock = threading.Lock()
        self._devices: tuple[DeviceInfo, ...] = ()
        self._ranks: dict[int, RankInfo] = {}
        """By process, those of this machine."""
        self._elsewhere: frozenset[int] = frozenset()
        self._started: set[int] = set()
        """Processes that this one started, and their like, as far as they were met on a card."""
        self._strays: set[tuple[int, int]] = set()
        self._told: Neighbours | None = None
        self._run = RunConditions()
        self._trains = False

    def use(self, devices: Sequence[DeviceInfo], *, elsewhere: Iterable[int] = ()) -> None:
        """Look at these from now on: one, or those of a run's ranks in their order.

        `elsewhere`: the processes that compute there in this one's place.
        """
        with self._lock:
            self._devices, self._ranks, self._elsewhere = tuple(devices), {}, frozenset(elsewhere)

    def begin(self) -> None:
        """A run begins: what others met before it is none of it."""
        with self._lock:
            self._run, self._trains = RunConditions(), False
            self._strays.clear()
            self._started.clear()

    def started(self, ranks: Sequence[RankInfo]) -> tuple[DeviceInfo, ...]:
        """The ranks of the run are there: look at their cards, where those are this machine's, and at nothing of theirs
        as others'. Returns the devices, without the numbers of those elsewhere."""
        here = platform.node()
        with self._lock:
            self._devices = tuple(r.device if r.host == here else replace(r.device, uuid=None) for r in ranks)
            self._ranks = {rank.pid: rank for rank in ranks if rank.host == here}
            return self._devices

    def training(self, trains: bool) -> None:
        """The training of the run begins or ends now: energy and clocks count between the two."""
        self._trains = trains
        if any(device.kind == "cuda" for device in self._devices):
            self.look()

    def warmed_up(self) -> None:
        """What was counted so far of energy and clocks was the warm-up's: they count from now on."""
        with self._lock:
            self._run.forget_work()
        self.training(True)

    def look(self) -> tuple[tuple[DeviceInfo, Others], ...]:
        """Who is there now, by device, where anybody is."""
        with self._lock:
            devices = self._devices
            cards = self._read()
            found = [self._others(device, card) for device, card in zip(devices, cards, strict=True)]
            if any(device.kind == "cuda" for device in devices):
                self._run.add(time.monotonic(), cards, _together(found), trains=self._trains)
            there = tuple((device, others) for device, others in zip(devices, found, strict=True) if others)
            self._tell(there)
            return there

    def _read(self) -> list[Card | None]:
        if not self._ranks or all(device.uuid is None for device in self._devices):
            return [self._reader.card(device.uuid) if device.uuid is not None else None for device in self._devices]
        every = self._reader.read().cards  # also those that no rank is meant to be on
        for card in every:
            self._warn_of_strays(card)
        return [next((c for c in every if c.uuid == device.uuid), None) for device in self._devices]

    def _warn_of_strays(self, card: Card) -> None:
        """A context that a rank has on a card that is not its own takes its few hundred MiB from that card's rank."""
        for process in card.processes or ():
            rank = self._ranks.get(process.pid)
            if rank is None or not process.visible or rank.device.uuid in (None, card.uuid):
                continue
            if (process.pid, card.index) not in self._strays:
                self._strays.add((process.pid, card.index))
                text = (
                    f"Rank {rank.rank} (process {process.pid}) has {mib(process.memory_used)} MiB on GPU {card.index} "
                    f"({card.name}) too, which is not its own: something made a CUDA context there, and that card's "
                    "memory is less by it."
                )
                self._emit(Logged(source="engine", text=text, level="warning"))

    def _others(self, device: DeviceInfo, card: Card | None) -> Others | None:
        if card is None or card.processes is None:
            return None
        # one of them may be this process, or one of its own, under the host's number: nothing says which
        is_unseen = self._reader.namespaced and card.processes and not any(map(self._is_ours, card.processes))
        if is_unseen and (self._ranks or self._elsewhere or _has_context(device)):
            return None
        return tuple(process for process in card.foreign if not self._is_ours(process))

    def _is_ours(self, process: CardProcess) -> bool:
        if process.visible and is_descendant(process.pid):
            self._started.add(process.pid)  # the driver may list it for a moment when it is gone
        return process.own or process.pid in {*self._ranks, *self._started, *self._elsewhere}

    def _tell(self, there: Sequence[tuple[DeviceInfo, Others]]) -> None:
        """Of several cards the one that others use most."""
        told = self._told
        if not there:
            if told is None or not told.processes:
                return
            device, others = self._devices[0], Others()
        else:
            device, others = max(there, key=lambda each: used_by(each[1]))
        if told is not None and told.device.uuid == device.uuid and _are_alike(told.processes, others):
            return
        self._told = Neighbours(device=device, processes=others)
        self._emit(self._told)

    def end(self, record: RunRecord) -> RunRecord:
        """A run's record with what was met since it began."""
        with self._lock:
            energy, source = self._run.energy()
            return replace(record, conditions=self._run.conditions(), energy=energy, energy_source=source)


def _has_context(device: DeviceInfo) -> bool:
    from engine.devices.visible import has_context

    return device.index is not None and has_context(device.index)


def _together(found: Sequence[Others | None]) -> Others | None:
    """Those on any of several cards; None where nobody is seen, and not all can be."""
    others = joined([others for others in found if others])
    return None if not others and None in found else others


def _are_alike(some: Others, others: Others) -> bool:
    if [process.pid for process in some] != [process.pid for process in others]:
        return False
    return abs(used_by(some) - used_by(others)) < _WORTH_TELLING
