"""Who else computes on the card that a session reads or runs on: asked with every reading, told when it changes.

The same readings tell what a run met there, and the energy that it took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from engine.contract.cards import Card, CardProcess
from engine.contract.events import Neighbours
from engine.contract.neighbours import used_by
from engine.contract.records import DeviceInfo, RunRecord
from engine.gpus.units import MIB
from engine.telemetry.cards import CardReader
from engine.telemetry.conditions import RunConditions
from engine.telemetry.nvml import Nvml

_WORTH_TELLING = 64 * MIB
"""By how much their memory must change."""

Others = tuple[CardProcess, ...]


class NeighbourWatch:
    """May be asked from any thread; `emit` gets `Neighbours`, and what a run met is kept for its record."""

    def __init__(self, nvml: Nvml, emit: Callable[[Neighbours], None]) -> None:
        self._reader = CardReader(nvml)
        self._emit = emit
        self._lock = threading.Lock()
        self._told: Neighbours | None = None
        self._run = RunConditions()
        self._trains = False

    def begin(self) -> None:
        """A run begins: what others met before it is none of it."""
        with self._lock:
            self._run, self._trains = RunConditions(), False

    def training(self, device: DeviceInfo, trains: bool) -> None:
        """The training of the run begins or ends now: energy and clocks count between the two."""
        if device.kind == "cuda":
            self._trains = trains
            self.look(device)

    def look(self, device: DeviceInfo) -> Others | None:
        """Who is there now; None where there is no card, or where that cannot be known."""
        with self._lock:
            card = self._reader.card(device.uuid) if device.uuid is not None else None
            others = self._others(device, card)
            if device.kind == "cuda":
                self._run.add(time.monotonic(), card, others, trains=self._trains)
            self._tell(device, others or ())
            return others

    def _others(self, device: DeviceInfo, card: Card | None) -> Others | None:
        if card is None or card.processes is None:
            return None
        if self._reader.namespaced and card.processes and not any(process.own for process in card.processes):
            from engine.devices.visible import has_context

            if device.index is not None and has_context(device.index):
                return None  # one of them is this process, under the host's number, and nothing says which
        return card.foreign

    def _tell(self, device: DeviceInfo, others: Others) -> None:
        told = self._told
        if told is None and not others:
            return
        if told is not None and told.device.uuid == device.uuid and _are_alike(told.processes, others):
            return
        self._told = Neighbours(device=device, processes=others)
        self._emit(self._told)

    def end(self, record: RunRecord) -> RunRecord:
        """A run's record with what was met since it began."""
        with self._lock:
            energy, source = self._run.energy()
            return replace(record, conditions=self._run.conditions(), energy=energy, energy_source=source)


def _are_alike(some: Others, others: Others) -> bool:
    if [process.pid for process in some] != [process.pid for process in others]:
        return False
    return abs(used_by(some) - used_by(others)) < _WORTH_TELLING
