"""CUDA's autocast policy on any device: torch's own follows the device, and has none for meta tensors.

The lists are those of `AT_FORALL_LOWER_PRECISION_FP`, `AT_FORALL_FP32`, `AT_FORALL_FP32_SET_OPT_DTYPE` and
`AT_FORALL_PROMOTE` in aten/src/ATen/autocast_mode.h (the "CUDA autocast op reference" of PyTorch's documentation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)

from engine.tracing.losses import linear_losses

_LOWER = (
    "linear matmul __matmul__ __rmatmul__ mm mv bmm addmm addmv addbmm baddbmm einsum bilinear prelu conv1d conv2d "
    "conv3d conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention"
)
_FP32 = (
    "softmin layer_norm group_norm rms_norm nll_loss mse_loss l1_loss smooth_l1_loss "
    "huber_loss kl_div binary_cross_entropy_with_logits cosine_similarity cosine_embedding_loss softplus logsigmoid "
    "pow __pow__ __rpow__ exp expm1 log log10 log1p log2 logsumexp reciprocal rsqrt sinh cosh tan acos asin erfinv "
    "norm cdist pdist renorm __rdiv__ __rtruediv__"
)
_FP32_RESULT = "softmax log_softmax sum prod cumsum cumprod"
_PROMOTE = "cat stack addcdiv addcmul atan2 cross dot index_put scatter_add tensordot"


def _functions(names: str) -> set[Callable[..., Any]]:
    homes = (torch, F, torch.Tensor, torch.nn.functional)
    return {getattr(home, name) for name in names.split() for home in homes if hasattr(home, name)}


LOWER, FP32, FP32_RESULT, PROMOTE = map(_functions, (_LOWER, _FP32, _FP32_RESULT, _PROMOTE))
LOWER.add(linear_losses)


class Autocast:
    """The state of one run's autocast to `dtype`: whether a forward is under way, and its cache of cast weights."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._forward = False
        self._cache: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around a forward. The casts of weights are kept until it ends."""
        self._forward = True
        try:
            yield
        finally:
            self._forward = False
            self._cache.clear()

    @property
    def is_active(self) -> bool:
        """In a forward, or where backward replays a checkpointed one (autograd itself runs without gradients)."""
        return self._forward or (torch._C._current_graph_task_id() >= 0 and torch.is_grad_enabled())

    def cast(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as autocast hands them to `func`."""
        if func in LOWER:
            to = self.dtype
        elif func in FP32:
            to = torch.float32
        elif func in FP32_RESULT:
            given = kwargs.get("dtype") is not None or any(isinstance(value, torch.dtype) for value in args)
            return args, kwargs if given or not _is_lower(args[0]) else {**kwargs, "dtype": torch.float32}
        elif func in PROMOTE:
            to = _widest((*args, *kwargs.values()), self.dtype)
        else:
            return args, kwargs
        # the last argument is cast first: so GCC evaluates the arguments of a C++ call
        named = {name: self._to(kwargs[name], to) for name in reversed(kwargs)}
        return tuple(reversed([self._to(value, to) for value in reversed(args)])), named

    def cross_entropy(self, logits: torch.Tensor, target: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Logits of half precision: the log-softmax keeps it, as the loss asks for the dtype that it was given, and

        what is cast is its result (`cross_entropy_loss_symint` of aten/native/LossNLL.cpp; `nll_loss` is in the list).
        """
        if not _is_lower(logits) or kwargs.get("label_smoothing") or target.is_floating_point():
            return F.cross_entropy(self._to(logits, torch.float32), target, *args, **kwargs)
        logs = torch.log_softmax(logits, min(1, logits.dim() - 1))
        more = {name: value for name, value in kwargs.items() if name != "label_smoothing"}
        return F.nll_loss(logs.float(), target, *args, **more)

    def _to(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(self._to(v, dtype) for v in value)
        if (
            not isinstance(value, torch.Tensor)
            or not value.is_floating_point()
            or value.dtype in (dtype, torch.float64)
        ):
            return value
        is_weight = dtype is self.dtype and value.dtype is torch.float32 and value.requires_grad and value.is_leaf
        if not (is_weight and self._forward):
            return value.to(dtype)
        known = self._cache.get(id(value))
        if known is None:
            known = self._cache[id(value)] = (value, value.to(dtype))
        return known[1]


def _is_lower(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)


def _widest(values: tuple[Any, ...], lower: torch.dtype) -> torch.dtype:
    for value in values:
        inner = value if isinstance(value, (tuple, list)) else (value,)
        if any(isinstance(v, torch.Tensor) and v.dtype is torch.float32 for v in inner):
            return torch.float32
    return lower
