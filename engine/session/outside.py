"""What is on each real GPU outside this process's allocator: measured, where that can be, and its neighbours now."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.contract.records import DeviceInfo
from engine.telemetry.nvml import Nvml

if TYPE_CHECKING:
    from engine.devices.base import Device
    from engine.devices.cuda import Outside

log = logging.getLogger("traintop")


class OutsideMemory:
    """A context takes the same on every card of a name, so one that was measured counts for the others too."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._measured: dict[tuple[str, str | None], Outside] = {}

    def measure(self, device: Device) -> None:
        """Put a context and the libraries on a CUDA GPU, and keep what they take. Never raises: it is a help, no need.

        Left out where another process is: its memory comes and goes meanwhile, and ours may be what it lacks.
        """
        from engine.devices.cuda import CudaDevice

        if not isinstance(device, CudaDevice) or self._nvml.processes(device.uuid):
            return
        try:
            measured = device.measure_outside()
        except Exception as error:  # the card is full, or another process has it for itself: a run tells, if any
            log.warning("what a context takes on %s was not measured: %s", device.info.numbers, error)
            return
        if measured is not None:
            self._measured[_kind(device.info)] = measured

    def on(self, card: DeviceInfo) -> Outside | None:
        """What is on a CUDA GPU now; None where no card of its name was measured, or where NVML does not tell."""
        from engine.devices.cuda import own_bytes

        measured = self._measured.get(_kind(card))
        if measured is None or card.uuid is None or card.index is None:
            return None
        used = self._nvml.memory_used(card.uuid)
        return None if used is None else replace(measured, others=max(0, used - own_bytes(card.index, measured)))

    def beside(self, card: DeviceInfo) -> int:
        """Bytes of other processes on a CUDA GPU, as far as they are seen."""
        found = self._nvml.processes(card.uuid) if card.uuid is not None else None
        return sum(used or 0 for _, used in found or ())


def _kind(card: DeviceInfo) -> tuple[str, str | None]:
    return card.name, card.software
