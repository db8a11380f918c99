"""Traces of a deep model from traces of the same model with few layers, wherever those tell all of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.contract.forecast_types import ForecastError
from engine.forecast.fold import Fold, NotFoldedError
from engine.forecast.layers import Layers, cut
from engine.forecast.recording import Recording
from engine.workloads.data_shape import BatchShape


@dataclass(frozen=True, slots=True)
class Traced:
    """A batch's recording, and its work where that is counted."""

    recording: Recording
    work: Any
    """A `Work`, or what has several of them and deepens as one does."""


class Deep:
    """`trace` of a model with these layers: of the whole model only where fewer layers do not tell of it."""

    def __init__(self, trace: Callable[[BatchShape], Traced], layers: Layers | None) -> None:
        self._trace = trace
        self._layers = layers
        self._folds: list[Fold] = []

    def __call__(self, batch: BatchShape) -> Traced:
        """The trace of a batch. Raises `ForecastError`."""
        if self._layers is not None:
            try:
                return self._told(batch, self._layers)
            except (NotFoldedError, ForecastError):
                self._layers = None
        return self._trace(batch)

    def _told(self, batch: BatchShape, layers: Layers) -> Traced:
        shallow, middle = (self._cut(batch, layers, depth) for depth in layers.depths[:2])
        work = middle.work.deeper(shallow.work, layers.steps - 1)
        for fold in self._folds:
            with suppress(NotFoldedError):
                return Traced(fold.unfold(shallow.recording, middle.recording), work)
        deep = self._cut(batch, layers, layers.depths[2])
        if middle.work.deeper(shallow.work, 1) != deep.work:
            raise NotFoldedError
        fold = Fold(shallow.recording, middle.recording, deep.recording, layers.steps)
        told = fold.unfold(shallow.recording, middle.recording)
        self._folds.append(fold)
        return Traced(told, work)

    def _cut(self, batch: BatchShape, layers: Layers, depth: int) -> Traced:
        with cut(layers.lists, depth):
            return self._trace(batch)
