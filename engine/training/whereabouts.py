"""Where a run is within a step that takes long, for whoever asks from another thread."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.contract.records import Phase, Place
from engine.training.clock import Clock

LONG_S = 1.0
"""A step that takes less needs no telling: what it did is told soon enough."""


class Whereabouts:
    """Written by the engine's thread, which only puts numbers down; read by any.

    `n_layers` is None where layers cannot be counted: the model's are not known, or its calls are compiled into one.
    """

    def __init__(self, clock: Clock, n_layers: int | None, now: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._n_layers = n_layers
        self._now = now
        self._layer = 0
        self._micro_step = self._micro_steps = 1
        self._began = now()

    def begin(self, micro_step: int = 1, micro_steps: int = 1) -> None:
        """A micro-step begins, the wait for its data, or a batch's evaluation."""
        self._layer = 0
        self._micro_step, self._micro_steps = micro_step, micro_steps
        self._began = self._now()

    def arrive(self, layer: int) -> None:
        """Computing comes to this layer."""
        if self._clock.phase is Phase.BACKWARD:
            layer = min(layer, self._n_layers or 0)  # the last one's forward is over again: checkpointing computed it
        elif layer <= self._layer:
            self._n_layers = None  # called again, or in another order: their number does not say where it is
        self._layer = layer

    @property
    def progress(self) -> tuple[float, int]:
        """When the step under way began, and the layer it came to: while both stay as they are, the run stands."""
        return self._began, self._layer

    def place(self) -> Place | None:
        """Where the step under way is; None until it has lasted for `LONG_S`."""
        began, layer, layers, phase = self._began, self._layer, self._n_layers, self._clock.phase
        micro_step, micro_steps = self._micro_step, self._micro_steps
        if self._now() - began < LONG_S or began != self._began:
            return None
        computes = phase in (Phase.FORWARD, Phase.BACKWARD, Phase.EVALUATE)
        known = layers if computes else None
        return Place(
            phase=phase,
            layer=layer if known is not None else None,
            layers=known,
            micro_step=micro_step,
            micro_steps=micro_steps if computes else 1,
        )
