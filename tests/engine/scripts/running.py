"""Runs a command as the session does, and keeps what it told."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import Event, Logged, RunProgress
from engine.contract.records import RunRecord
from engine.contract.run_figures import new_record
from engine.scripts.device import ScriptDevice, cpu
from engine.scripts.run import ScriptRun
from engine.scripts.stopping import Patience
from engine.telemetry.nvml import Nvml

SOON = Patience(asked_s=0.3, told_s=0.3, hurried_s=0.1, behind_s=0.5, draining_s=1.0)


class Runs:
    """One command. `on` is called with every event, and may ask it to stop."""

    def __init__(self, *words: str, patience: Patience = SOON, run_id: int = 1, **knobs: Any) -> None:
        nvml = Nvml()
        self.events: list[Event] = []
        self.times_stopped = 0
        self.on: Callable[[Event], None] = lambda event: None
        self.config = RunConfig(job="script", command=shlex.join(words), **knobs)
        self.environ: Mapping[str, str] = dict(os.environ)
        self.run = ScriptRun(
            record=new_record(run_id, self.config, cpu(), 0.0),
            device=ScriptDevice(cpu(), nvml),
            nvml=nvml,
            emit=self._take,
            should_stop=lambda: self.times_stopped > 0,
            times_stopped=lambda: self.times_stopped,
            patience=patience,
            environ=self.environ,
        )

    def execute(self) -> RunRecord:
        return self.run.execute()

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self.on(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def printed(self) -> list[str]:
        """The lines that were shown of what it printed."""
        return [event.text for event in self.of(Logged) if event.source in ("stdout", "stderr")]

    @property
    def progress(self) -> list[str]:
        return [event.detail for event in self.of(RunProgress)]

    def stop_when(self, text: str, times: int = 1) -> None:
        """Ask it to stop when it prints this line."""

        def on(event: Event) -> None:
            if isinstance(event, Logged) and event.text == text:
                self.times_stopped = times

        self.on = on


def python(*words: str, **options: Any) -> Runs:
    """Of this Python."""
    return Runs(sys.executable, *words, **options)
