"""How a model that FSDP divides is traced: as FSDP divides it, or by rule where this PyTorch's cannot be followed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from engine.contract.forecast_types import ForecastError
from engine.forecast.deep import Deep, Traced
from engine.forecast.layers import Layers
from engine.forecast.parallel.by_rule import ByRule
from engine.forecast.step import StepPlan
from engine.tracing import fsdp_private
from engine.workloads.data_shape import BatchShape

log = logging.getLogger("traintop")

PlanTrace = Callable[[StepPlan, BatchShape], Traced]


class Dividing:
    """Of one model and technique."""

    def __init__(self, plan: StepPlan) -> None:
        self._plan = plan
        self._alone = replace(plan, config=plan.config.with_values(gpus=1))
        self._rule = ByRule(plan.model, plan.config)
        self._reason: str | None = None
        if (name := fsdp_private.missing()) is not None:
            self._reason = f"this PyTorch has no {name}"
        elif fsdp_private.is_taken():
            self._reason = "this process is a rank itself"

    @property
    def note(self) -> str | None:
        """A sentence where it is by rule."""
        if self._reason is None:
            return None
        return (
            f"FSDP's own steps could not be followed ({self._reason}): this is by rule, a part of all weights, "
            "gradients and states beside two whole layers and their buffers, and may be off by 15 %, of a small model "
            "by 30 %."
        )

    def trace(self, trace: PlanTrace, layers: Layers | None, *, accumulates: bool) -> Callable[[BatchShape], Traced]:
        """`trace`, of a whole model from some of its layers where they tell of it. Raises `ForecastError`."""
        divided, alone = (Deep(partial(trace, plan), layers) for plan in (self._plan, self._alone))

        def traced(batch: BatchShape) -> Traced:
            if self._reason is None:
                try:
                    return divided(batch)
                except ForecastError as error:
                    why = error
            whole = alone(batch)
            if self._reason is None:
                log.warning("FSDP is forecast by rule", exc_info=why)
                self._reason = "it failed on meta tensors; the log has the reason"
            return Traced(self._rule.recording(whole.recording, accumulates=accumulates), self._rule.work(whole.work))

        return traced
