"""A run's events as lines: the transcript or JSON on stdout, everything that is for people on stderr.

Of a user's own script stdout is what the script writes there, and nothing else, as of `time` and `nsys`: the
transcript goes to stderr, where its lines begin with `traintop:`. With JSON the script's goes to stderr, all of it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from typing import Any, TextIO

from engine.compare.scaling import Scaling, nothing_known
from engine.contract.as_json import to_json
from engine.contract.events import (
    EngineFailed,
    EngineLoading,
    EngineReady,
    Event,
    JobKnown,
    Logged,
    RunFinished,
    RunRefused,
    RunStarted,
    Saved,
    WontEnd,
)
from engine.contract.job import BatchJob, time_left
from engine.contract.records import Outcome
from tui.console.passed_on import PassedOn
from tui.console.progress import Lines, ProgressBar, ProgressLines
from tui.console.transcript import Transcript
from tui.drawing.text import clean

SCRIPTS = ("stdout", "stderr", "left out")
"""Sources of lines that a script has printed, or that say that some are not told."""


class Report:
    """Writes the transcript or JSON to `out`, messages and progress to `err`.

    When a reader goes away (`| head`) or the disk is full, `lost` is set and nothing more is written.
    """

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool, scaling: Scaling = nothing_known) -> None:
        """`scaling` knows that of a run on several GPUs."""
        self.lost = False
        self._out, self._err = out, err
        self._as_json = as_json
        self._scaling = scaling
        self._transcript = Transcript(scaling)
        self._script: PassedOn | None = None
        """What the script prints whose run is under way."""
        on_terminal = err.isatty() and os.environ.get("TERM") != "dumb"
        self._progress: ProgressBar | ProgressLines | None = None
        if on_terminal or not as_json:
            self._progress = ProgressBar(err) if on_terminal else ProgressLines(err)

    def show(self, event: Event) -> None:
        """Report an event."""
        if isinstance(event, RunStarted) and event.config.is_script:
            self._begin_script(event)
        if isinstance(event, RunFinished) and self._script is not None:
            self._end_script(self._script)
        lines = (
            [json_line(event, self._scaling)]
            if self._as_json
            else [clean(line) for line in self._transcript.lines(event)]
        )
        if lines and self._script is not None and not self._as_json:
            for line in lines:
                self.say(line)
        elif lines:
            # out and err may be one terminal: then the bar is in the way of the transcript
            self._write(self._out, "".join(f"{line}\n" for line in lines), aside=not self._as_json)
        message = self._message(event)
        if message:
            self.say(message)
        if self._progress and not self.lost:
            try:
                self._progress.show(event)
            except OSError as error:
                self._lose(error)

    @property
    def shows_script(self) -> bool:
        """Whether the run under way is of a user's own script."""
        return self._script is not None

    def _begin_script(self, event: RunStarted) -> None:
        self._script = PassedOn(event.run_id, event.started_at, self._err if self._as_json else self._out, self._err)
        # a bar would stand in the way of what the script draws
        self._progress = None if self._as_json else ProgressLines(self._script)

    def _end_script(self, script: PassedOn) -> None:
        if not self.lost:
            try:
                script.end()
            except OSError as error:
                self._lose(error)

    def pass_on(self) -> None:
        """Write what a script has printed since the last call; a run of another job prints nothing."""
        if self._script is None or self.lost:
            return
        try:
            self._script.pass_on()
        except OSError as error:
            self._lose(error)

    def say(self, text: str) -> None:
        """A message for people."""
        self._write(self._script or self._err, f"{clean(text)}\n", aside=True)

    def end(self, text: str) -> None:
        """A last message for people, in the midst of a run."""
        if self._progress and not self.lost:
            self._progress.close()
        self.say(text)

    def _write(self, stream: Lines, text: str, *, aside: bool) -> None:
        if self.lost:
            return
        try:
            with self._progress.paused() if aside and self._progress else contextlib.nullcontext():
                stream.write(text)
                stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = True
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):
                self._err.write(f"The output cannot be written: {error.strerror or error}.\n")

    def _message(self, event: Event) -> str | None:
        match event:
            case RunRefused() | EngineFailed():
                return event.message
            case EngineLoading():
                return f"loading {event.what} …"
            case EngineReady():
                return event.note
            case JobKnown(job=BatchJob(ends_at=float() as ends_at) as job):
                return f"{job.words}: {time_left(max(0.0, ends_at - time.time()))} left ({job.source})"
            case WontEnd():
                return f"warning: {event.message}"
            case Saved(problem=str() as problem):
                return f"warning: {problem}"
            case Logged() if self._script is not None and event.source in SCRIPTS:
                return None  # it was passed on
            case Logged():
                return event.text if event.level == "info" else f"{event.level}: {event.text}"
            case RunFinished() if self._as_json and event.record.outcome is not Outcome.COMPLETED:
                return event.record.message
        return None


def json_line(event: Event, scaling: Scaling = nothing_known) -> str:
    """An event as one line of JSON, in ASCII."""
    return dump(event_json(event, scaling))


def event_json(event: Event, scaling: Scaling) -> dict[str, Any]:
    """An event as an object for JSON; of a run on several GPUs that is over with its scaling."""
    return to_json(event, scaling(event.record) if isinstance(event, RunFinished) else None)


def dump(value: Any) -> str:
    """One line of JSON. A number that JSON does not have (NaN, infinite: RFC 8259, section 6) becomes null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value
