"""What torch.compile makes of a forecast: a range, from what Inductor keeps and no temporaries to what eager takes.

Inductor keeps less for backward, and its fused kernels write no intermediate results: how few is not known before it
has compiled for the card. What it keeps is traced, for one layer and for two: the others are like the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.contract.forecast_types import ACTIVATIONS, TEMPORARIES, TimelinePoint
from engine.devices.precision import TracedPrecision
from engine.forecast.layers import cut, layer_lists
from engine.forecast.step import StepPlan
from engine.process import gate
from engine.workloads.data_shape import BatchShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes that a compiled forward keeps for backward."""

    per_token: float
    fixed: float

    def at(self, tokens: int) -> float:
        return self.fixed + tokens * self.per_token


def kept(plan: StepPlan, shape: BatchShape) -> Kept | None:
    """What the compiled forward keeps; None where that cannot be traced, as with checkpointing.

    `shape` is a batch of the run; that of another length is taken to keep as much a token.
    """
    if plan.config.gradient_checkpointing != "off":
        return None
    from engine.tracing.partition import PRIME, kept_by_compiled

    alike = shape._replace(samples=PRIME)
    batch = {
        name: torch.empty(alike.shape_of(name, per_token), dtype=torch.int64, device="meta")
        for name, per_token in plan.fields
    }
    lists = list(layer_lists(plan.model))
    depth = max((len(each.layers) for each in lists), default=0)
    found = []
    try:
        for n in (1, 2)[: max(1, depth)]:
            with gate.building(), cut(lists, n):
                found.append(kept_by_compiled(plan.model, batch, TracedPrecision(plan.config.precision).policy))
    except Exception:  # a model's own code, and what traces it, may raise anything
        return None
    (first, first_fixed), (second, second_fixed) = found[0], found[-1]
    more = max(0, depth - 1)
    tokens = alike.tokens / PRIME
    return Kept(
        per_token=(first + more * (second - first)) / tokens, fixed=first_fixed + more * (second_fixed - first_fixed)
    )


def least_allocated(course: Sequence[TimelinePoint], kept: Kept | None, tokens: int) -> int:
    """The most that is allocated over an update whose activations are what is kept, without temporaries."""
    return max((_least(point.by_category, kept, tokens) for point in course), default=0)


def _least(held: dict[str, int], kept: Kept | None, tokens: int) -> int:
    activations = held.get(ACTIVATIONS, 0)
    rest = sum(held.values()) - activations - held.get(TEMPORARIES, 0)
    return rest + round(activations if kept is None else min(activations, kept.at(tokens)))
