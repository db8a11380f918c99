"""What a run of the user's own script shows beside what every run does. Pure: no Textual, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.contract.distribution import Distribution
from engine.contract.events import FigureLogged, ScriptKnown, UpdateDone
from engine.contract.numbers import short_count
from engine.contract.throughput import Steady, steady
from tui.drawing.plot import Columns
from tui.drawing.text import clean

LOSS, EVAL_LOSS = "loss", "eval_loss"
"""What trainers log: the mean loss since they logged last, and that of an evaluation."""
FIRST_END, GROWTH = 20, 1.5
"""Of an x axis whose end nobody knows: it grows in steps, since all that is drawn moves with it."""


def model_words(known: ScriptKnown) -> str:
    """The model as far as it is known: `GPT 124M`."""
    many = short_count(known.n_parameters) if known.n_parameters is not None else ""
    return clean(" ".join(filter(None, (known.model, many))), 80)


@dataclass(slots=True)
class ScriptView:
    """As far as its events have told."""

    known: ScriptKnown | None = None
    """The newest; None until it trains."""
    logged: dict[str, float] = field(default_factory=dict)
    """What its trainer logged last, by name."""
    sees_losses: bool = False
    """Whether updates tell their loss; else those that its trainer logs are drawn."""
    last_loss: float | None = None
    """The newest one that is known."""
    rates: Columns = field(default_factory=Columns)
    """Updates/s, where nobody knows how many samples an update has."""
    end: float = FIRST_END
    """Of the x axis, where the number of updates is not known."""
    _steady: Distribution = field(default_factory=Distribution)

    @property
    def has_trainer(self) -> bool:
        """Whether a trainer logs for it."""
        return self.known is not None and self.known.told_by is not None

    @property
    def updates_per_s(self) -> Steady | None:
        """Of the updates after warm-up."""
        return steady(self._steady)

    def learn(self, event: ScriptKnown) -> str:
        """Take what is known now; what of it is new, in words: empty where nothing is to be told."""
        before, self.known = self.known, event
        if before is not None and before.planned_updates == event.planned_updates:
            return ""
        by = f" by {event.told_by}" if event.told_by is not None else ""
        planned = f"{event.planned_updates:,} updates planned{by}" if event.planned_updates is not None else ""
        return planned if before is not None else planned or "it does not say how many updates it will do"

    def updated(self, event: UpdateDone, losses: Columns) -> None:
        """Take one update: its loss into `losses`. One that is not seen is a gap, unless a trainer logs it later."""
        while self.end < event.update:
            self.end = float(round(self.end * GROWTH))
        if event.loss is not None:
            self.sees_losses = True
            self.last_loss = event.loss
        if event.loss is not None or not self.has_trainer:
            losses.append(event.update, event.loss)
        if event.update_s > 0 and event.n_samples is None:
            self.rates.append(event.update, 1 / event.update_s)
            if not event.warmup:
                self._steady.add(1 / event.update_s)

    def log(self, event: FigureLogged, losses: Columns, eval_losses: Columns) -> None:
        """Take what its trainer logged: losses into the plots."""
        figures: Mapping[str, float] = event.figures
        self.logged.update(figures)
        if LOSS in figures and not self.sees_losses:
            losses.append(event.update, figures[LOSS])
            self.last_loss = figures[LOSS]
        if EVAL_LOSS in figures:
            eval_losses.append(event.update, figures[EVAL_LOSS])
