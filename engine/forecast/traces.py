"""The traced steps of one model and technique, at any batch size: from two recordings, as sizes are affine."""

from __future__ import annotations

from dataclasses import replace

from engine.forecast.recording import AffineSizes, NotAffineError, Recording, Script
from engine.forecast.speed import Work
from engine.forecast.step import StepPlan, record_step
from engine.techniques import attention


class Traces:
    """Recordings made when they are asked for, and kept. `plan.accumulates` is set here."""

    def __init__(self, plan: StepPlan) -> None:
        self._plan = plan
        self._recordings: dict[tuple[int, bool], Recording] = {}
        self._work: dict[int, Work] = {}
        self._affine: dict[bool, AffineSizes | None] = {}
        self.n_parameters = sum(parameter.numel() for parameter in plan.model.parameters())
        taken = attention.note(plan.model, plan.config)
        self.notes = () if taken is None else (taken,)
        """Sentences on what the model turned out to be."""

    def script(self, batch_size: int, *, accumulates: bool) -> Script:
        """What is allocated at this batch size, ready to be played.

        Batch 1 is traced itself: views take the place of copies there. Raises `ForecastError`.
        """
        affine = self._affine_sizes(accumulates) if batch_size > 1 else None
        return Script(affine.at(batch_size) if affine else self._recording(batch_size, accumulates))

    def work(self, batch_size: int) -> Work:
        """The work of a micro-step and of an optimizer step; `script` comes first."""
        if batch_size not in self._work:
            return self._work[2].at(batch_size, self._work[3])
        return self._work[batch_size]

    def _affine_sizes(self, accumulates: bool) -> AffineSizes | None:
        if accumulates not in self._affine:
            try:
                pair = self._recording(2, accumulates), self._recording(3, accumulates)
                self._affine[accumulates] = AffineSizes(2, *pair)
            except NotAffineError:
                self._affine[accumulates] = None
        return self._affine[accumulates]

    def _recording(self, batch_size: int, accumulates: bool) -> Recording:
        key = batch_size, accumulates
        if key not in self._recordings:
            work = Work()
            plan = replace(self._plan, accumulates=accumulates)
            self._recordings[key] = record_step(plan, batch_size, work)
            self._work.setdefault(batch_size, work)
        return self._recordings[key]
