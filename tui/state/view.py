"""How the screen is looked at: scales, windows, the baseline's curves behind the live ones. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.contract.events import Event, TrainingStarted, UpdateDone
from tui.drawing.plot import Columns
from tui.state.cursor import Cursor

GHOST_POINTS = 1024
"""Points of a baseline's curve that are kept: more than a plot has columns."""
KEYS_SHOWN = 4


class Ghost:
    """The baseline's loss and samples/s over its training, to be drawn behind those of another run."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self._planned = 0
        self._points: list[tuple[int, float, float | None]] = []
        self._stride = 1
        self._seen = 0
        self._drawn: tuple[int, int, Columns, Columns] | None = None

    def add(self, events: Iterable[Event]) -> None:
        """Take stored events; of a long run every second, fourth, … update is kept."""
        for event in events:
            if isinstance(event, TrainingStarted):
                self._planned = event.planned_updates
            elif isinstance(event, UpdateDone):
                self._seen += 1
                if self._seen % self._stride:
                    continue
                rate = event.n_samples / event.update_s if event.update_s > 0 and not event.warmup else None
                self._points.append((event.update, event.loss, rate))
                if len(self._points) > 2 * GHOST_POINTS:
                    self._points, self._stride = self._points[::2], 2 * self._stride

    def curves(self, planned_updates: int) -> tuple[Columns, Columns]:
        """Loss and samples/s on the x axis of a run of `planned_updates`: at equal shares of the two trainings."""
        if self._drawn is None or self._drawn[:2] != (planned_updates, len(self._points)):
            scale = planned_updates / self._planned if self._planned else 1.0
            losses = Columns((update * scale, loss) for update, loss, _ in self._points)
            speeds = Columns((update * scale, rate) for update, _, rate in self._points if rate is not None)
            self._drawn = planned_updates, len(self._points), losses, speeds
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
    ghost: Ghost | None = None
    rank: int | None = None
    """Which rank of several is looked at; None: all of them, the fullest in front."""
    cursor: Cursor | None = None
    """Where the plots are read; None while they show what is newest."""

    def pressed(self, key: str) -> None:
        """Remember a key for those who watch."""
        self.keys = [*self.keys, key][-KEYS_SHOWN:]

    def ghost_of(self, run_id: int, planned_updates: int | None) -> tuple[Columns, Columns] | None:
        """The baseline's curves behind run `run_id`; None where there is none, or it is the baseline itself."""
        if self.ghost is None or self.ghost.run_id == run_id or not planned_updates:
            return None
        return self.ghost.curves(planned_updates)
