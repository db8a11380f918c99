"""A run of a process that traintop did not start, and that has asked to be watched: heard to its end, and judged."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import psutil

from engine.contract.events import Event
from engine.contract.host_load import HostLoad
from engine.contract.records import Outcome, Place, RunRecord
from engine.contract.stop_reason import BY_USER
from engine.scripts import verdicts
from engine.scripts.child import is_there
from engine.scripts.device import ScriptDevice
from engine.scripts.folding import Folding
from engine.scripts.hearing import read, take
from engine.scripts.listening import Heard, Listener
from engine.scripts.messages import End, Hello
from engine.scripts.telling import Telling
from engine.scripts.verdicts import Told, Verdict
from engine.telemetry.nvml import Nvml

_TICK_S = 0.2
_LAST_S = 1.0
"""For what the other processes of a launcher have to say when the first one is done."""
_OF_TRAINING = ("plan", "model", "updates")


class Attached:
    """A process that has asked to be watched. Once `trains` has returned True a run of it can begin."""

    def __init__(self, pid: int, *, is_interactive: bool) -> None:
        self.pid, self.is_interactive = pid, is_interactive
        self.listener = Listener()
        self.heard: list[Heard] = []
        """Before the run began."""
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.Error:
            self._process = None

    @property
    def is_there(self) -> bool:
        """Whether it goes on."""
        return self._process is not None and is_there(self._process)

    def trains(self, should_stop: Callable[[], bool]) -> bool:
        """Wait until it trains; False where it ends before, or `should_stop` says so."""
        while not should_stop():
            was_there = self.is_there
            heard = self.listener.hear(_TICK_S)
            self.heard += heard
            kinds = [message["kind"] for _, message in heard if message is not None]
            if any(kind in _OF_TRAINING for kind in kinds):
                return True
            if "end" in kinds or not was_there:
                return False
        return False


@dataclass(kw_only=True)
class AttachedRun:
    """The run of such a process: what it told so far."""

    record: RunRecord
    """The run as it began."""
    attached: Attached
    device: ScriptDevice
    nvml: Nvml
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    why_stopped: Callable[[], str] = lambda: BY_USER
    times_stopped: Callable[[], int] = lambda: 1
    hub: object = None
    host: HostLoad = field(default_factory=HostLoad)
    goes_on: object = None
    keeps_model: bool = False
    """Nothing of ours: the process loads, goes on and saves by itself."""
    kept: None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._telling = Telling(self.record, self.emit)
        self._own: set[int] = set()  # the connections of the process itself, not of those that it started
        self._end: End | None = None

    def execute(self) -> RunRecord:
        """Listen to the end. Never raises: what goes wrong is in the record's outcome and message."""
        folding = Folding(run_id=self.record.run_id, device=self.device, nvml=self.nvml, host=platform.node())
        listener = self.attached.listener
        self._take(folding, self.attached.heard)
        is_there = True
        while is_there and self._end is None and not self.should_stop():
            is_there = self.attached.is_there  # asked before: its last words are heard
            self._take(folding, listener.hear(_TICK_S))
        until = time.monotonic() + _LAST_S
        self._take(folding, listener.hear(0.0))
        while listener.n_open and self._end is not None and time.monotonic() < until:  # others under torchrun
            self._take(folding, listener.hear(_TICK_S))
        self._tell(folding.rest())
        self._telling.moment("trained")
        verdict = self._judge(folding)
        self.device.ended()
        return self._telling.ended(verdict, self.device.info)

    def place(self) -> Place | None:
        """Where it is within a step: that is not told."""
        return None

    def _take(self, folding: Folding, heard: Sequence[Heard]) -> None:
        understood = list(read(heard))
        for number, told in understood:
            if isinstance(told, Hello) and told.pid == self.attached.pid:
                self._own.add(number)
            elif isinstance(told, End) and number in self._own:
                self._end = told
        self._tell(take(folding, self.attached.listener, understood))

    def _judge(self, folding: Folding) -> Verdict:
        end = self._end
        if end is None and self.should_stop():
            message = f"It is not watched any more: that was ended{self.why_stopped()}. The process goes on."
            return Verdict(outcome=Outcome.STOPPED, message=message)
        if end is None:
            gone = f"Process {self.attached.pid} is gone without a word: it was killed, or it crashed."
            return Verdict(outcome=Outcome.INTERRUPTED, message=gone)
        if (end.error or "").startswith("KeyboardInterrupt"):
            return Verdict(outcome=Outcome.STOPPED, message="Stopped by Ctrl-C, or by the notebook's stop.")
        if self.attached.is_interactive and end.phase is None:  # of a cell that came after the training
            end = replace(end, error=None, out_of_memory=False)
        told = Told(end=end, rank=None, updates=folding.update)
        seen = verdicts.Seen(updates=folding.update, torch=True, python=True)
        return verdicts.of_end(0 if end.error is None else 1, [told], seen, [], "")

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._telling.tell(event)
