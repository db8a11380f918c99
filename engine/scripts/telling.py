"""Where everything that is told of a script's run passes: on to who listens, and into its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.contract.events import Event, MemoryMoment, UpdateDone
from engine.contract.records import DeviceInfo, Memory, RunRecord
from engine.contract.run_figures import RunFigures
from engine.scripts.verdicts import Verdict


class Telling:
    """Of one run. `record` is the run as it began."""

    def __init__(self, record: RunRecord, emit: Callable[[Event], None]) -> None:
        self._run_id, self._emit = record.run_id, emit
        self._figures = RunFigures(record)
        self._memory = Memory()  # the last that was told

    def tell(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, UpdateDone) and event.memory.used is not None:  # what has ended has none
            self._memory = event.memory
        self._figures.add(event)
        self._emit(event)

    def moment(self, moment: str) -> None:
        """Tell the memory of a moment: what the last update had."""
        self.tell(MemoryMoment(run_id=self._run_id, moment=moment, memory=self._memory))

    def so_far(self) -> RunRecord:
        """What was told until now. Any thread may ask."""
        return self._figures.as_record()

    def ended(self, verdict: Verdict, device: DeviceInfo) -> RunRecord:
        """The record of a run that ended so."""
        return replace(
            self.so_far(),
            outcome=verdict.outcome,
            message=verdict.message,
            failed_phase=verdict.phase,
            failed_rank=verdict.rank,
            device=device,
        )
