"""The work of an update, counted from the operators of a traced one; `engine.forecast.speed` makes seconds of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import flop_registry

from engine.forecast.polynomial import Lengths, Polynomial, Vector


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
    wide_flops: int = 0
    """Of them, those of products of fp32 numbers: of adapters beside weights in 16 bits, too."""
    product_bytes: int = 0
    """What matrix products read and write."""
    wide_product_bytes: int = 0
    """Of them, those of products of fp32 numbers."""
    n_bytes: int = 0
    attention_bytes: int = 0
    """Of them, those of fused attentions."""
    step_bytes: int = 0
    moved_bytes: int = 0
    """Copied between the GPU and its host in a micro-step."""
    host_bytes: int = 0
    """Of activations that wait on the host at once."""
    operators: int = 0
    modules: int = 0
    """Calls of modules in Python, those of checkpointing's second forward too."""
    step_operators: int = 0
    step_calls: int = 0
    """Optimizers that each step in backward."""
    gathers: int = 0
    """Calls that gather a group's weights from all ranks, in a micro-step."""
    gathered_bytes: int = 0
    """What they give together; a rank has 1 / ranks of it already."""
    forward_gathers: int = 0
    """Of the calls, those before backward began."""
    forward_gathered_bytes: int = 0
    first_gathered_bytes: int = 0
    """Of the first call, which no computing hides."""
    scatters: int = 0
    """Calls that add up a group's gradients and leave each rank its part, in the last micro-step of a window."""
    scattered_bytes: int = 0
    """What a rank puts in; it has 1 / ranks of it afterwards."""
    last_scattered_bytes: int = 0
    """Of the last call, which no computing hides."""
    reductions: int = 0
    """Calls that add up what every rank has, such as a norm's part, in an update."""

    @property
    def model_flops(self) -> int:
        """Without what checkpointing computes again: backward is at most twice forward.

        MFU counts these ("model FLOPs utilization" of the PaLM paper, appendix B).
        """
        return min(self.flops, 3 * self.forward_flops)

    def deeper(self, shallow: Work, steps: int) -> Work:
        """That of a model deeper by so many times what it is deeper than a `shallow` one."""
        more = {f.name: getattr(self, f.name) - getattr(shallow, f.name) for f in fields(self)}
        return Work(**{name: getattr(self, name) + steps * by for name, by in more.items()})

    def operator(self, func: Any, args: tuple[Any, ...], result: Any) -> None:
        """An operator of the micro-step."""
        known = _known(func)
        if known.collective is not None:
            known.collective(self, args)
            return
        self.operators += not known.is_idle
        if known.grouped_products:  # transformers' experts: rows × input by experts × input × output
            rows, weights = sorted(args[:2], key=torch.Tensor.dim)  # a gradient's come in the other order
            self._product(
                known.grouped_products * 2 * rows.numel() * weights.size(-1), rows, known.traffic(args, result)
            )
        elif known.formula is not None:
            self._product(known.flops(args, result), result, known.traffic(args, result))
        else:
            self.n_bytes += known.traffic(args, result)

    def begin_backward(self) -> None:
        """What was counted so far was forward's, in the first micro-step."""
        if not self.forward_flops:
            self.forward_flops = self.flops
            self.forward_gathers, self.forward_gathered_bytes = self.gathers, self.gathered_bytes

    def gather(self, args: tuple[Any, ...]) -> None:
        """All ranks' parts of weights: `c10d._allgather_base_(output, input, …)`."""
        n_bytes = _n_bytes(args[0])
        if not self.gathers:
            self.first_gathered_bytes = n_bytes
        self.gathers += 1
        self.gathered_bytes += n_bytes

    def scatter(self, args: tuple[Any, ...]) -> None:
        """Sums of gradients: `c10d._reduce_scatter_base_(output, input, …)`."""
        self.last_scattered_bytes = _n_bytes(args[1])
        self.scatters += 1
        self.scattered_bytes += self.last_scattered_bytes

    def reduce(self, args: tuple[Any, ...]) -> None:
        """A sum that every rank has: `c10d.allreduce_(tensors, …)`, `_c10d_functional.all_reduce(input, …)`."""
        self.reductions += 1

    def module(self, *_: object) -> None:
        """A module is called: a hook."""
        self.modules += 1

    def last_micro_step(self, func: Any, args: tuple[Any, ...], result: Any) -> None:
        """An operator of a window's last micro-step, of which the others have counted all but what it alone sends."""
        known = _known(func)
        if known.collective is not None and known.collective is not Work.gather:
            known.collective(self, args)

    def optimizer_operator(self, func: Any, args: tuple[Any, ...], result: Any) -> None:
        """An operator of clipping or the optimizer."""
        known = _known(func)
        if known.collective is not None:
            known.collective(self, args)
            return
        self.step_operators += not known.is_idle
        self.step_bytes += known.traffic(args, result)

    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """What a step is that runs as no traced operator: kernels that a CPU lacks, and steps within backward."""
        each = getattr(optimizer, "optimizers", {})
        self.step_calls += len(each)
        self.step_bytes += sum(getattr(one, "traffic", 0) for one in each.values() or [optimizer])

    def _product(self, flops: int, operand: torch.Tensor, n_bytes: int) -> None:
        self.flops += flops
        self.product_bytes += n_bytes
        if operand.dtype is torch.float32:
            self.wide_flops += flops
            self.wide_product_bytes += n_bytes

    def attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, backward: bool) -> None:
        """A fused attention: two products forward; backward five, as the scores are computed again."""
        self.operators += 1
        batch, heads, length, width = query.shape
        product = 2 * batch * heads * length * key.size(2) * width
        self._product((5 if backward else 2) * product, query, 0)
        moved = (2 if backward else 1) * sum(map(_size, (query, query, key, value)))
        self.n_bytes += moved
        self.attention_bytes += moved

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
        self._product((2 + trains_weight if backward else 1) * 2 * rows * classes * features, hidden, 0)
        self.n_bytes += (9 if backward else 6) * rows * classes * hidden.element_size()


_ADD_UP = (
    "flops",
    "forward_flops",
    "wide_flops",
    "product_bytes",
    "wide_product_bytes",
    "n_bytes",
    "attention_bytes",
    "moved_bytes",
    "host_bytes",
)


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

    is_idle: bool
    """Whether it launches nothing: a view, or a mark for a profiler."""
    returns: bool
    formula: Callable[..., int] | None
    """Its floating-point operations, where torch has them, from its arguments and result."""
    formula_of_shapes: Callable[..., int] | None
    """The same from their shapes: what torch wraps to look for tensors in whatever is nested."""
    grouped_products: int
    """Products that the grouped one of transformers' experts makes; 0 for other operators."""
    collective: Callable[[Work, tuple[Any, ...]], None] | None
    """How it is counted where ranks take part in it together."""

    def flops(self, args: tuple[Any, ...], result: Any) -> int:
        """Floating-point operations; `formula` is there."""
        assert self.formula is not None
        if self.formula_of_shapes is None or not all(isinstance(value, torch.Tensor) for value in (*args, result)):
            return self.formula(*args, out_val=result)
        return self.formula_of_shapes(*(tensor.shape for tensor in args), out_shape=result.shape)

    def traffic(self, args: tuple[Any, ...], result: Any) -> int:
        """Bytes that it reads and writes; 0 for idle ones."""
        if self.is_idle:
            return 0
        read: dict[int, torch.Tensor] = {}
        _tensors(args, read)  # a gradient that is squared is read once
        return sum(map(_size, read.values())) + (_n_bytes(result) if self.returns else _n_bytes(args[:1]))


_COLLECTIVES: dict[str, Callable[[Work, tuple[Any, ...]], None]] = {
    "c10d::_allgather_base_": Work.gather,
    "c10d::_reduce_scatter_base_": Work.scatter,
    "c10d::allreduce_": Work.reduce,
    "_c10d_functional::all_reduce": Work.reduce,
}

_OPERATORS: dict[int, _Operator] = {}
"""By id: an operator lives as long as the process, and its own hash is slow."""


def _known(func: Any) -> _Operator:
    known = _OPERATORS.get(id(func))
    if known is None:
        name, returns, formula = func._schema.name, func._schema.returns, flop_registry.get(func._overloadpacket)
        known = _OPERATORS[id(func)] = _Operator(
            is_idle=name.startswith("profiler::")
            or any(r.alias_info is not None and not r.alias_info.is_write for r in returns),
            returns=bool(returns),
            formula=formula,
            formula_of_shapes=getattr(formula, "__wrapped__", None),
            grouped_products=("grouped_mm_fallback" in name) * (2 if "backward" in name else 1),
            collective=_COLLECTIVES.get(name),
        )
    return known


def _tensors(value: Any, found: dict[int, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        found[id(value)] = value
    elif isinstance(value, (tuple, list)):
        for inner in value:
            _tensors(inner, found)


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _n_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return _size(value)
    if isinstance(value, (tuple, list)):
        return sum(_n_bytes(inner) for inner in value)
    return 0
