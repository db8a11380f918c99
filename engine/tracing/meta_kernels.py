"""Quick answers for operators on meta tensors: torch's own go through Python decompositions and take 90 % of a trace.

Only where shape, strides and dtype of the result are plain to see; `NotImplemented` leaves the operator to torch. A
test holds them against torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten

Kernel = Callable[..., Any]


def _plain(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.is_meta and tensor.is_contiguous() and not tensor.is_complex()


def _like(tensor: torch.Tensor) -> torch.Tensor:
    """As `empty_like` of a contiguous tensor, which is a Python decomposition on meta tensors."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _empty(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """As `like.new_empty(shape)`, another such decomposition."""
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _binary(first: Any, second: Any, **more: Any) -> Any:
    """An elementwise operator on two contiguous tensors of one shape and dtype, or on a float tensor and a number."""
    if not _plain(first) or not first.is_floating_point() or set(more) - {"alpha"}:
        return NotImplemented
    if isinstance(second, torch.Tensor):
        if not _plain(second) or first.shape != second.shape or first.dtype != second.dtype:
            return NotImplemented
    elif isinstance(second, complex):
        return NotImplemented
    return _like(first)


def _unary(first: Any, *more: Any, **options: Any) -> Any:
    if options or any(isinstance(value, torch.Tensor) for value in more) or not _plain(first):
        return NotImplemented
    return _like(first) if first.is_floating_point() else NotImplemented


def _in_place(first: Any, *_: Any, **__: Any) -> Any:
    return first if isinstance(first, torch.Tensor) and first.is_meta else NotImplemented


def _in_place_list(first: Any, *_: Any, **__: Any) -> Any:
    return None if first and first[0].is_meta else NotImplemented


def _list(first: Any, second: Any = None, **_: Any) -> Any:
    if not all(_plain(tensor) and tensor.is_floating_point() for tensor in first):
        return NotImplemented
    if isinstance(second, torch.Tensor) or not isinstance(second, (int, float, type(None))):
        return NotImplemented
    return [_like(tensor) for tensor in first]


def _zeros_like(first: Any, **options: Any) -> Any:
    keeps = set(options) <= {"memory_format", "pin_memory"} and _plain(first)
    return _like(first) if keeps else NotImplemented


def _new_empty(like: Any, size: Any, **options: Any) -> Any:
    return _empty(size, like) if like.is_meta and set(options) <= {"pin_memory"} else NotImplemented


def _norm(first: Any, *order: Any, **options: Any) -> Any:
    if len(order) > 1 or options or not _plain(first):
        return NotImplemented
    return _empty((), first)


def _backward_like(grad: Any, other: Any, *_: Any, **__: Any) -> Any:
    """The gradient of an elementwise function: like the incoming one."""
    same = _plain(grad) and _plain(other) and grad.shape == other.shape and grad.dtype == other.dtype
    return _like(grad) if same else NotImplemented


def _layer_norm(source: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    if not _plain(source) or not source.is_floating_point():
        return NotImplemented
    moments = (*source.shape[: source.dim() - len(shape)], *[1] * len(shape))
    mean = torch.empty(moments, dtype=torch.float32, device="meta")  # CUDA accumulates half precision in fp32
    return _like(source), mean, _like(mean)


def _layer_norm_backward(
    grad: Any, source: Any, shape: Any, mean: Any, rstd: Any, weight: Any, bias: Any, wanted: Any
) -> Any:
    if not (_plain(grad) and _plain(source)):
        return NotImplemented
    pairs = zip((source, weight, bias), wanted, strict=True)
    return tuple(_like(like) if want and like is not None else None for like, want in pairs)


def _addmm(bias: Any, first: Any, second: Any, **options: Any) -> Any:
    if options or not first.is_meta or first.dtype != second.dtype:
        return NotImplemented
    return _empty((first.size(0), second.size(1)), first)


def _mm(first: Any, second: Any, **options: Any) -> Any:
    if options or not first.is_meta or first.dtype != second.dtype:
        return NotImplemented
    return _empty((first.size(0), second.size(1)), first)


def _sum(first: Any, dims: Any, keepdim: bool = False, **options: Any) -> Any:
    if options or not _plain(first) or not first.is_floating_point() or not dims:
        return NotImplemented
    gone = {dim % first.dim() for dim in dims}
    sizes = [1 if index in gone else size for index, size in enumerate(first.shape) if keepdim or index not in gone]
    return _empty(sizes, first)


def _overloads(names: str, overloads: str = "Tensor Scalar default") -> list[Any]:
    packets = [getattr(aten, name) for name in names.split() if hasattr(aten, name)]
    pairs = [(packet, overload) for packet in packets for overload in overloads.split()]
    return [getattr(packet, overload) for packet, overload in pairs if hasattr(packet, overload)]


KERNELS: dict[Any, Kernel] = {
    **dict.fromkeys(_overloads("mul add sub div"), _binary),
    **dict.fromkeys(_overloads("gelu relu silu tanh sqrt rsqrt neg exp sigmoid", "default"), _unary),
    **dict.fromkeys(_overloads("mul_ add_ sub_ div_ addcmul_ addcdiv_ lerp_ clamp_ clamp_min_ sqrt_ zero_"), _in_place),
    **dict.fromkeys(_overloads("bernoulli_ fill_ normal_ uniform_", "float Scalar default"), _in_place),
    **dict.fromkeys(
        _overloads(
            "_foreach_add_ _foreach_mul_ _foreach_div_ _foreach_lerp_ _foreach_addcmul_ _foreach_addcdiv_ "
            "_foreach_sqrt_ _foreach_zero_",
            "Scalar List ScalarList Tensor default",
        ),
        _in_place_list,
    ),
    **dict.fromkeys(_overloads("_foreach_sqrt", "default"), _list),
    **dict.fromkeys(_overloads("_foreach_add _foreach_mul", "Scalar"), _list),
    **dict.fromkeys(
        _overloads("gelu_backward tanh_backward sigmoid_backward silu_backward", "default"), _backward_like
    ),
    **dict.fromkeys(_overloads("threshold_backward", "default"), _backward_like),
    aten.zeros_like.default: _zeros_like,
    aten.linalg_vector_norm.default: _norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_layer_norm_backward.default: _layer_norm_backward,
    aten.addmm.default: _addmm,
    aten.mm.default: _mm,
    aten.new_empty.default: _new_empty,
    aten.sum.dim_IntList: _sum,
}
"""By operator: the result on meta tensors, or `NotImplemented`."""
