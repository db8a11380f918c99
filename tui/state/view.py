"""How the screen is looked at: scales, windows, the baseline's curves behind the live ones. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.contract.config import RunConfig
from engine.contract.events import (
    BatchScored,
    Event,
    FigureLogged,
    ScriptKnown,
    TokensDone,
    TrainingStarted,
    UpdateDone,
)
from tui.drawing.plot import Columns
from tui.state.answer_course import AnswerCourse, AnswerEvent
from tui.state.cursor import Cursor
from tui.state.run_view import RunView
from tui.state.script_view import LOSS

GHOST_POINTS = 1024
"""Points of a baseline's curve that are kept: more than a plot has columns."""
KEYS_SHOWN = 4


class Ghost:
    """The baseline's curves over its run, to be drawn behind those of another of its job: loss and samples/s, of one
    that answers latency a token (ms) and tokens/s."""

    def __init__(self, run_id: int, config: RunConfig | None = None) -> None:
        self.run_id = run_id
        self._course = AnswerCourse(config) if config is not None and config.answers else None
        self._planned = 0
        """Updates or tokens; 0 where a script does not say."""
        self._points: list[tuple[float, float | None, float | None]] = []
        self._stride = 1
        self._seen = 0
        self._sees_losses = False
        self._drawn: tuple[int | None, int, Columns, Columns] | None = None

    def add(self, events: Iterable[Event]) -> None:
        """Take stored events; of a long run every second, fourth, … update is kept."""
        for event in events:
            if self._course is not None:
                if isinstance(event, AnswerEvent):
                    self._answered(self._course, event)
            elif isinstance(event, TrainingStarted):
                self._planned = event.planned_updates
            elif isinstance(event, UpdateDone):
                timed = event.update_s > 0 and not event.warmup
                rate = event.n_samples / event.update_s if timed and event.n_samples is not None else None
                self._sees_losses |= event.loss is not None
                self._keep(event.update, event.loss, rate)
            elif isinstance(event, ScriptKnown):
                self._planned = event.planned_updates or 0
            elif isinstance(event, FigureLogged) and LOSS in event.figures and not self._sees_losses:
                self._keep(event.update, event.figures[LOSS], None)

    def _answered(self, course: AnswerCourse, event: AnswerEvent) -> None:
        course.take(event)
        self._planned = course.planned or 0
        if isinstance(event, TokensDone) and not event.warmup and event.requests:
            arrived, seconds = sum(event.arrived), sum(event.gaps)
            if arrived and seconds:
                self._keep(course.progress, 1000 * seconds * len(event.requests) / arrived, arrived / seconds)
        elif isinstance(event, BatchScored) and not event.warmup and event.seconds > 0:
            self._keep(course.progress, 1000 * event.seconds, event.n_samples / event.seconds)

    def _keep(self, x: float, value: float | None, rate: float | None) -> None:
        self._seen += 1
        if self._seen % self._stride:
            return
        self._points.append((x, value, rate))
        if len(self._points) > 2 * GHOST_POINTS:
            self._points, self._stride = self._points[::2], 2 * self._stride

    def curves(self, planned: int | None) -> tuple[Columns, Columns]:
        """Both on the x axis of a run of `planned` updates or tokens: at equal shares of the two runs; where one of
        them does not say how many it does, at equal updates.
        """
        if self._drawn is None or self._drawn[:2] != (planned, len(self._points)):
            scale = planned / self._planned if planned and self._planned else 1.0
            values = Columns((x * scale, value) for x, value, _ in self._points if value is not None)
            speeds = Columns((x * scale, rate) for x, _, rate in self._points if rate is not None)
            self._drawn = planned, len(self._points), values, speeds
        return self._drawn[2:]


@dataclass(slots=True)
class View:
    """Switches of the screen that no run depends on."""

    log_y: bool = False
    """The loss on a logarithmic axis."""
    recent: bool = False
    """The last minute in the plots, not the whole run."""
    presenter: bool = False
    """Large figures and few panes, for a projector."""
    meter: str = ""
    """What the app itself costs; empty while nobody asks."""
    keys: list[str] = field(default_factory=list)
    """The last keys, shown while presenting."""
    caption: str = ""
    """What changed last, told while presenting."""
    ghosts: dict[str, Ghost] = field(default_factory=dict)
    """By job, the curves of its baseline."""
    rank: int | None = None
    """Which rank of several is looked at; None: all of them, the fullest in front."""
    cursor: Cursor | None = None
    """Where the plots are read; None while they show what is newest."""

    def pressed(self, key: str) -> None:
        """Remember a key for those who watch."""
        self.keys = [*self.keys, key][-KEYS_SHOWN:]

    def ghost_of(self, run: RunView) -> tuple[Columns, Columns] | None:
        """The baseline's curves behind a run; None where none is of its job, or it is the baseline itself."""
        ghost = self.ghosts.get(run.config.job)
        return None if ghost is None or ghost.run_id == run.run_id or run.x_end is None else ghost.curves(run.planned)
