"""The traced steps and evaluations of one model and technique, at any batch size and length."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

from engine.forecast.recording import Names, Recording, Script
from engine.forecast.sizes import NotAlikeError, Point, Sizes
from engine.forecast.speed import Work, work_at
from engine.forecast.step import StepPlan, record_scoring, record_step
from engine.techniques import attention
from engine.workloads.data_shape import BatchShape

MOST_TRACED = 4
"""Lengths traced where others cannot be foretold from some; the others count as the next longer one of them."""
_KEPT = 500
"""Scripts that are kept; each takes some 100 KB."""

Trace = Callable[[BatchShape], Recording]


class Traces:
    """Recordings made when they are asked for, and kept."""

    def __init__(self, plan: StepPlan) -> None:
        self._plan = plan
        self._works: dict[Point, Work] = {}
        self._steps = {
            accumulates: _Family(partial(self._step, accumulates=accumulates), plan.config.seq_len)
            for accumulates in (False, True)
        }
        self._scorings = _Family(partial(record_scoring, plan), plan.config.seq_len)
        self._names = Names()
        self._alone = False
        self._scripts: dict[tuple[BatchShape, bool | None, bool], Script] = {}
        self.n_parameters = sum(parameter.numel() for parameter in plan.model.parameters())
        taken = attention.note(plan.model, plan.config)
        self.notes = () if taken is None else (taken,)
        """Sentences on what the model turned out to be."""

    @property
    def names(self) -> Names:
        """Of what outlives its part, in all scripts."""
        return self._names

    def expect(self, batches: Collection[BatchShape], scored: Collection[BatchShape], *, accumulates: bool) -> None:
        """Say which scripts will be asked for, so that as few traces as possible are made."""
        self._alone = all(batch.samples == 1 for batch in batches)
        self._steps[accumulates].expect(batches)
        self._scorings.expect(scored)
        if len(self._scripts) > _KEPT:
            self._scripts.clear()

    def step(self, batch: BatchShape, *, accumulates: bool) -> Script:
        """What training on such a batch allocates, ready to be played. Raises `ForecastError`."""
        key = batch, accumulates, self._alone
        if key not in self._scripts:
            self._scripts[key] = Script(self._steps[accumulates].at(batch, alone=self._alone), self._names)
        return self._scripts[key]

    def scoring(self, batch: BatchShape) -> Script:
        """What scoring such a batch allocates. Raises `ForecastError`."""
        key = batch, None, self._alone
        if key not in self._scripts:
            self._scripts[key] = Script(self._scorings.at(batch, alone=self._alone), self._names)
        return self._scripts[key]

    def work(self, batch_size: int, width: float) -> Work:
        """The work of a micro-step on batches of `width` tokens on average, and of an optimizer step; `step` first."""
        return work_at(self._works, batch_size, width)

    def _step(self, batch: BatchShape, accumulates: bool) -> Recording:
        work = Work()
        recording = record_step(self._plan, batch, accumulates=accumulates, work=work)
        self._works.setdefault((batch.samples, batch.width), work)
        return recording


class _Family:
    """The recordings of one kind of work, as few of them traced as tell the others."""

    def __init__(self, trace: Trace, longest: int) -> None:
        self._trace = trace
        self._longest = longest
        self._traced: dict[BatchShape, Recording] = {}
        self._foretold: dict[tuple[bool, int, int | None], Sizes | None] = {}
        self._lengths: dict[bool, list[int]] = {}

    def expect(self, batches: Collection[BatchShape]) -> None:
        """The batches of a run."""
        self._lengths = {
            hides: sorted({batch.width for batch in batches if batch.hides is hides}) for hides in (False, True)
        }

    def at(self, batch: BatchShape, *, alone: bool) -> Recording:
        """The recording of a batch that was expected; `alone`: all batches of the run have one sample.

        One sample is traced itself: views take the place of copies there. In the last batch of an epoch, which is
        small anyway, that is let be.
        """
        samples, width, hides, _ = batch
        lengths = self._lengths[hides]
        base = 1 if alone else 2
        with suppress(NotAlikeError):
            sizes = self._sizes(hides, base, lengths[0] if len(lengths) == 1 else None)
            if sizes is not None:
                return sizes.at(samples, width)
        chosen = lengths[:: -max(1, len(lengths) // MOST_TRACED)]
        return self._recording(BatchShape(samples, min(length for length in chosen if length >= width), hides))

    def _sizes(self, hides: bool, base: int, length: int | None) -> Sizes | None:
        """What tells every number of samples from `base` on at one length, or at all of them; None where none does."""
        key = hides, base, length
        if key not in self._foretold:
            self._foretold[key] = None
            with suppress(NotAlikeError):
                points = self._points(base, length)
                self._foretold[key] = Sizes({p: self._recording(BatchShape(*p, hides)) for p in points})
        return self._foretold[key]

    def _points(self, base: int, length: int | None) -> list[Point]:
        if length is not None:
            return [(base, length)] if base == 1 else [(base, length), (base + 1, length)]
        # one of them odd, as some kernels do something more for rows that are not aligned
        lengths = [self._longest, -(-self._longest // 2), self._longest // 4 | 1]
        if lengths[-1] < 2 or len(set(lengths)) < 3:
            raise NotAlikeError
        more = [] if base == 1 else [(base + 1, self._longest)]
        return [(base, self._longest), *more, *((base, length) for length in lengths[1:])]

    def _recording(self, batch: BatchShape) -> Recording:
        if batch not in self._traced:
            other = self._traced.get(batch._replace(hides=not batch.hides))
            if other is not None and not other.depends_on_hiding:
                return other
            self._traced[batch] = self._trace(batch)
        return self._traced[batch]
