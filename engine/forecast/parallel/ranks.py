"""The ranks of a model that is trained with DDP, or with ZeRO-1: what each allocates beside the traced step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch

from engine.contract.forecast_types import OPTIMIZER
from engine.forecast.parallel.buckets import Buckets, buckets_of, record_buckets
from engine.forecast.parallel.partition import partition
from engine.forecast.recording import Names, Script
from engine.forecast.replay import Beside
from engine.forecast.step import StepPlan, arrivals, record_steps
from engine.forecast.work import Work
from engine.techniques.decay import Group, groups_of
from engine.techniques.parallel.several import OF_ONE_TYPE, refuse_several_types
from engine.workloads.data_shape import BatchShape

_APART = 1 << 40
"""Between the keys of a step of its own and those of the parts that it is played among."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneRank:
    """What is known of a rank."""

    beside: Beside
    steps: Work | None = None
    """Its clipping and optimizer's step; None where those are one GPU's."""
    state_bytes: int = 0
    """Of the states that it keeps; 0 where those are one GPU's."""
    unified: int | None = None
    """Of them, those in unified memory; None where they are one GPU's."""

    def work(self, of_one: Work) -> Work:
        """A micro-step's, and its own optimizer step's."""
        if self.steps is None:
            return of_one
        own = {name: getattr(self.steps, name) for name in ("step_bytes", "step_operators", "step_calls")}
        return replace(of_one, **own)


class Ranks:
    """Those of one model and technique; `names` are its traces'."""

    def __init__(self, plan: StepPlan, names: Names) -> None:
        self._plan, self._names = plan, names
        self._arriving: list[torch.nn.Parameter] = []
        self._buckets: dict[int, Script] = {}
        self._steps: dict[tuple[tuple[int, ...], ...], OneRank] = {}

    def ddp(self, bucket_mib: int, batch: BatchShape) -> OneRank:
        """Any rank of DDP, as all are alike; `batch` is one that they train on. Raises `ForecastError`."""
        return OneRank(beside=Beside(buckets=self._wrapped(bucket_mib, batch)))

    def zero1(self, ranks: int, bucket_mib: int, batch: BatchShape) -> list[OneRank]:
        """Each rank of ZeRO-1; those with states of the same sizes are the same one.

        Raises `ConfigError` where a run would be refused, and `ForecastError`.
        """
        groups = groups_of(self._plan.config, self._plan.model)
        trained = (parameter for group in groups for parameter in group["params"])
        refuse_several_types(trained, self._plan.config.with_values(parallel="zero1"), OF_ONE_TYPE)
        buckets = self._wrapped(bucket_mib, batch)
        made = []
        for own in partition(groups, ranks):
            key = tuple(tuple(p.numel() for p in group["params"]) for group in own)
            if key not in self._steps:
                self._steps[key] = self._stepping(own, batch)
            rank = self._steps[key]
            made.append(replace(rank, beside=replace(rank.beside, buckets=buckets)))
        return made

    def buckets(self, bucket_mib: int, batch: BatchShape) -> Buckets:
        """In which gradients are averaged. Raises `ForecastError`."""
        trained = [parameter for parameter in self._plan.model.parameters() if parameter.requires_grad]
        arriving = self._arrive(batch)
        return buckets_of(trained, arriving, bucket_mib, progress(self._plan.model, arriving))

    @property
    def weights(self) -> list[int]:
        """Bytes of every tensor that is trained."""
        return [p.nbytes for p in self._plan.model.parameters() if p.requires_grad]

    def _arrive(self, batch: BatchShape) -> list[torch.nn.Parameter]:
        if not self._arriving:
            self._arriving = arrivals(self._plan, batch._replace(samples=2))
        return self._arriving

    def _stepping(self, own: list[Group], batch: BatchShape) -> OneRank:
        work = Work()
        recording = record_steps(self._plan, self._arrive(batch), own, work)
        script = Script(recording, self._names)
        script.keys = [each - _APART if each < 0 else each for each in script.keys]
        states = sum(
            size for size, kind in zip(recording.sizes, recording.categories, strict=True) if kind == OPTIMIZER
        )
        return OneRank(beside=Beside(steps=script), steps=work, state_bytes=states, unified=recording.unified)

    def _wrapped(self, bucket_mib: int, batch: BatchShape) -> Script:
        if bucket_mib not in self._buckets:
            recording = record_buckets(self._plan.model, self.buckets(bucket_mib, batch))
            self._buckets[bucket_mib] = Script(recording, self._names)
        return self._buckets[bucket_mib]


def progress(model: torch.nn.Module, arriving: Sequence[torch.nn.Parameter]) -> list[float]:
    """How much of backward is done at each arrival, 0 to 1, by the products with the weights that have had theirs.

    An embedding's own takes no product. A head that shares its weight comes first, though the gradient comes last.
    """
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    multiplied = {
        id(own)
        for module in model.modules()
        if not isinstance(module, torch.nn.Embedding)
        for own in module.parameters(recurse=False)
        if own.dim() > 1
    }
    costs = [p.numel() if id(p) in multiplied - looked_up else 0 for p in arriving]
    before = sum(p.numel() for p in arriving if id(p) in multiplied & looked_up)
    whole = max(1, before + sum(costs))
    return [(before + each) / whole for each in accumulate(costs)]
