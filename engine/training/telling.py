"""What a run tells while it is under way, whatever its job: its words, its memory, and what its events add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from engine.contract.events import Event, MemoryMoment, RunProgress
from engine.contract.host_load import HostLoad, is_busy, taken
from engine.contract.numbers import n_of
from engine.contract.records import Phase, RunRecord
from engine.contract.run_figures import RunFigures
from engine.devices.base import Device
from engine.techniques.stopping import Stopped


@dataclass(kw_only=True)
class Telling:
    """Of one run. What it says is also where a stop is heard."""

    record: RunRecord
    """The run as it began."""
    device: Device
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    figures: RunFigures = field(init=False)
    _said: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.figures = RunFigures(self.record)

    def tell(self, event: Event) -> None:
        """Tell an event, and count it."""
        self.figures.add(event)
        self.emit(event)

    def say(self, phase: Phase, detail: str) -> None:
        """Tell what takes time; the same words again are not repeated. Raises `Stopped` where that was asked for."""
        if detail != self._said:
            self._said = detail
            self.tell(RunProgress(run_id=self.record.run_id, phase=phase, detail=detail))
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """Raise `Stopped` where that was asked for."""
        if self.should_stop():
            raise Stopped

    def moment(self, moment: str) -> None:
        """Tell the memory at a moment of `MemoryMoment`."""
        self.tell(MemoryMoment(run_id=self.record.run_id, moment=moment, memory=self.device.memory_if_known()))

    def say_how_busy(self, host: HostLoad) -> None:
        """Tell that others keep the host busy, where they do. Raises as `say`."""
        cores, free = host.cores, host.free
        if cores is None or free is None or not is_busy(cores, free, self.device.info, self.record.config):
            return
        n = torch.get_num_threads()
        with_threads = f"computes with {n_of(n, 'thread')} and " if not self.device.runs_ahead else ""
        self.say(Phase.LOAD, f"Host busy: {taken(cores, free)}; this run {with_threads}is slower than on a quiet one.")
