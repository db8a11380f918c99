"""Where an update's time goes: marks at the borders of its phases, read once the device has passed them."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import pairwise
from typing import Any

from engine.contract.records import Phase, Shares
from engine.devices.base import Device


class Clock:
    """Phases follow one another; `enter` ends the one before. Times on CUDA are the GPU's own, from events."""

    def __init__(self, device: Device) -> None:
        self.phase = Phase.LOAD
        """The phase under way; an out-of-memory names it."""
        self._device = device
        self._began = time.perf_counter()
        self._marks: list[tuple[Phase | None, Any]] = []
        """Where phases begin; None: where it is waited for other ranks."""

    def start(self) -> None:
        """An update's time begins here."""
        self._marks = []
        self.enter(Phase.DATA)

    def start_training(self, since_s: float = 0.0) -> None:
        """The whole training's time begins here, or began `since_s` ago in the run that this one goes on with."""
        self._began = time.perf_counter() - since_s
        self.start()

    def enter(self, phase: Phase) -> None:
        """The run goes over to `phase`."""
        self.phase = phase
        self._marks.append((phase, self._device.mark()))
        self._device.enter(phase)

    def wait(self, begins: bool) -> None:
        """The run waits for other ranks from here on, or goes on with its phase. A phase that is entered ends it too.

        On CUDA it may be called in autograd's thread.
        """
        self._marks.append((None if begins else self.phase, self._device.mark()))

    @property
    def waits(self) -> bool:
        """Whether other ranks are waited for. Any thread may ask."""
        marks = self._marks
        return bool(marks) and marks[-1][0] is None

    def now(self) -> float:
        """Host seconds since `start_training`."""
        return time.perf_counter() - self._began

    def take(self) -> tuple[Shares, float]:
        """Wait for the device; the shares and the seconds of the update that ended, and start the next one's time.

        The phase stays that of the update that ended until `enter`: telling of it may fail too.
        """
        end = self._device.mark()
        self._device.synchronize()
        seconds: dict[Phase | None, float] = defaultdict(float)
        borders: list[tuple[Phase | None, Any]] = [*self._marks, (self.phase, end)]
        for (phase, start), (_, stop) in pairwise(borders):
            seconds[phase] += self._device.seconds(start, stop)
        self._marks = [(Phase.DATA, end)]
        self._device.enter(Phase.DATA)
        shares = Shares(
            data=seconds[Phase.DATA],
            forward=seconds[Phase.FORWARD],
            backward=seconds[Phase.BACKWARD],
            optimizer=seconds[Phase.CLIP] + seconds[Phase.OPTIMIZER],
            waiting=seconds[None],
        )
        return shares, self._device.seconds(borders[0][1], end)
