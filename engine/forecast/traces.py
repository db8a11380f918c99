"""The traced steps and evaluations of one model and technique, at any batch size and length."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

from engine.forecast import compiled
from engine.forecast.deep import Deep, Traced
from engine.forecast.layers import Layers, find_layers
from engine.forecast.parallel.dividing import Dividing, PlanTrace
from engine.forecast.parallel.ranks import Ranks
from engine.forecast.recording import Names, Recording, Script
from engine.forecast.sizes import NotAlikeError, Point, Sizes
from engine.forecast.step import StepPlan, record_scoring, record_step
from engine.forecast.work import Work, work_at
from engine.techniques import attention, quantised
from engine.workloads.data_shape import BatchShape

MOST_TRACED = 4
"""Lengths traced beside the largest where others cannot be foretold from some; the others count as the next longer one.
"""
_KEPT = 500
"""Scripts that are kept; each takes some 100 KB."""

Trace = Callable[[BatchShape], Recording]


class Traces:
    """Recordings made when they are asked for, and kept."""

    def __init__(self, plan: StepPlan) -> None:
        self._plan = plan
        longest = plan.config.seq_len, plan.config.target_tokens
        self._dividing = Dividing(plan) if plan.config.is_divided else None
        self._works: dict[Point, Work] = {}
        layers = find_layers(plan.model, plan.model.config.get_text_config())  # type: ignore[operator, union-attr]
        self._steps = {
            accumulates: Family(partial(self._step, self._trace(_stepping(accumulates), layers, accumulates)), longest)
            for accumulates in (False, True)
        }
        self._scorings = Family(partial(_scoring, self._trace(_score, layers)), longest)
        self._compiled: dict[BatchShape, compiled.Kept | None] = {}
        self._names = Names()
        self.ranks = Ranks(plan, self._names)
        """Of a run on several GPUs with DDP or ZeRO-1."""
        self._alone = False
        self._scripts: dict[tuple[BatchShape, bool | None, bool], Script] = {}
        self.n_parameters = quantised.n_parameters(plan.model)
        self.unified = 0
        """Bytes of optimizer states in unified memory; `step` first."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what the model turned out to be, and on how it was traced; `step` first."""
        model, config = self._plan.model, self._plan.config
        dividing = None if self._dividing is None else self._dividing.note
        said = attention.note(model, config), quantised.note(model, config), dividing
        return tuple(note for note in said if note is not None)

    @property
    def names(self) -> Names:
        """Of what outlives its part, in all scripts."""
        return self._names

    def expect(self, batches: Collection[BatchShape], scored: Collection[BatchShape], *, accumulates: bool) -> None:
        """Say which scripts will be asked for, so that as few traces as possible are made."""
        self._alone = all(batch.samples == 1 for batch in batches)
        for some in {accumulates, accumulates and not self._plan.config.is_divided}:
            self._steps[some].expect(batches)
        self._scorings.expect(scored)
        if len(self._scripts) > _KEPT:
            self._scripts.clear()

    def step(self, batch: BatchShape, is_all: bool = False, *, accumulates: bool) -> Script:
        """What training on such a batch allocates, ready to be played; `is_all`: the batch is all that its window has.

        Among windows that accumulate such a one is another thing where gradients stay whole until the last micro-step.
        Raises `ForecastError`.
        """
        accumulates = accumulates and not (is_all and self._plan.config.is_divided)
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

    def work(self, batch_size: int, width: float, target: float) -> Work:
        """The work of a micro-step on batches of `width` tokens on average, and of an optimizer step; `step` first.

        `target` is the mean length of the targets.
        """
        return work_at(self._works, batch_size, (width, target))

    def compiled(self, batch: BatchShape) -> compiled.Kept | None:
        """What the compiled model keeps for backward of a batch of this length; None where that is not known."""
        alike = batch._replace(samples=1)
        if alike not in self._compiled:
            self._compiled[alike] = compiled.kept(self._plan, alike)
        return self._compiled[alike]

    def _trace(
        self, trace: PlanTrace, layers: Layers | None, accumulates: bool = False
    ) -> Callable[[BatchShape], Traced]:
        if self._dividing is not None:
            return self._dividing.trace(trace, layers, accumulates=accumulates)
        return Deep(partial(trace, self._plan), layers)

    def _step(self, trace: Callable[[BatchShape], Traced], batch: BatchShape) -> Recording:
        traced = trace(batch)
        self._works.setdefault((batch.samples, batch.width, batch.target), traced.work)
        self.unified = traced.recording.unified
        return traced.recording


def _stepping(accumulates: bool) -> PlanTrace:
    def traced(plan: StepPlan, batch: BatchShape) -> Traced:
        work = Work()
        return Traced(record_step(plan, batch, accumulates=accumulates, work=work), work)

    return traced


def _score(plan: StepPlan, batch: BatchShape) -> Traced:
    return Traced(record_scoring(plan, batch), Work())


def _scoring(trace: Callable[[BatchShape], Traced], batch: BatchShape) -> Recording:
    return trace(batch).recording


class Family:
    """The recordings of one kind of work, as few of them traced as tell the others."""

    def __init__(self, trace: Trace, longest: tuple[int, int]) -> None:
        self._trace = trace
        self._longest = longest
        self._traced: dict[BatchShape, Recording] = {}
        self._foretold: dict[tuple[bool, int, int | None, int | None, bool], Sizes | None] = {}
        self._lengths: dict[bool, list[tuple[int, int]]] = {}
        """Of rows and their targets, by whether they hide something."""

    def expect(self, batches: Collection[BatchShape]) -> None:
        """The batches of a run."""
        self._lengths = {
            hides: sorted({(batch.width, batch.target) for batch in batches if batch.hides is hides})
            for hides in (False, True)
        }

    def at(self, batch: BatchShape, *, alone: bool) -> Recording:
        """The recording of a batch that was expected; `alone`: all batches of the run have one sample.

        One sample is traced itself: views take the place of copies there. In the last batch of an epoch, which is
        small anyway, that is let be.
        """
        samples, width, hides, target = batch
        lengths = self._lengths[hides]
        base = 1 if alone else 2
        widths, targets = {each for each, _ in lengths}, {each for _, each in lengths}
        for odd in (False, True):
            with suppress(NotAlikeError):
                sizes = self._sizes(hides, base, _only(widths), _only(targets), odd=odd)
                if sizes is not None and not (odd and (width, target) in _largest(lengths)):
                    return sizes.at(samples, width, target)
        chosen = {*lengths[:: -max(1, len(lengths) // MOST_TRACED)], *_largest(lengths)}
        width, target = min((one for one in chosen if one[0] >= width and one[1] >= target), key=sum)
        return self._recording(BatchShape(samples, width, hides, target))

    def _sizes(self, hides: bool, base: int, width: int | None, target: int | None, *, odd: bool) -> Sizes | None:
        """What tells every number of samples from `base` on at the lengths given, or at all; None where none does.

        `odd`: from odd lengths alone. A trained bias on attention's scores, as T5's, is copied in rows of other lengths
        than multiples of 16, which are most; the others are then told with one copy too many.
        """
        key = hides, base, width, target, odd
        if key not in self._foretold:
            self._foretold[key] = None
            with suppress(NotAlikeError):
                points = self._points(base, width, target, odd)
                shapes = {point: BatchShape(point[0], point[1], hides, point[2]) for point in points}
                self._foretold[key] = Sizes({point: self._recording(shape) for point, shape in shapes.items()})
        return self._foretold[key]

    def _points(self, base: int, width: int | None, target: int | None, odd: bool) -> list[Point]:
        widths = [width] if width is not None else _three(self._longest[0], odd)
        targets = [target] if target is not None else _three(self._longest[1], odd)
        # of nine pairs the six that a polynomial of the second degree needs
        pairs = [(w, t) for i, w in enumerate(widths) for j, t in enumerate(targets) if i + j < 3]
        more = [] if base == 1 else [(base + 1, *pairs[0])]
        return [(base, *pairs[0]), *more, *((base, *pair) for pair in pairs[1:])]

    def _recording(self, batch: BatchShape) -> Recording:
        if batch not in self._traced:
            other = self._traced.get(batch._replace(hides=not batch.hides))
            if other is not None and not other.depends_on_hiding:
                return other
            self._traced[batch] = self._trace(batch)
        return self._traced[batch]


def _largest(lengths: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of which no other one is longer in rows and targets: what decides the peak is traced itself."""
    found: list[tuple[int, int]] = []
    for one in reversed(lengths):  # sorted: each that comes has shorter rows
        if not found or one[1] > found[-1][1]:
            found.append(one)
    return found


def _only(lengths: set[int]) -> int | None:
    """The one that there is; None where there are several."""
    return next(iter(lengths)) if len(lengths) == 1 else None


def _three(longest: int, odd: bool) -> list[int]:
    """Lengths to tell others from. Raises `NotAlikeError` where there is no room for them."""
    # one of them odd, as some kernels do something more for rows that are not aligned
    lengths = [longest, -(-longest // 2), longest // 4 | 1]
    if odd:
        lengths = [(length - 1) | 1 for length in lengths]
    if lengths[-1] < 2 or len(set(lengths)) < 3:
        raise NotAlikeError
    return lengths
