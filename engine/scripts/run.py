"""A run of the user's own command, from its start to its record: heard, read, stopped where asked, and judged.

The command goes on by itself should this process be killed: what it prints goes straight into its files.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event, Logged, RunProgress
from engine.contract.host_load import HostLoad
from engine.contract.numbers import n_of
from engine.contract.records import Outcome, Phase, Place, RunRecord
from engine.contract.script_combinations import NO_COMMAND, script_values
from engine.contract.script_figures import ScriptFigures
from engine.contract.stop_reason import BY_TERMINATION, BY_USER, stopped
from engine.scripts import verdicts
from engine.scripts.child import Child, environment_of
from engine.scripts.device import ScriptDevice
from engine.scripts.folding import Folding
from engine.scripts.hearing import read, take
from engine.scripts.listening import Listener
from engine.scripts.log_file import Printed
from engine.scripts.stopping import Patience, Stopping
from engine.scripts.telling import Telling
from engine.scripts.verdicts import Told, Verdict, shell_code
from engine.telemetry.nvml import Nvml

log = logging.getLogger("traintop")

_TICK_S = 0.1
_UNSEEN_S = 20.0


def words_of(config: RunConfig, run_id: int | None = None) -> list[str]:
    """The command with its values in it. Raises `ConfigError` where there is none."""
    command = config.script
    if command is None:
        raise ConfigError("command", NO_COMMAND)
    return command.filled(script_values(config, run_id))


@dataclass(kw_only=True)
class ScriptRun:
    """A script under way: what its processes told, and what its events have said so far."""

    record: RunRecord
    """The run as it began."""
    device: ScriptDevice
    nvml: Nvml
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    why_stopped: Callable[[], str] = lambda: BY_USER
    """Once it should stop: one of `engine.contract.stop_reason`."""
    times_stopped: Callable[[], int] = lambda: 1
    """How often that was asked for: who asks again waits no longer."""
    in_a_hurry: Callable[[], bool] = lambda: False
    """Whether the whole program is to end."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """That of the user, in which the command runs."""
    changes: Mapping[str, str] = field(default_factory=dict)
    """What the chosen device sets in it."""
    patience: Patience = field(default_factory=Patience)
    hub: object = None
    host: HostLoad = field(default_factory=HostLoad)
    goes_on: object = None
    keeps_model: bool = False
    """Nothing of ours: the script loads, goes on and saves by itself."""
    kept: None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._telling = Telling(self.record, self.emit)
        self._child: Child | None = None
        self._stopping: Stopping | None = None
        self._code: int | None = None
        self._unseen_at: float | None = None
        self._is_lost = False
        self._is_left = False

    def execute(self) -> RunRecord:
        """Run to the end. Never raises: what goes wrong is in the record's outcome and message.

        Raises `ConfigError` where the command cannot be started.
        """
        words = words_of(self.record.config, self.record.run_id)
        self._say(f"starting {shlex.join(words)[:200]}")
        printed = Printed(self.record.run_id)
        listener = Listener()
        try:
            if listener.path is None:
                self._warn("The script is not watched: no socket can be made in the temporary folder (see the log).")
            most = self.record.config.max_updates
            environment = environment_of(self.environ, listener.path, self.changes, most)
            try:
                self._child = Child(words, environment, printed.descriptors)
            finally:
                printed.let_go()
            self._unseen_at = time.monotonic() + _UNSEEN_S
            self.device.began(self._child.pid)
            self._say(f"process {self._child.pid} runs; what it prints is in {printed.path or 'no file'}")
            verdict = self._follow(self._child, listener, printed)
        finally:
            if self._child is not None and self._code is None:  # a defect of ours: nobody would watch it, nor stop it
                self._child.signal(signal.SIGKILL)
            listener.close()
            printed.close()
            self.device.ended()
        return self._record(verdict, printed)

    def so_far(self) -> RunRecord:
        """What its events have told until now. Any thread may ask."""
        return self._telling.so_far()

    def place(self) -> Place | None:
        """Where it is within a step: that is not told."""
        return None

    def _follow(self, child: Child, listener: Listener, printed: Printed) -> Verdict:
        folding = Folding(
            run_id=self.record.run_id,
            device=self.device,
            nvml=self.nvml,
            host=platform.node(),
            log_path=str(printed.path) if printed.path else None,
            most=self.record.config.max_updates,
        )
        while (code := child.poll()) is None:
            self._hear(folding, listener, _TICK_S)
            self._show(printed)
            self._stop_if_due(child, folding)
            self._say_if_unseen(listener)
        self._code = code
        self._drain(folding, listener)
        child.remember(listener.pids)
        self._end_family(child, folding, listener)
        self._take_in(folding.rest())
        for line in printed.rest():
            self.emit(line)
        self._telling.moment("trained" if folding.trains else "end")
        return self._judge(code, folding, listener, printed)

    def _say_if_unseen(self, listener: Listener) -> None:
        """Say once that nothing of the command is watched, after what it takes to start."""
        if self._unseen_at is not None and time.monotonic() >= self._unseen_at:
            self._unseen_at = None
            if listener.path is not None and not listener.was_found:
                self._warn(f"{verdicts.NOT_WATCHED} What it prints and the device's memory are shown all the same.")

    def _hear(self, folding: Folding, listener: Listener, timeout_s: float) -> None:
        self._take_in(take(folding, listener, read(listener.hear(timeout_s))))

    def _take_in(self, events: Iterator[Event]) -> None:
        if self._is_lost:
            return
        try:
            for event in events:
                self._telling.tell(event)
        except Exception:  # a defect of ours must not take the script's run
            log.exception("what a script told could not be taken in")
            self._is_lost = True
            self._warn("What the script tells cannot be followed any more (details in the log file); it goes on.")

    def _drain(self, folding: Folding, listener: Listener) -> None:
        """What its processes have told before they ended, and who is still there may tell for a moment."""
        until = time.monotonic() + self.patience.draining_s
        self._hear(folding, listener, 0.0)
        while listener.n_open and time.monotonic() < until:
            self._hear(folding, listener, _TICK_S)

    def _show(self, printed: Printed) -> None:
        for line in printed.news():
            self.emit(line)

    def _stop_if_due(self, child: Child, folding: Folding) -> None:
        if not self.should_stop() and not folding.has_enough:
            return
        if self._stopping is None:
            self._stopping = Stopping(child.signal, self._wait_s)
        if (said := self._stopping.step(self.times_stopped())) is not None:
            self._say(said)

    def _wait_s(self, n_sent: int) -> float:
        """Seconds to wait after the last of so many signals."""
        if self.in_a_hurry():
            return self.patience.hurried_s
        if self.should_stop() and self.why_stopped() == BY_TERMINATION:
            return self.patience.terminated_s
        return self.patience.asked_s if n_sent == 1 else self.patience.told_s

    def _end_family(self, child: Child, folding: Folding, listener: Listener) -> None:
        """What a command leaves behind that was stopped or killed is ended; what else goes on is told."""
        others = child.others
        if not others:
            return
        if self._stopping is None and self._code is not None and self._code >= 0:
            named = ", ".join(str(each.pid) for each in others[:5])
            who = f"{'process' if len(others) == 1 else 'processes'} {named}"
            self._warn(f"The command ended, and what it started goes on, and is watched no more: {who}.")
            self._is_left = True
            return
        child.signal_others(signal.SIGTERM)
        until = time.monotonic() + (0.0 if self.in_a_hurry() else self.patience.behind_s)
        while child.others and time.monotonic() < until:
            self._hear(folding, listener, _TICK_S)
            if not listener.n_open:
                time.sleep(_TICK_S)
        child.signal_others(signal.SIGKILL)

    def _judge(self, code: int, folding: Folding, listener: Listener, printed: Printed) -> Verdict:
        if self._stopping is not None and not self.should_stop():
            message = f"Ended after {n_of(folding.update, 'update')}, as --max-updates says."
            return Verdict(outcome=Outcome.COMPLETED, message=message)
        if self._stopping is not None:
            message = stopped(self.why_stopped())
            if len(self._stopping.sent) > 1:
                message += f" It did not end by {self._stopping.sent[0].name}, and got {self._stopping.sent[-1].name}."
            return Verdict(outcome=Outcome.STOPPED, message=message)
        told = [
            Told(
                end=each.end,
                rank=each.hello.rank,
                updates=folding.update if each.last_update else 0,
            )
            for each in folding.errors
            if each.end is not None
        ]
        where = f"What it printed is in {printed.where}." if printed.where else ""
        seen = verdicts.Seen(
            updates=folding.update,
            torch=folding.n_heard > 0,
            backward=folding.n_backward,
            python=listener.was_found,
            goes_on=self._is_left,
            lost_rank=folding.lost.rank if folding.lost is not None else None,
        )
        return verdicts.of_end(code, told, seen, printed.last_errors, where)

    def _record(self, verdict: Verdict, printed: Printed) -> RunRecord:
        record = self._telling.ended(verdict, self.device.info)
        assert self._code is not None
        figures = replace(
            record.script or ScriptFigures(),
            exit_code=shell_code(self._code),
            log_path=str(printed.path) if printed.path else None,
        )
        return replace(record, script=figures)

    def _say(self, what: str) -> None:
        self._telling.tell(RunProgress(run_id=self.record.run_id, phase=Phase.LOAD, detail=what))

    def _warn(self, what: str) -> None:
        self.emit(Logged(source="engine", text=what, level="warning"))
