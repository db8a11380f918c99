"""A run on several GPUs, from the process that starts its ranks: it hears them, stops them, and ends them all at once.

It has what the session uses of `engine.training.run.Run`. PyTorch's own store brings the ranks together; this process
makes no context on any card. One thread for each rank reads its pipe, so that a rank that is stopped in the midst of
a message keeps nobody waiting.
"""

from __future__ import annotations

import logging
import os
import platform
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from engine.contract.config import ConfigError
from engine.contract.events import Event, MemoryMoment, RanksStarted, RunProgress, TrainingStarted, UpdateDone
from engine.contract.host_load import HostLoad
from engine.contract.records import DeviceInfo, Memory, Outcome, Phase, Place, RankInfo, RunRecord
from engine.contract.run_figures import RunFigures, larger, with_peaks
from engine.contract.stop_reason import BY_USER, stopped
from engine.process.machine import Machine
from engine.process.openmp import is_asked_for, threads_to_use
from engine.ranks import logs, verdicts
from engine.ranks.processes import Processes
from engine.ranks.rendezvous import Rendezvous
from engine.ranks.verdicts import Verdict
from engine.ranks.watch import Watch
from engine.ranks.wire import Assignment, Beat, Ended, Refused, Stop, Told
from engine.training.hub import Hub

if TYPE_CHECKING:
    from engine.training.saving.places import Checkpoint

log = logging.getLogger("traintop")

_TICK_S = 0.1
_SETTLE_S = 0.3
"""After the first failure is heard of, so long others may tell of the cause: a process that dies takes its neighbours'
connections with it, and they may be the first to say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds that are waited before ranks are ended."""

    stopping_s: float = 10.0
    """Once a stop was asked for, for the update under way to end."""
    hurried_s: float = 2.5
    """The same, where the program is to end."""
    leaving_s: float = 1.0
    """For a rank that has told how it ended."""


@dataclass(kw_only=True)
class RankGroup:
    """The ranks of one run. `names` are their cards, as `engine.devices.several.rank_devices` calls them."""

    record: RunRecord
    """The run as it began."""
    names: tuple[str, ...]
    cards: tuple[DeviceInfo, ...]
    hub: Hub
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    why_stopped: Callable[[], str] = lambda: BY_USER
    in_a_hurry: Callable[[], bool] = lambda: False
    """Whether the whole program is to end."""
    host: HostLoad = field(default_factory=HostLoad)
    goes_on: Checkpoint | None = None
    keeps_model: bool = False
    """Not done: the processes that have the model end with the run."""
    patience: Patience = field(default_factory=Patience)
    watch: Watch = field(default_factory=Watch)
    kept: None = field(default=None, init=False)
    assignments: list[Assignment] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._figures = RunFigures(self.record)
        self._memory: dict[int, Memory] = {}
        self._peaks: dict[int, Memory] = {}
        self._place: Place | None = None
        self._trains = False
        self._update = 0
        self._ends: dict[int, RunRecord] = {}
        self._refused: Refused | None = None
        self._gone: list[int] = []
        self._failed_at: float | None = None
        self._stop_at: float | None = None
        self._inbox: queue.SimpleQueue[tuple[int, list[Told] | None]] = queue.SimpleQueue()
        run_id, world_size = self.record.run_id, len(self.names)
        paths = logs.files(run_id, world_size)
        for rank, (name, card) in enumerate(zip(self.names, self.cards, strict=True)):
            self.assignments.append(
                Assignment(
                    rank=rank,
                    world_size=world_size,
                    name=name,
                    card=card,
                    record=self.record,
                    goes_on=self.goes_on,
                    hub_answers=self.hub.answers,
                    host=self.host,
                    threads=_threads(world_size, self.host),
                    environment=dict(os.environ),
                    log_path=paths[rank],
                )
            )

    def place(self) -> Place | None:
        """Where the first rank is within a long step; None where that is not known."""
        return self._place

    def memory(self) -> Memory:
        """Of the fullest rank, as they told last: any thread may ask."""
        return max(self._memory.values(), key=lambda memory: memory.used or 0, default=Memory())

    def execute(self) -> RunRecord:
        """Run to the end. What goes wrong is in the record's outcome and message.

        Raises `ConfigError` where the ranks say that the run cannot be done, and `OSError` where they cannot be
        started. No rank is left then either.
        """
        world_size = len(self.names)
        self.emit(RunProgress(run_id=self.record.run_id, phase=Phase.LOAD, detail=f"starting {world_size} processes"))
        with Rendezvous() as rendezvous, Processes(self.assignments, rendezvous.environment) as processes:
            if not processes.start(self.should_stop):
                return self._record(Verdict(outcome=Outcome.STOPPED, message=stopped(self.why_stopped(), loading=True)))
            self._tell_started(processes)
            verdict = self._follow(processes)
            processes.end(self.patience.leaving_s if self._all_ended else 0.0)
        self._place, self._memory = None, {}
        if self._refused is not None:
            raise ConfigError(self._refused.knob, self._refused.message)
        return self._record(verdict)

    def _tell_started(self, processes: Processes) -> None:
        ranks = tuple(
            RankInfo(rank=each.rank, device=each.card, host=platform.node(), pid=pid, log_path=each.log_path)
            for each, pid in zip(self.assignments, processes.pids, strict=True)
        )
        self.emit(RanksStarted(run_id=self.record.run_id, ranks=ranks))
        for rank, connection in enumerate(processes.connections):
            reads = threading.Thread(target=self._read, args=(rank, connection), name=f"rank {rank}", daemon=True)
            reads.start()

    def _read(self, rank: int, connection: Connection) -> None:
        """The work of a rank's reader."""
        try:
            while True:
                self._inbox.put((rank, connection.recv()))
        except Exception as error:  # the end of the pipe, as a rule; what is broken cannot be followed either
            if not isinstance(error, (EOFError, OSError)):
                log.exception("rank %s sent what cannot be read", rank)
            self._inbox.put((rank, None))

    def _follow(self, processes: Processes) -> Verdict | None:
        """Hear the ranks until the run is over; None where it ended as it should."""
        while True:
            self._hear()
            now = time.monotonic()
            if self._refused is not None or self._all_ended:
                return self._of_ends() if self._failed_at is not None else None
            if self._gone:
                rank = self._gone[0]
                update = self._update + 1 if self._trains else 0
                return verdicts.of_death(rank, processes.exit_code(rank), update, self.cards)
            if self._failed_at is not None and now - self._failed_at >= _SETTLE_S:
                return self._of_ends()
            if verdict := self._stopped_in_vain(processes, now):
                return verdict
            running = [rank for rank in range(len(self.names)) if rank not in self._ends]
            if verdict := self.watch.verdict(running, processes, self.cards):
                return verdict

    @property
    def _all_ended(self) -> bool:
        return len(self._ends) == len(self.names)

    def _hear(self) -> None:
        """Take what the ranks have told; waits a moment for it."""
        try:
            rank, told = self._inbox.get(timeout=_TICK_S)
            while True:
                self.watch.heard(rank)
                if told is None:
                    if rank not in self._ends:
                        self._gone.append(rank)
                else:
                    for each in told:
                        self._take(rank, each)
                rank, told = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _take(self, rank: int, told: Told) -> None:
        if isinstance(told, Beat):
            self._memory[rank] = told.memory
            if rank == 0:
                self._place = told.place
            self.watch.beat(told)
            self.emit(told.beat)
        elif isinstance(told, Ended):
            self._ends[rank] = told.record
            if told.record.outcome in (Outcome.FAILED, Outcome.OUT_OF_MEMORY) and self._failed_at is None:
                self._failed_at = time.monotonic()
        elif isinstance(told, Refused):
            self._refused = self._refused or told
        else:
            self._take_event(rank, told)

    def _take_event(self, rank: int, event: Event) -> None:
        if isinstance(event, MemoryMoment):
            self._remember(rank, event.memory)
        elif isinstance(event, UpdateDone):
            self._update = event.update
            for share in event.ranks:
                self._remember(share.rank, share.memory)
        elif isinstance(event, TrainingStarted):
            self._trains, self._update = True, event.resumed_at or 0
            self.watch.begin(self._update + 1)
        if rank == 0:
            self._figures.add(event)
            self.emit(event)

    def _remember(self, rank: int, memory: Memory) -> None:
        self._memory[rank] = memory
        self._peaks[rank] = with_peaks(self._peaks.get(rank, Memory()), memory)

    def _of_ends(self) -> Verdict:
        return verdicts.of_ends(self._ends, self.cards)

    def _stopped_in_vain(self, processes: Processes, now: float) -> Verdict | None:
        """Pass a stop on to the ranks; an end where they load, or do not follow it in time."""
        if not self.should_stop():
            return None
        why = self.why_stopped()
        if not self._trains:
            return Verdict(outcome=Outcome.STOPPED, message=stopped(why, loading=True))
        if self._stop_at is None:
            self._stop_at = now
            processes.tell(Stop(why=why))
        patience = self.patience.hurried_s if self.in_a_hurry() else self.patience.stopping_s
        if now - self._stop_at < patience:
            return None
        cut = f"{stopped(why)[:-1]}; update {self._update + 1} was cut short, as it had not ended in {patience:g} s."
        return Verdict(outcome=Outcome.STOPPED, message=cut)

    def _record(self, verdict: Verdict | None) -> RunRecord:
        """The run's record: the first rank's own, or where it has none what its events told."""
        first = self._ends.get(0)
        made = first if verdict is None and first is not None else self._figures.as_record()
        if verdict is not None:
            made = replace(
                made,
                outcome=verdict.outcome,
                message=verdict.message,
                failed_rank=verdict.rank,
                failed_phase=verdict.phase,
            )
        return self._with_peaks(made)

    def _with_peaks(self, record: RunRecord) -> RunRecord:
        """With the memory of all ranks: what the first one told of itself is not the fullest's."""
        peaks = self._peaks.values()
        return replace(
            record,
            peak_used=larger(record.peak_used, *(peak.peak_used for peak in peaks)),
            peak_reserved=larger(record.peak_reserved, *(peak.peak_reserved for peak in peaks)),
            peak_allocated=larger(record.peak_allocated, *(peak.peak_allocated for peak in peaks)),
            peak_used_by_rank=tuple(self._peaks.get(rank, Memory()).peak_used for rank in range(len(self.names))),
        )


def _threads(world_size: int, host: HostLoad) -> int | None:
    """That a rank computes with on the CPU: its part of the cores that are free; None where the user has said."""
    if is_asked_for():
        return None
    cores = Machine().threads()
    return max(1, threads_to_use(cores, cores, host.free) // world_size)
