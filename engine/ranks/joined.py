"""A run that this process trains together with others that torchrun or srun started.

Every process is a rank, and trains in a thread of its own, since one that stands in a collective hears nothing. Who
is the first to end otherwise than at the run's end leaves word why, and all others end as it did.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import threading
import time
from dataclasses import dataclass, field, replace

import torch

from engine.contract import paths
from engine.contract.config import ConfigError
from engine.contract.events import RanksStarted, RunProgress
from engine.contract.records import DeviceInfo, Outcome, Phase, Place, RankInfo, RunRecord
from engine.contract.stop_reason import stopped
from engine.contract.text import capitalised, first_line
from engine.process.launched import Launched
from engine.process.machine import Machine
from engine.process.openmp import is_asked_for
from engine.ranks.end import End
from engine.ranks.heart import Heart
from engine.ranks.meeting import Gone, Meeting, meet
from engine.ranks.others import Others, who
from engine.ranks.watch import Watch
from engine.ranks.wire import Beat
from engine.techniques.parallel.group import opened
from engine.techniques.parallel.several import several
from engine.techniques.stopping import Stopped
from engine.training.run import Run

log = logging.getLogger("traintop")

MEET_S = 600.0
"""Jobs start on their nodes one by one, and every process imports PyTorch from a disk that all share."""
GRACE_S = 3.0
"""For whoever ended first to leave word, and for the others to hear it."""
BEGINS = "begins"
"""Under which rank 0 tells the others what to run."""
_LOOK_S = 0.1
_COLLECTIVE = re.compile(r"gloo|NCCL|ProcessGroup|Connection (closed|reset) by peer|Dist\w*Error", re.IGNORECASE)
"""How a collective says that another rank has ended."""


@dataclass(kw_only=True)
class JoinedRun:
    """This rank's part of it, with the surface of `Run`. `meeting` is given where the rank has met rank 0 already."""

    here: Launched
    run: Run
    meeting: Meeting | None = None
    kept: None = field(default=None, init=False)
    """No process keeps a model that several trained."""

    def __post_init__(self) -> None:
        self._own: RunRecord | ConfigError | None = None
        self._met, self._done = threading.Event(), threading.Event()
        self._beat: Beat | None = None
        self._cards: tuple[DeviceInfo, ...] = ()
        self._info = RankInfo(
            rank=self.here.rank,
            device=self.run.device.info,
            host=platform.node(),
            pid=os.getpid(),
            log_path=str(paths.log_file(self.here.rank)),
        )

    def place(self) -> Place | None:
        """As `Run.place`."""
        return self.run.place()

    def execute(self) -> RunRecord:
        """As `Run.execute`; but where another rank ended first, this one ends as it did."""
        worker = threading.Thread(target=self._work, name="rank", daemon=True)
        worker.start()
        first = self._listen()
        worker.join(GRACE_S)  # it leaves the group
        own = self._own
        if isinstance(own, ConfigError) and (first is None or first.rank == self.here.rank):
            raise own
        record = own if isinstance(own, RunRecord) else self.run.so_far()
        return record if first is None else self._ended_as(first, record)

    def _ended_as(self, first: End, record: RunRecord) -> RunRecord:
        """The record of a run that ended as its rank did that ended first. Raises `ConfigError` where that refused."""
        message = f"{capitalised(first.who)}: {first.message}" if first.who else first.message or ""
        if first.outcome is None:
            raise ConfigError(first.knob, message)
        if first.outcome is Outcome.STOPPED:
            if not self.run.should_stop():
                return self._ended(Outcome.STOPPED, first.message or "", record)
            # it may have ended with the others before it was asked to, and so not have known why
            loading = (record.message or "").startswith(stopped("", loading=True)[:-1])
            return self._ended(Outcome.STOPPED, stopped(self.run.why_stopped(), loading=loading), record)
        rank, phase = first.rank, first.phase
        return replace(record, outcome=first.outcome, message=message, failed_rank=rank, failed_phase=phase)

    # the thread that trains -------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._train()
        except ConfigError as error:
            self._own = ConfigError(error.knob, error.message)  # without the frames
        except Stopped:
            self._own = self._ended(Outcome.STOPPED, stopped(self.run.why_stopped(), loading=True))
        except Exception as error:  # the group could not be opened, or be left
            log.error("rank %d broke outside its run", self.here.rank, exc_info=error)
            if self._own is None:
                self._own = self._ended(Outcome.FAILED, f"Failed while the ranks met: {first_line(error)[:300]}")
        finally:
            self._done.set()

    def _train(self) -> None:
        run = self.run
        meeting = self.meeting or meet(self.here, run.should_stop, MEET_S)
        if meeting is None:
            raise Stopped
        self.meeting = meeting
        self._met.set()
        if self.here.rank == 0:
            self._say_what_begins(meeting)
        ranks = self._all(Others(meeting.another()))
        if self.here.rank == 0:
            run.emit(RanksStarted(run_id=run.record.run_id, ranks=ranks))
        Heart(self.here.rank, run, self._keep_beat).start()
        self._cards = tuple(each.device for each in ranks)
        with opened(run.device.torch_device):
            run.together = several(run.record.config, run.device.torch_device)
            if not is_asked_for():
                torch.set_num_threads(self.here.threads(Machine().threads()))
            self._own = run.execute()
            if self._own.outcome is Outcome.COMPLETED:
                Others(meeting.another()).leave(GRACE_S)  # who closes the group early is taken for one that failed
            self._done.set()

    def _keep_beat(self, beat: Beat) -> None:
        self._beat = beat

    def _say_what_begins(self, meeting: Meeting) -> None:
        record, goes_on = self.run.record, self.run.goes_on
        folder = None if goes_on is None else str(goes_on.folder.absolute())
        started = {"run_id": record.run_id, "started_at": record.started_at}
        meeting.another().leave_word(BEGINS, {**started, "config": record.config.to_dict(), "resume": folder})

    def _all(self, others: Others) -> tuple[RankInfo, ...]:
        """Wait until all are there, each with its card. Raises `Stopped` and `ConfigError`."""
        here, run = self.here, self.run
        others.come(self._info)
        until, said = time.monotonic() + MEET_S, False
        while True:
            there = others.there()
            missing = sorted(set(range(here.world_size)) - there.keys())
            if not missing:
                return tuple(there[rank] for rank in range(here.world_size))
            if run.should_stop() or others.first() is not None:  # whose end this one follows
                raise Stopped
            if time.monotonic() > until:
                raise ConfigError(
                    "gpus",
                    f"Of {here.world_size} processes {len(there)} have come to {here.meeting_place} in {MEET_S:.0f} s, "
                    f"and {_ranks(missing)} not: see whether {here.by} started them.",
                )
            if not said and here.rank == 0:
                said = True
                detail = f"waiting at {here.meeting_place} for {_ranks(missing)} of {here.world_size}"
                run.emit(RunProgress(run_id=run.record.run_id, phase=Phase.LOAD, detail=detail))
            time.sleep(_LOOK_S)

    # the thread that listens ------------------------------------------------------------------------------------

    def _listen(self) -> End | None:
        """Until this rank has ended, or another otherwise than at the run's end: who was the first to."""
        while not self._met.wait(_LOOK_S):
            if self._done.is_set():  # nobody was met
                return None
        assert self.meeting is not None
        try:
            others = Others(self.meeting.another())
            first = self._first(others)
            # the meeting place may go with rank 0
            others.leave(GRACE_S if self.here.rank == 0 else 0.0, first.rank if first is not None else None)
            return first
        except Gone:
            self._done.wait(GRACE_S)
            own = self._own
            if isinstance(own, (RunRecord, ConfigError)) and not _is_collective(own):
                return None
            message = "its process, or the launcher's, is gone."
            return End(rank=0, who="rank 0", outcome=Outcome.FAILED, message=message)

    def _first(self, others: Others) -> End | None:
        watch = Watch()
        while not self._done.wait(_LOOK_S):
            if first := others.first():
                self._done.wait(GRACE_S)
                return first
            if end := self._judged(others, watch) or others.lost():
                return others.end(end)
        own = self._own
        if isinstance(own, ConfigError):
            return others.end(self._end(None, own.message, own.knob))
        assert own is not None
        if own.outcome is Outcome.COMPLETED:
            return None
        if own.outcome is Outcome.STOPPED and not self.run.should_stop():  # who was asked to says why
            return self._told(others)
        if _is_collective(own) and (found := self._whose_fault(others)):
            return found
        return others.end(self._end(own.outcome, own.message, phase=own.failed_phase))

    def _judged(self, others: Others, watch: Watch) -> End | None:
        """Hear where all stand; in the first rank: the end that is due to one that stands still."""
        for told in others.beat(self._beat):
            watch.heard(told.beat.rank)
            watch.beat(told)
            self.run.emit(told.beat)
        if self.here.rank or not self._cards:
            return None
        found = watch.verdict(range(self.here.world_size), self, self._cards)
        if found is None:
            return None
        return End(rank=found.rank or 0, who="", outcome=found.outcome, message=found.message, phase=found.phase)

    def is_stopped(self, rank: int) -> bool:
        """Nobody can tell of a process on another machine."""
        return False

    def _whose_fault(self, others: Others) -> End | None:
        """Who left a collective that failed here: who says so, or else who says nothing any more."""
        if first := self._told(others):
            return first
        lost = others.lost(GRACE_S * 0.8)
        return others.end(lost) if lost else None

    def _told(self, others: Others) -> End | None:
        """Who ended first, as far as word of it comes soon."""
        until = time.monotonic() + GRACE_S
        while (first := others.first()) is None and time.monotonic() < until:
            others.beat(self._beat)
            time.sleep(_LOOK_S)
        return first

    def _end(self, outcome: Outcome | None, message: str | None, knob: str = "", phase: Phase | None = None) -> End:
        return End(rank=self.here.rank, who=who(self._info), outcome=outcome, message=message, knob=knob, phase=phase)

    def _ended(self, outcome: Outcome, message: str, record: RunRecord | None = None) -> RunRecord:
        return replace(record or self.run.so_far(), outcome=outcome, message=message)


def _is_collective(own: RunRecord | ConfigError) -> bool:
    return isinstance(own, RunRecord) and own.outcome is Outcome.FAILED and bool(_COLLECTIVE.search(own.message or ""))


def _ranks(missing: list[int]) -> str:
    named = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
    return f"{'ranks' if len(missing) > 1 else 'rank'} {named}"
