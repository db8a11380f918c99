"""How long an update's work takes on a card: an additive roofline, and the host that launches it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.contract.config import RunConfig
from engine.forecast.work import Work
from engine.gpus.catalogue import Gpu
from engine.gpus.host_link import host_bandwidth

EFFICIENCY = 0.706
"""Share of the peak rates outside tensor cores that training reaches: from the lecture's runs.

With it its batch sizes, and checkpointing at batch 8, come out within 6 %; on other cards it is a hypothesis.
"""
TENSOR_EFFICIENCY = 0.93
"""The same of tensor cores, once a product's operands have come and its result is gone.

This and the host's figures below are fitted together, to the least mean error of 31 runs on an H100
(`tests/engine/forecast/h100_measured.json`), 8 public ones and the lecture's; 7 others were kept back.
"""
OPERATOR_S = 8.8e-6
"""Seconds that the host takes to launch an operator."""
MODULE_S = 44e-6
"""Seconds that it takes for a module's Python around them."""
STEP_CALL_S = 172e-6
"""Seconds of an optimizer's own step beside its operators, where each parameter has its own in backward.

One run tells of it.
"""
APART = 1.5
"""How little of the host's time is hidden behind the GPU's: 1 would be none, as if each waited for the other; with a
large one the longer of the two counts alone. Every update ends with the host waiting for its figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """A card's peak rates, in FLOP/s and bytes/s."""

    flops: float
    """Of products outside tensor cores."""
    tensor_flops: float | None
    """Of products on tensor cores; None where they are not used."""
    rounds_fp32: bool = False
    """Whether those take products of fp32 numbers too (TF32)."""
    bytes: float
    host_bytes: float = math.inf
    """Between the card and its host."""

    @classmethod
    def of(cls, gpu: Gpu, config: RunConfig) -> Rates | None:
        """Those for a run; None where the card's are not known, or where it lacks the run's precision."""
        if gpu.peak(config.computed_in) is None or gpu.fp32 is None or gpu.memory_bandwidth is None:
            return None
        return cls(
            flops=gpu.fp32,
            tensor_flops=gpu.tensor_cores(config.computed_in),
            rounds_fp32=config.computed_in == "tf32",
            bytes=gpu.memory_bandwidth,
            host_bytes=host_bandwidth(gpu),
        )


def seconds(work: Work, micro_steps: int, rates: Rates) -> float:
    """Seconds of an update of so many micro-steps.

    On the GPU compute and traffic add up, as few kernels overlap the two; products outside tensor cores take so long
    that their own traffic is hidden. The host launches ahead: the longer of the two times counts, and some of the
    other where they are alike.
    """
    traffic = micro_steps * work.n_bytes + work.step_bytes
    device = (micro_steps * _products(work, rates) + traffic / rates.bytes) / EFFICIENCY
    device += micro_steps * work.moved_bytes / rates.host_bytes
    host = micro_steps * (OPERATOR_S * work.operators + MODULE_S * work.modules)
    host += OPERATOR_S * work.step_operators + STEP_CALL_S * work.step_calls
    return float((device**APART + host**APART) ** (1 / APART))


def _products(work: Work, rates: Rates) -> float:
    """Seconds of a micro-step's matrix products, at `EFFICIENCY` of all rates."""
    if rates.tensor_flops is None:
        return work.flops / rates.flops
    wide = 0 if rates.rounds_fp32 else work.wide_flops
    on_tensor_cores = (work.flops - wide) / rates.tensor_flops * EFFICIENCY / TENSOR_EFFICIENCY
    moved = work.product_bytes - (0 if rates.rounds_fp32 else work.wide_product_bytes)
    return wide / rates.flops + on_tensor_cores + moved / rates.bytes
