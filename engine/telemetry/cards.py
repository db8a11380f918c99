"""Reads all cards of the machine and the processes on them, through the one door to NVML."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

from engine.contract.cards import Card, CardProcess, Cards, MigSlice
from engine.telemetry.nvml import (
    CLOCK_MEMORY,
    CLOCK_SM,
    COMPUTE_PROCESSES,
    POWER_LIMIT,
    TEMPERATURE,
    TEMPERATURE_GPU,
    Gpu,
    GpuLostError,
    Nvml,
)
from engine.telemetry.processes import Processes

SLOW_S = 5.0
"""What changes rarely (limits, ECC, modes, slices) is asked for so often."""
_SAMPLES_US = 1_000_000
"""How far back samples of a process's utilization count."""

_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "hot",
    0x40: "too hot",
    0x80: "power brake",
}
"""nvmlClocksEventReasons of nvml.h, those that slow a card that has work: not idleness, nor clocks somebody set."""
_HARDWARE_SLOWDOWN, _ITS_CAUSES = 0x08, 0x40 | 0x80
_THROTTLE = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
_MODES = {0: "default", 1: "exclusive", 2: "prohibited", 3: "exclusive"}  # nvmlComputeMode_t
_UNCORRECTED, _SINCE_START = 1, 0  # nvmlMemoryErrorType_t, nvmlEccCounterType_t
_MEMORY_V2 = 0x02000028  # nvmlMemory_v2
_KINDS = {
    "compute": COMPUTE_PROCESSES,
    "graphics": ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
    "mps": ("nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2"),
}
_NO_SLICE = 0xFFFFFFFF


class CardReader:
    """Every card at every `read`, also those that were there and no longer answer. Never raises; for one thread.

    A card keeps the number that it was first seen with: NVML counts anew where one leaves, and two would have the same.
    """

    def __init__(
        self,
        nvml: Nvml,
        processes: Processes | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._nvml = nvml
        self._processes = processes or Processes()
        self._clock, self._wall = clock, wall
        self._known: dict[str, Card] = {}
        """By UUID, what never changes of each card that was seen."""
        self._index_of: dict[str, int] = {}
        """NVML's index of a card, and of the card of a slice, by UUID."""
        self._number_of: dict[str, int] = {}
        """The number of a card, by UUID."""
        self._versions: tuple[str | None, str | None] = (None, None)
        self._versions_until = float("-inf")
        self._at: dict[int, str] = {}
        """The UUID of the card that was last seen at an index."""

    def read(self) -> Cards:
        """One reading of every card, by its number."""
        began = self._clock()
        if began >= self._versions_until:
            self._versions = self._nvml.driver_version(), self._nvml.cuda_version()
            self._versions_until = began + (SLOW_S if self._versions[0] else 0.0)
        # twice: where another library of this process stopped NVML, the first question only finds that out
        n_cards = self._nvml.device_count() or self._nvml.device_count()
        found = self._numbered(range(n_cards))
        there = {card.uuid for card in found}
        for card in found:
            if card.uuid is not None and not card.lost:
                self._known[card.uuid] = Card(
                    index=card.index, name=card.name, uuid=card.uuid, pci_bus_id=card.pci_bus_id, lost=True
                )
        # a card that fell off the bus may be in the driver's list no more, and those behind it move up
        missing = [card for uuid, card in self._known.items() if uuid not in there]
        cards = sorted([*found, *missing], key=lambda card: (card.index, not card.lost))
        self._processes.keep({process.pid for card in cards for process in card.processes or ()})
        return Cards(
            at=self._wall(),
            cards=tuple(cards),
            problem=None if cards else self._why_none(),
            driver=self._versions[0],
            cuda=self._versions[1],
            namespaced=self._processes.namespaced,
            took_s=self._clock() - began,
        )

    def card(self, uuid: str) -> Card | None:
        """One reading of one card, by its UUID or that of a slice of it; None where there is none. It costs no other's.

        Of a slice, memory and processes are its own, and what it shares with the rest of the card is left out.
        """
        index = self._index_of.get(uuid)
        card = self._numbered([index])[0] if index is not None else None
        if card is None or (card.uuid != uuid and all(part.uuid != uuid for part in card.slices)):
            card = next((c for c in self.read().cards if uuid == c.uuid or any(uuid == p.uuid for p in c.slices)), None)
        if card is None:
            return None
        self._processes.keep({process.pid for process in card.processes or ()})
        part = next((part for part in card.slices if part.uuid == uuid), None)
        return card if part is None else _alone(card, part)

    @property
    def namespaced(self) -> bool:
        """See `Cards.namespaced`."""
        return self._processes.namespaced

    def _why_none(self) -> str:
        return self._nvml.status or (
            "The NVIDIA driver runs and shows no GPU: look at nvidia-smi -L; a container needs its GPUs given to it."
        )

    def _numbered(self, indices: Iterable[int]) -> list[Card]:
        """The cards at NVML's `indices`, with their own numbers."""
        cards = []
        for index in indices:
            card = self._card(index)
            if card.uuid is not None:
                if not card.lost:
                    self._at[index] = card.uuid
                    uuids = card.uuid, *(part.uuid for part in card.slices)
                    self._index_of |= {uuid: index for uuid in uuids if uuid is not None}
                if card.uuid not in self._number_of:
                    self._number_of[card.uuid] = self._free_number(index)
                card = replace(card, index=self._number_of[card.uuid])
            cards.append(card)
        return cards

    def _free_number(self, index: int) -> int:
        """`index`, or where another card has that number the next one that none has."""
        taken = set(self._number_of.values())
        return next(number for number in count(index) if number not in taken)

    def _card(self, index: int) -> Card:
        gone = self._known.get(self._at.get(index, "")) or Card(index=index, lost=True)
        return self._nvml.reading(index, partial(self._read, index), gone) or gone

    def _read(self, index: int, gpu: Gpu) -> Card:
        gpu.failed = False
        slow = self._slow(gpu)
        memory = gpu.ask("nvmlDeviceGetMemoryInfo")
        busy = gpu.ask("nvmlDeviceGetUtilizationRates")
        power, energy = gpu.ask("nvmlDeviceGetPowerUsage"), gpu.ask("nvmlDeviceGetTotalEnergyConsumption")
        temperature = gpu.first(TEMPERATURE, TEMPERATURE_GPU)
        # one figure may fail on its own for long; when none answers, the handle is dead
        if gpu.failed and memory is busy is power is temperature is None:
            raise GpuLostError
        card = Card(
            index=index,
            memory_used=None if memory is None else max(0, memory.used - (slow["memory_reserved"] or 0)),
            memory_total=None if memory is None else memory.total,
            utilization=None if busy is None else float(busy.gpu),
            memory_utilization=None if busy is None else float(busy.memory),
            power=None if power is None else power / 1000,
            energy=None if energy is None else energy / 1000,
            temperature=temperature,
            sm_clock=gpu.ask("nvmlDeviceGetClockInfo", CLOCK_SM),
            throttle=_reasons(gpu.first(_THROTTLE)),
            **slow,
        )
        parts: list[Gpu] = gpu.kept["parts"]
        card = replace(card, slices=tuple(_slice(part) for part in parts))
        return replace(card, processes=self._on(gpu, parts))

    def _slow(self, gpu: Gpu) -> dict[str, Any]:
        """What never changes, and what rarely does, kept for a while with the handle."""
        now = self._clock()
        kept = gpu.kept
        if "slow" in kept and now < kept["again_at"]:
            return dict(kept["slow"])
        if kept.get("fixed") is None or None in kept["fixed"].values():
            pci = gpu.ask("nvmlDeviceGetPciInfo_v3")
            kept["fixed"] = {
                "name": gpu.ask("nvmlDeviceGetName"),
                "uuid": gpu.ask("nvmlDeviceGetUUID"),
                "pci_bus_id": None if pci is None else str(pci.busId),
            }
        limit, fan = gpu.first(POWER_LIMIT), gpu.ask("nvmlDeviceGetFanSpeed")
        plain, split = gpu.ask("nvmlDeviceGetMemoryInfo"), gpu.ask("nvmlDeviceGetMemoryInfo", _MEMORY_V2)
        mode = gpu.ask("nvmlDeviceGetComputeMode")
        mig = gpu.ask("nvmlDeviceGetMigMode")
        kept["parts"] = _parts(gpu) if mig and mig[0] else []
        kept["slow"] = {
            **kept["fixed"],
            "power_limit": None if limit is None else limit / 1000,
            "memory_clock": gpu.ask("nvmlDeviceGetClockInfo", CLOCK_MEMORY),
            "fan": None if fan is None else float(fan),
            "memory_reserved": None if split is None or plain is None else split.reserved,
            "ecc_uncorrected": gpu.ask("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _SINCE_START),
            "compute_mode": _MODES.get(mode),
            "mig": None if mig is None else bool(mig[0]),
        }
        kept["again_at"] = now + SLOW_S
        return dict(kept["slow"])

    def _on(self, gpu: Gpu, parts: list[Gpu]) -> tuple[CardProcess, ...] | None:
        """Who is on a card; of one in slices the card itself tells only root, the slices tell everybody."""
        found: dict[int, CardProcess] = {}
        known = self._list(gpu, None, found)
        for part in parts:
            known |= self._list(part, part.kept["slice_id"], found)
        if not known:
            return None
        busy = self._sm(gpu) if found else {}
        return tuple(replace(process, sm=busy.get(pid)) for pid, process in sorted(found.items()))

    def _list(self, gpu: Gpu, slice_id: int | None, found: dict[int, CardProcess]) -> bool:
        """Add the processes of a card or a slice to `found`; whether it could be asked."""
        known = False
        for kind, functions in _KINDS.items():
            answer = gpu.first(functions)
            known |= answer is not None
            for each in answer or ():
                told = getattr(each, "gpuInstanceId", _NO_SLICE)
                where = slice_id if told in (None, _NO_SLICE) else told
                self._add(found, each.pid, kind, each.usedGpuMemory, where)
        return known

    def _add(self, found: dict[int, CardProcess], pid: int, kind: str, used: int | None, slice_id: int | None) -> None:
        before = found.get(pid)
        if before is not None:
            kinds = f"{before.kind}+{kind}" if {before.kind, kind} == {"compute", "graphics"} else kind
            found[pid] = replace(
                before,
                kind=before.kind if kind == before.kind else kinds,
                memory_used=used if before.memory_used is None else before.memory_used,
                slice_id=slice_id if before.slice_id is None else before.slice_id,
            )
            return
        who = self._processes.describe(pid)
        process = CardProcess(pid=pid, kind=kind, memory_used=used, slice_id=slice_id, visible=who is not None)
        if who is not None:
            process = replace(
                process,
                user=who.user,
                command=who.command,
                started_at=who.started_at,
                mine=who.mine,
                own=who.own,
                job=who.job,
                container=who.container,
            )
        found[pid] = process

    def _sm(self, gpu: Gpu) -> dict[int, float]:
        """Percent of the SMs' time by process: its newest sample of the last second."""
        samples = gpu.ask("nvmlDeviceGetProcessUtilization", int(self._wall() * 1e6) - _SAMPLES_US)
        newest: dict[int, Any] = {}
        for sample in samples or ():
            if sample.pid and (sample.pid not in newest or sample.timeStamp >= newest[sample.pid].timeStamp):
                newest[sample.pid] = sample
        return {pid: float(sample.smUtil) for pid, sample in newest.items() if sample.smUtil <= 100}


def _reasons(mask: int | None) -> tuple[str, ...] | None:
    if mask is None:
        return None
    if mask & _ITS_CAUSES:  # the cause says more
        mask &= ~_HARDWARE_SLOWDOWN
    return tuple(words for bit, words in _REASONS.items() if mask & bit)


def _parts(gpu: Gpu) -> list[Gpu]:
    """The MIG devices of a card."""
    parts: list[Gpu] = []
    for index in range(gpu.ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
        handle = gpu.ask("nvmlDeviceGetMigDeviceHandleByIndex", index)
        if handle is not None:
            part = gpu.part(handle)
            part.kept["slice_id"] = part.ask("nvmlDeviceGetGpuInstanceId")
            part.kept["name"], part.kept["uuid"] = part.ask("nvmlDeviceGetName"), part.ask("nvmlDeviceGetUUID")
            parts.append(part)
    return parts


def _slice(part: Gpu) -> MigSlice:
    memory = part.ask("nvmlDeviceGetMemoryInfo")
    return MigSlice(
        slice_id=part.kept["slice_id"],
        name=part.kept["name"],
        uuid=part.kept["uuid"],
        memory_used=None if memory is None else memory.used,
        memory_total=None if memory is None else memory.total,
    )


def _alone(card: Card, part: MigSlice) -> Card:
    """A slice as if it were a card."""
    mine = None if card.processes is None else tuple(p for p in card.processes if p.slice_id == part.slice_id)
    return Card(
        index=card.index,
        name=part.name,
        uuid=part.uuid,
        pci_bus_id=card.pci_bus_id,
        memory_used=part.memory_used,
        memory_total=part.memory_total,
        compute_mode=card.compute_mode,
        processes=mine,
    )
