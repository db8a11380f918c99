"""What the events of a run of the user's own script add up to. Pure; standard library only.

`engine.contract.run_figures` has it for the part of a record that only such a run has.
"""

from __future__ import annotations

import math
from copy import copy

from engine.contract.events import Event, FigureLogged, MemoryMoment, RanksStarted, Sampled, ScriptKnown, UpdateDone
from engine.contract.script_figures import ScriptFigures

_MOST_FIGURES = 200
_HELD = ("weights", "gradients", "optimizer")


class ScriptFold:
    """Folds one run's events into its `ScriptFigures`; the exit code is known to nobody before the end."""

    def __init__(self) -> None:
        self.known: ScriptKnown | None = None
        self._held: dict[str, int] = {}
        self._figures: dict[str, float] = {}
        self._seq_len: int | None = None
        self._n_ranks: int | None = None

    def copy(self) -> ScriptFold:
        """The same figures, apart from this object's."""
        other = copy(self)
        other._held, other._figures = dict(self._held), dict(self._figures)
        return other

    def add(self, event: Event) -> None:
        """Take one event in; most kinds say nothing about a script."""
        if isinstance(event, UpdateDone):
            self._hold(event.memory.by_category)
            if event.n_samples and event.n_tokens is not None:
                self._seq_len = max(self._seq_len or 0, math.ceil(event.n_tokens / event.n_samples))
        elif isinstance(event, (Sampled, MemoryMoment)):
            self._hold(event.memory.by_category)
        elif isinstance(event, FigureLogged):
            for name, value in event.figures.items():
                if name in self._figures or len(self._figures) < _MOST_FIGURES:
                    self._figures[name] = value
        elif isinstance(event, ScriptKnown):
            self.known = event
        elif isinstance(event, RanksStarted):
            self._n_ranks = len(event.ranks)

    def figures(self) -> ScriptFigures:
        """As far as they are known."""
        known = self.known or ScriptKnown(run_id=0)
        held = dict(self._held)
        if known.frozen is not None:
            held["weights"] = max(0, held.get("weights", 0) - known.frozen)
            held["frozen"] = known.frozen
        return ScriptFigures(
            log_path=known.log_path,
            model=known.model,
            optimizer=known.optimizer,
            told_by=known.told_by,
            batch_size=known.batch_size,
            gradient_accumulation_steps=known.gradient_accumulation_steps,
            seq_len=self._seq_len,
            held=held,
            figures=dict(self._figures),
            n_processes=known.n_processes or self._n_ranks,
            switched_off=known.switched_off,
        )

    def figure(self, name: str) -> float | None:
        """What its trainer logged last under this name, where that is a number."""
        value = self._figures.get(name)
        return value if value is not None and math.isfinite(value) else None

    def _hold(self, by_category: dict[str, int] | None) -> None:
        for name in _HELD:
            if by_category is not None and name in by_category:
                self._held[name] = max(self._held.get(name, 0), by_category[name])
