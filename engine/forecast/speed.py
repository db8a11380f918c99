"""Work and time of an update, from the operators of a traced one: an additive roofline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import flop_registry

from engine.forecast.polynomial import Lengths, Polynomial, Vector

EFFICIENCY = 0.706
"""Share of the peak rates that training reaches: from the lecture's run at batch 1 (4.67 samples/s) alone.

With it the lecture's other batch sizes, and checkpointing at batch 8, come out within 1.5 %; on other cards it is a
hypothesis.
"""


OPERATOR_S = 16e-6
"""Seconds that the host takes for an operator: from one run of bert-base in fp32 at batch 1 on an H200 machine.

There the GPU waits for the host. Of 25 other runs on it, small and large, most came out within 15 %.
"""


@dataclass(slots=True)
class Work:
    """What one micro-step and one optimizer step compute and move.

    `flops` are those of matrix products (a multiply-add counts 2), `n_bytes` what all other operators of the
    micro-step read and write, `step_bytes` what clipping and the optimizer do; `operators` and `step_operators` are
    how many the host has to launch.
    """

    flops: int = 0
    forward_flops: int = 0
    """Of them, those before backward began."""
    n_bytes: int = 0
    step_bytes: int = 0
    moved_bytes: int = 0
    """Copied between the GPU and its host in a micro-step."""
    host_bytes: int = 0
    """Of activations that wait on the host at once."""
    operators: int = 0
    step_operators: int = 0

    @property
    def model_flops(self) -> int:
        """Without what checkpointing computes again: backward is at most twice forward.

        MFU counts these ("model FLOPs utilization" of the PaLM paper, appendix B).
        """
        return min(self.flops, 3 * self.forward_flops)

    def seconds(
        self, micro_steps: int, flops_per_s: float, bytes_per_s: float, host_bytes_per_s: float = math.inf
    ) -> float:
        """Seconds of an update.

        On the GPU compute and traffic add up, as few kernels overlap the two. The host launches ahead of it: the longer
        of the two times counts, and where they are alike some of both.
        """
        micro_step = self.flops / flops_per_s + self.n_bytes / bytes_per_s
        device = (micro_steps * micro_step + self.step_bytes / bytes_per_s) / EFFICIENCY
        device += micro_steps * self.moved_bytes / host_bytes_per_s
        return math.hypot(device, OPERATOR_S * (micro_steps * self.operators + self.step_operators))

    def operator(self, func: Any, args: tuple[Any, ...], result: Any) -> None:
        """An operator of the micro-step."""
        known = _known(func)
        self.operators += not known.is_view
        if known.grouped_products:  # transformers' experts: rows × input by experts × input × output
            rows, weights = sorted(args[:2], key=torch.Tensor.dim)  # a gradient's come in the other order
            self.flops += known.grouped_products * 2 * rows.numel() * weights.size(-1)
        elif known.formula is not None:
            self.flops += known.flops(args, result)
        else:
            self.n_bytes += known.traffic(args, result)

    def optimizer_operator(self, func: Any, args: tuple[Any, ...], result: Any) -> None:
        """An operator of clipping or the optimizer."""
        known = _known(func)
        self.step_operators += not known.is_view
        self.step_bytes += known.traffic(args, result)

    def attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, backward: bool) -> None:
        """A fused attention: two products forward; backward five, as the scores are computed again."""
        self.operators += 1
        batch, heads, length, width = query.shape
        product = 2 * batch * heads * length * key.size(2) * width
        self.flops += (5 if backward else 2) * product
        self.n_bytes += (2 if backward else 1) * sum(t.numel() * t.element_size() for t in (query, query, key, value))

    def move(self, n_bytes: int) -> None:
        """A copy between the GPU and its host."""
        self.operators += 1
        self.moved_bytes += n_bytes

    def losses(self, hidden: torch.Tensor, weight: torch.Tensor, backward: bool, trains_weight: bool) -> None:
        """Chunks of a language model's cross-entropy: the logits' product, in backward once more, and its gradients'.

        The logits of a chunk are read or written 6 times in forward and 9 in backward, the weight's gradient twice a
        chunk. (`_linear_cross_entropy_batch_chunked_accumulator` of torch/nn/modules/linear_cross_entropy.py.)
        """
        rows, (classes, features) = hidden.size(0), weight.shape
        self.operators += 1
        self.flops += (2 + trains_weight if backward else 1) * 2 * rows * classes * features
        self.n_bytes += (9 if backward else 6) * rows * classes * hidden.element_size()


_ADD_UP = ("flops", "forward_flops", "n_bytes", "moved_bytes", "host_bytes")


def work_at(traced: Mapping[tuple[int, int, int], Work], batch: int, lengths: Lengths) -> Work:
    """The work on `batch` samples of these lengths on average, from that of traced batches, by (samples, *lengths).

    Weights are read once per micro-step; what else is done grows with the samples, and with the lengths as a
    polynomial of the second degree (attention).
    """
    counts = Counter(n for n, *_ in traced)
    at = batch if batch == 1 and counts[1] else max(counts, key=lambda n: (counts[n], -n))
    points = sorted((rest for n, *rest in traced if n == at), key=lambda point: math.dist(point, lengths))
    pair = next((point for point in traced if point[0] == at and (at + 1, *point[1:]) in traced), None)

    def values(n: int, point: Sequence[int]) -> Vector:
        return np.array([getattr(traced[n, point[0], point[1]], name) for name in _ADD_UP], dtype=np.float64)

    fixed = np.zeros(len(_ADD_UP))
    if pair is not None and batch != at:
        one, two = (values(at + more, pair[1:]) for more in (0, 1))
        fixed = one - at * (two - one)
    known = Polynomial([(width, target) for width, target in points], np.stack([values(at, point) for point in points]))
    told = np.rint(fixed + (known.at(lengths) - fixed) * batch / at)
    figures = dict(zip(_ADD_UP, map(int, told), strict=True))
    return replace(traced[at, points[0][0], points[0][1]], **figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operator:
    """What is the same in every call of an operator."""

    is_view: bool
    returns: bool
    formula: Callable[..., int] | None
    """Its floating-point operations, where torch has them, from its arguments and result."""
    formula_of_shapes: Callable[..., int] | None
    """The same from their shapes: what torch wraps to look for tensors in whatever is nested."""
    grouped_products: int
    """Products that the grouped one of transformers' experts makes; 0 for other operators."""

    def flops(self, args: tuple[Any, ...], result: Any) -> int:
        """Floating-point operations; `formula` is there."""
        assert self.formula is not None
        if self.formula_of_shapes is None or not all(isinstance(value, torch.Tensor) for value in (*args, result)):
            return self.formula(*args, out_val=result)
        return self.formula_of_shapes(*(tensor.shape for tensor in args), out_shape=result.shape)

    def traffic(self, args: tuple[Any, ...], result: Any) -> int:
        """Bytes that it reads and writes; 0 for views."""
        if self.is_view:
            return 0
        return _n_bytes(args) + (_n_bytes(result) if self.returns else _n_bytes(args[:1]))


_OPERATORS: dict[int, _Operator] = {}
"""By id: an operator lives as long as the process, and its own hash is slow."""


def _known(func: Any) -> _Operator:
    known = _OPERATORS.get(id(func))
    if known is None:
        name, returns, formula = func._schema.name, func._schema.returns, flop_registry.get(func._overloadpacket)
        known = _OPERATORS[id(func)] = _Operator(
            is_view=any(r.alias_info is not None and not r.alias_info.is_write for r in returns),
            returns=bool(returns),
            formula=formula,
            formula_of_shapes=getattr(formula, "__wrapped__", None),
            grouped_products=("grouped_mm_fallback" in name) * (2 if "backward" in name else 1),
        )
    return known


def _n_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (tuple, list)):
        return sum(_n_bytes(inner) for inner in value)
    return 0
