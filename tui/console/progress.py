"""How far a run is, for people who watch without the screen: a bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from engine.contract.answer_entries import TG, TTFT_P50
from engine.contract.answer_pace import AnswerPace
from engine.contract.events import (
    AnsweringStarted,
    EvalDone,
    Event,
    MemoryMoment,
    MicroStepDone,
    RunFinished,
    RunStarted,
    Sampled,
    ScriptKnown,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.figures import LAST_LOSS, MEMORY, SPEED, heading_of, label_of
from engine.contract.numbers import UNKNOWN, clock
from engine.contract.pace import WholeTime
from engine.contract.records import Place, RunRecord
from engine.contract.run_figures import RunFigures, new_record
from engine.contract.script_entries import UPDATE_SPEED

if TYPE_CHECKING:
    from rich.progress import Progress


REFRESH_S = 0.2
"""Seconds between two drawings of the bar."""
ENDED = ("trained", "answered")
"""Moments after which nothing is left to wait for but what looks back."""
SILENCE_S = 30.0
"""After so long without a line a step that lasts says where it is."""


class Lines(Protocol):
    """Where lines are written."""

    def write(self, text: str, /) -> object:
        """Write whole lines."""

    def flush(self) -> None:
        """Leave none of it behind."""


class Pace:
    """Folds one run's events into how much of it is done. Pure."""

    def __init__(self) -> None:
        self.fraction = 0.0
        """Of the whole training, 0 to 1."""
        self.elapsed_s = self._done_s = 0.0
        self.place: Place | None = None
        """Where the run is within a step that takes long."""
        self._epochs: float = 1
        self._planned: int | None = None
        """Updates of a script: those that its trainer tells, or that it is run for."""
        self.is_script = False
        self._whole: WholeTime | None = None
        self._accumulation = 1
        self._per_epoch = 1
        self._micro_steps = ""
        """How many of all micro-steps are done, while an update is half done."""
        self._figures: RunFigures | None = None
        self._answers: AnswerPace | None = None

    def fold(self, event: Event) -> bool:
        """Take an event in; True when it moved the run forward, be it within a step."""
        if self._figures is not None:
            self._figures.add(event)
        if self._whole is not None:
            self._whole.add(event)
        if self._answers is not None and self._answers.add(event):
            self._forward(self._answers.fraction, self._answers.elapsed_s)
            return True
        match event:
            case RunStarted():
                self._figures = RunFigures(new_record(event.run_id, event.config, event.device, event.started_at))
                self._whole = WholeTime(event.config)
                self._answers = AnswerPace() if event.config.answers else None
                self._epochs, self._planned = event.config.epochs, event.config.max_updates
                self._accumulation = event.config.gradient_accumulation_steps
                self.is_script = event.config.is_script
            case TrainingStarted():
                self._per_epoch = max(1, event.micro_steps_per_epoch)
            case ScriptKnown():
                self._planned = min(filter(None, (self._planned, event.planned_updates)), default=None)
            case UpdateDone() if self.is_script:
                self._forward(event.update / self._planned if self._planned else 0.0, event.t)
                return True
            case MicroStepDone() if not self._ends_update(event.micro_step):
                self._micro_steps = f"micro-step {event.micro_step}/{event.micro_steps}, "
                self._forward(event.micro_step / event.micro_steps, event.t)
                return True
            case UpdateDone():
                self._micro_steps = ""
                if event.epoch is not None:
                    self._forward(event.epoch / self._epochs, event.t)
                return True
            case EvalDone():
                self._forward(self.fraction, event.t)
                return True
            case Sampled(t=float(t), place=Place() as place):
                self.place, self.elapsed_s = place, max(self.elapsed_s, t)
                return True
        return False

    def _ends_update(self, micro_step: int) -> bool:
        in_epoch = (micro_step - 1) % self._per_epoch + 1
        return in_epoch % self._accumulation == 0 or in_epoch == self._per_epoch

    def _forward(self, fraction: float, elapsed_s: float) -> None:
        self.fraction = max(self.fraction, min(1.0, fraction))
        self.elapsed_s, self._done_s, self.place = elapsed_s, elapsed_s, None

    @property
    def remaining_s(self) -> float | None:
        """Time to go at the pace so far; None before the first step."""
        if self._answers is not None:
            return self._answers.remaining_s
        whole = self._whole.seconds(self.fraction, self._done_s) if self._whole is not None else None
        return None if whole is None else max(0.0, whole - self.elapsed_s)

    def text(self) -> str:
        """Updates, loss and speed."""
        if self._figures is None:
            return ""
        row = self._figures.as_record()
        if self._answers is not None:
            return self._answering(self._answers, row)
        planned = self._planned or row.planned_updates
        of_all = "" if self.is_script and not planned else f"/{planned or UNKNOWN}"
        where = f"{self._micro_steps}update {row.updates}{of_all}"
        if self.place is not None:
            where += f", {self.place.words}"
        speed = UPDATE_SPEED if self.is_script and SPEED.read(row) is None else SPEED
        memory = f"  {MEMORY.of(row)} {MEMORY.unit}" if self.is_script and row.peak_used is not None else ""
        return f"{where}  loss {LAST_LOSS.of(row)}  {speed.of(row)} {heading_of(speed, [row])}{memory}"

    def _answering(self, pace: AnswerPace, row: RunRecord) -> str:
        """The request, what of it is written, and the speed."""
        if row.config.task == "classification":
            return f"{pace.done}/{pace.planned}  {SPEED.of(row)} {heading_of(SPEED, [row])}"
        if pace.warms_up:
            return "warming up"
        at = f", token {pace.token}" if pace.token else ""
        if self.place is not None:
            at = f", {self.place.words}"
        speed = f"{label_of(TG, [row])} {TG.of(row)} {TG.unit}"
        return f"request {min(pace.done + 1, pace.planned)}/{pace.planned}{at}  {speed}  TTFT {TTFT_P50.of(row)} ms"

    def clock(self) -> str:
        """Time passed and to go; of a script that does not say how far it will go, the time passed alone."""
        if self.is_script and self.remaining_s is None:
            return clock(self.elapsed_s)
        return f"{clock(self.elapsed_s)} < ~{clock(self.remaining_s)}"


class ProgressLines:
    """A line at every tenth of one run, and in the midst of a step that lasts for long; of a script, which may tell by
    itself how far it is, every `SILENCE_S`.
    """

    def __init__(self, stream: Lines) -> None:
        self._stream = stream
        self._pace = Pace()
        self._tenth = 0
        self._said_s = 0.0

    def show(self, event: Event) -> None:
        """Write a line when the event completes another tenth, or when there was none for `SILENCE_S`."""
        if not self._pace.fold(event):
            return
        pace = self._pace
        tenth, now = int(pace.fraction * 10 + 1e-9), pace.elapsed_s
        is_silent = now - self._said_s >= SILENCE_S
        if (is_silent and (pace.is_script or pace.place is not None)) or (tenth > self._tenth and not pace.is_script):
            self._tenth, self._said_s = tenth, now
            share = f"{int(pace.fraction * 100 + 1e-9):3} %  " if pace.fraction or not pace.is_script else ""
            self._stream.write(f"{share}{pace.text()}  {pace.clock()}\n")
            self._stream.flush()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is in the way of other lines."""
        yield

    def close(self) -> None:
        """Nothing is left to take away."""


class ProgressBar:
    """A bar on the last line of a terminal while one run trains, or answers. It makes no thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pace = Pace()
        self._bar: Progress | None = None
        self._drawn_at = 0.0

    def show(self, event: Event) -> None:
        """Draw the bar between the start of training and its end."""
        moved = self._pace.fold(event)
        if isinstance(event, (TrainingStarted, AnsweringStarted, ScriptKnown)) and self._bar is None:
            self._bar = self._new_bar()
            self._bar.start()
        elif isinstance(event, RunFinished) or (isinstance(event, MemoryMoment) and event.moment in ENDED):
            self.close()
        elif moved and self._bar and time.monotonic() - self._drawn_at >= REFRESH_S:
            self._drawn_at = time.monotonic()
            text, clock = self._pace.text(), self._pace.clock()
            self._bar.update(self._bar.task_ids[0], completed=self._pace.fraction, text=text, clock=clock)
            self._bar.refresh()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away while other lines are written."""
        bar = self._bar
        if bar:
            bar.stop()
        try:
            yield
        finally:
            if bar:
                bar.start()

    def close(self) -> None:
        """Take the bar away for good, in the midst of a run."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _new_bar(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (BarColumn(30), TaskProgressColumn(), TextColumn("{task.fields[text]}  {task.fields[clock]}"))
        console = Console(file=self._stream)
        # stdout and stderr stay as they are: stdout is another stream, and may be a file
        bar = Progress(
            *columns,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bar.add_task("", total=1.0, text=self._pace.text(), clock=self._pace.clock())
        return bar
