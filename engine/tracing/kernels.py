"""Where CUDA's kernels hold other memory than those of meta and CPU tensors: dropout, softmax and attention.

The results of a real run stay what they are: only what is accounted for differs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from engine.contract.forecast_types import ACTIVATIONS, TEMPORARIES
from engine.gpus.catalogue import Gpu
from engine.tracing.autocast import Autocast
from engine.tracing.losses import CHUNKED, FusedLosses, LossCall, Observe, by_checkpoints, linear_losses
from engine.tracing.scratch import HALF, Groups, efficient_gradient, flash_gradient, scratch_of
from engine.tracing.tracer import Tracer

_DROPOUTS = {F.dropout, torch.dropout}
_SOFTMAXES = {getattr(home, name) for home in (torch, F, torch.Tensor) for name in ("softmax", "log_softmax")}
_BACKWARDS = {torch.Tensor.backward, torch.autograd.backward}
GROUPED = {getattr(home, name) for home, name in ((F, "grouped_mm"), (torch, "_grouped_mm")) if hasattr(home, name)}


class _GroupedProduct(torch.autograd.Function):
    """Rows × experts by PyTorch's `grouped_mm`, with what that keeps: nothing for weights that are frozen.

    (tools/autograd/derivatives.yaml, `_grouped_mm`. Transformers' own fallback always computes both gradients.)
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows if weight.requires_grad else None, weight, offsets)
        product: torch.Tensor = torch.ops.transformers.grouped_mm_fallback(rows, weight, offsets)
        return product

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, offsets = ctx.saved_tensors
        if rows is None:
            back = torch.ops.transformers.grouped_mm_fallback(grads[0], weight.transpose(1, 2), offsets)
            return back, None, None
        # PyTorch's makes the weight's gradient before that of the rows (in its alphabetical order, mat2 and self), and
        # this only says what is made: like its first argument, then like its second
        of_weight, of_rows = torch.ops.transformers.grouped_mm_fallback_backward(weight, rows, offsets, grads[0])
        return of_rows, of_weight, None


class CudaKernels(TorchFunctionMode):
    """Active around a traced run, beside the `Tracer`: says which kernel CUDA would choose and what it holds.

    `autocast` is the run's, None in fp32.
    """

    def __init__(self, tracer: Tracer, gpu: Gpu, autocast: Autocast | None = None) -> None:
        super().__init__()
        tracer.scratch = scratch_of(gpu)
        self._tracer = tracer
        self._capability = gpu.compute_capability
        self._autocast = autocast
        self._copies: Any = WeakIdKeyDictionary()
        """Of masks, by the mask."""
        self.saves_softmax_inputs = False
        """As PyTorch did before 1.11: backward asked for the input, of which it needed the type alone."""
        self.on_attention: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, bool], None] | None = None
        """Told of every fused attention (query, key, value, whether in backward), which is no traced operator."""
        self.on_loss: Observe | None = None
        """Told of every fused cross-entropy, which is none either."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and not isinstance(args[0], torch.Tensor) and hasattr(type(args[0]), "__torch_function__"):
            with self:  # what stands for a tensor says itself what is computed
                return args[0].__torch_function__(func, types, args, kwargs)
        if self._autocast is not None and self._autocast.is_active:
            if func is F.cross_entropy and not self.saves_softmax_inputs:
                return self._autocast.cross_entropy(*args, **kwargs)
            args, kwargs = self._autocast.cast(func, args, kwargs)
        if func in _SOFTMAXES:
            return self._soften(func, *args, **kwargs)
        if func is F.cross_entropy and self.saves_softmax_inputs:
            return self._cross_entropy(*args, **kwargs)
        if func in _DROPOUTS:
            # fused_dropout of aten/native/cuda/Dropout.cu keeps a mask of one byte per element
            self._tracer.in_dropout = True
            try:
                return func(*args, **kwargs)
            finally:
                self._tracer.in_dropout = False
        if func in _BACKWARDS:
            with self:  # a mode is off inside its own handler, and checkpoints are replayed in there
                return _backward(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is linear_losses:
            return self._lose(*args, **kwargs)
        if func in GROUPED and args[0].is_meta:  # its meta kernel knows bf16 only
            return _GroupedProduct.apply(  # type: ignore[no-untyped-call]
                args[0], args[1], kwargs["offs"]
            )
        if func is torch.Tensor.__setitem__ and isinstance(args[2], (int, float)) and args[0].device.type == "cpu":
            # elsewhere a number becomes a tensor first (scalarToTensor of ATen/TensorIndexing.h)
            self._tracer.use_scratch(args[0].element_size())
        return func(*args, **kwargs)

    def _soften(self, func: Any, source: torch.Tensor, dim: int, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Of fp16 to fp32 it is one kernel, with an fp16 gradient; of bf16 a cast and a softmax.

        (`softmax` and `log_softmax` of aten/native/SoftMax.cpp.)
        """
        result: torch.Tensor
        if kwargs.get("dtype") is torch.float32 and source.dtype is torch.float16:
            result = (torch._softmax if func.__name__ == "softmax" else torch._log_softmax)(source, dim, True)
        else:
            result = func(source, dim, *args, **kwargs)
        if self.saves_softmax_inputs and result.grad_fn is not None:
            saved = [source]
            result.grad_fn.register_hook(lambda *_: saved.clear())  # which the node keeps until it has run
        return result

    def _cross_entropy(
        self, logits: torch.Tensor, target: torch.Tensor, *args: Any, label_smoothing: float = 0.0, **kwargs: Any
    ) -> torch.Tensor:
        """As torch/nn/functional.py had it before 1.10."""
        logs = self.__torch_function__(F.log_softmax, (), (logits, min(1, logits.dim() - 1)))
        return F.nll_loss(logs, target, *args, **kwargs)

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        call = AttentionCall(
            kernel=choose_attention(query, key, value, attn_mask, enable_gqa, self._capability),
            dropout_p=dropout_p,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )
        if call.kernel == "math":
            return call.compute_by_products(query, key, value, attn_mask)
        inputs = query, key, value, attn_mask
        more = call, self._tracer, self.on_attention, self._copy_of(attn_mask)
        result: torch.Tensor = FusedAttention.apply(*inputs, *more)  # type: ignore[no-untyped-call]
        return result

    def _lose(
        self,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        target: torch.Tensor,
        *,
        kernel: str,
        softcap: float | None,
        ignore_index: int,
    ) -> torch.Tensor:
        if softcap is not None and kernel == CHUNKED:  # made of operators that are traced
            with self:
                return by_checkpoints(hidden, weight, bias, target, softcap, ignore_index)
        call = LossCall(
            kernel=kernel,
            softcap=softcap,
            ignore_index=ignore_index,
            capability=self._capability,
            tracer=self._tracer,
            observe=self.on_loss,
        )
        losses: torch.Tensor = FusedLosses.apply(hidden, weight, bias, target, call)  # type: ignore[no-untyped-call]
        return losses

    def _copy_of(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """A real mask to compute backward with: on CUDA it is not kept where it was made another kind of mask."""
        if mask is None or mask.is_meta or _bias_shape(mask) is None:
            return mask
        copy: torch.Tensor | None = self._copies.get(mask)
        if copy is None:
            with self._tracer.suspended():
                copy = self._copies[mask] = mask.detach().clone()
        return copy


def _backward(
    tensors: torch.Tensor | Sequence[torch.Tensor],
    grad_tensors: torch.Tensor | Sequence[torch.Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[torch.Tensor] = (),
    **_: Any,
) -> None:
    """`torch.autograd.backward` past its hooks for function modes."""
    roots = (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)
    given = (grad_tensors,) if grad_tensors is None or isinstance(grad_tensors, torch.Tensor) else tuple(grad_tensors)
    grads = tuple(torch.ones_like(root) if grad is None else grad for root, grad in zip(roots, given, strict=True))
    keep = create_graph if retain_graph is None else retain_graph
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward(roots, grads, keep, create_graph, tuple(inputs or ()), True, accumulate_grad=True)


def choose_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    enable_gqa: bool,
    capability: tuple[int, int],
) -> str:
    """`flash`, `efficient` or `math`: the order and conditions of aten/native/transformers/cuda/sdp_utils.cpp.

    Shapes are (batch, heads, length, head dimension).
    """
    if query.dim() != 4 or query.stride(-1) != 1 or query.dtype != key.dtype:
        return "math"
    head_dim, same_dims = query.size(-1), query.size(-1) == value.size(-1)
    if query.dtype in HALF and capability >= (8, 0) and mask is None and same_dims and head_dim <= 256:
        return "flash"
    grouped = enable_gqa and query.size(1) != key.size(1)
    known = query.dtype in (torch.float32, torch.float16) or (query.dtype is torch.bfloat16 and capability >= (8, 0))
    alignment = 8 if query.dtype in HALF else 4
    if capability >= (5, 0) and known and not grouped and head_dim % alignment == 0 and value.size(-1) % alignment == 0:
        return "efficient"
    return "math"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCall:
    """The settings of one `scaled_dot_product_attention`."""

    kernel: str
    dropout_p: float
    is_causal: bool
    scale: float | None
    enable_gqa: bool

    def compute(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """The attention itself, by torch."""
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout_p,
            is_causal=self.is_causal,
            scale=self.scale,
            enable_gqa=self.enable_gqa,
        )

    def compute_by_products(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """The same without a fused kernel, whatever this process's switches allow.

        (`scaled_dot_product_attention` of aten/native/transformers/attention.cpp, where the backend is math.)
        """
        if mask is not None and mask.dtype is torch.bool:  # convert_boolean_attn_mask
            hidden, shown = (torch.scalar_tensor(x, dtype=query.dtype, device=query.device) for x in (-math.inf, 0.0))
            mask = torch.where(mask, shown, hidden)
        result: torch.Tensor = torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, mask, self.dropout_p, self.is_causal, scale=self.scale, enable_gqa=self.enable_gqa
        )[0]
        return result


class KeptAttention:
    """Results of one layer's attention that selective checkpointing keeps, in the order of forward.

    On CUDA its cache of operators has them; here attention is no operator that it could see.
    """

    def __init__(self) -> None:
        self._results: deque[tuple[torch.Tensor, torch.Tensor]] = deque()
        self._is_giving = False

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Around the layer's forward."""
        token = _KEPT.set(self)
        try:
            yield
        finally:
            _KEPT.reset(token)

    @contextmanager
    def giving(self) -> Iterator[None]:
        """Around its computation in backward."""
        self._is_giving = True
        with self.keeping():
            yield

    def keep(self, out: torch.Tensor, logsumexp: torch.Tensor) -> None:
        if not self._is_giving:
            self._results.append((out.detach(), logsumexp))

    def give(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What need not be computed again."""
        return self._results.popleft() if self._is_giving and self._results else None


_KEPT: ContextVar[KeptAttention | None] = ContextVar("_KEPT", default=None)


class FusedAttention(torch.autograd.Function):
    """Attention that holds what CUDA's fused kernels hold: q, k, v, the output and the log-sum-exp.

    On meta tensors nothing is computed. On real ones torch's attention of the CPU runs unaccounted, and backward runs
    it again with the same random numbers, so that results do not depend on being traced.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> torch.Tensor:
        query, key, value, mask, call, tracer, observe, copy = args
        ctx.call, ctx.tracer, ctx.observe = call, tracer, observe
        bias = _as_bias(mask, query, tracer)
        ctx.random = torch.get_rng_state() if call.dropout_p and not query.is_meta else None
        region = None if call.dropout_p else _KEPT.get()
        known = region.give() if region is not None else None
        out, logsumexp = known or _attended(query, key, value, mask, call, tracer)
        if region is not None:
            region.keep(out, logsumexp)
        if observe is not None and known is None:
            observe(query, key, value, False)
        ctx.save_for_backward(query, key, value, mask if bias is None else None, bias, logsumexp, out)
        ctx.real_mask = copy if bias is not None and not query.is_meta else None
        ctx.mask_width = None if mask is None else mask.size(-1)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        query, key, value, mask, bias, *_ = ctx.saved_tensors
        call, tracer = ctx.call, ctx.tracer
        if bias is not None:
            mask = bias[..., : ctx.mask_width] if query.is_meta else ctx.real_mask
        wants_bias = ctx.needs_input_grad[3]
        inputs = [query, key, value, *([mask] if wants_bias else [])]
        with tracer.suspended():
            if query.is_meta:
                results = [_like_transposed(tensor) for tensor in inputs]
            else:
                results = _real_backward(call, query, key, value, mask, wants_bias, grads[0], ctx.random)
        for result in results:
            tracer.account(result, TEMPORARIES)
        tracer.use_scratch(*(flash_gradient(query, key) if call.kernel == "flash" else efficient_gradient(query)))
        if ctx.observe is not None:
            ctx.observe(query, key, value, True)
        return (*results, *[None] * (8 - len(results)))


def _attended(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    call: AttentionCall,
    tracer: Tracer,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and the log-sum-exp, which is never computed."""
    batch, heads, length, _ = query.shape
    with tracer.suspended():
        shape = (batch, length, heads, value.size(-1))
        out: torch.Tensor = query.new_empty(shape).transpose(1, 2)
        if not query.is_meta:
            out.copy_(call.compute(query, key, value, mask))
        rows = length if call.kernel == "flash" else -(-length // 32) * 32  # kAlignLSE
        logsumexp = torch.empty(batch, heads, rows, dtype=torch.float32, device="meta")
    tracer.account(out, ACTIVATIONS)
    tracer.account(logsumexp, ACTIVATIONS, None if call.kernel == "flash" else _in_groups(batch * heads, length, 4, 32))
    if call.kernel == "efficient" and query.dtype in HALF and value.size(-1) > 128:
        tracer.use_scratch(out.numel() * 4)  # kNeedsOutputAccumulator
    return out, logsumexp


def _as_bias(mask: torch.Tensor | None, query: torch.Tensor, tracer: Tracer) -> torch.Tensor | None:
    """A boolean mask becomes a float one, and rows of odd lengths are padded to 16 (`convert_boolean_attn_mask`,

    `pad_bias` in aten/native/transformers/attention.cpp); the result is kept for backward.
    """
    padded = None if mask is None else _bias_shape(mask)
    if mask is None or padded is None:
        return None
    with tracer.suspended():
        bias = torch.empty(padded, dtype=query.dtype, device="meta")
    tracer.account(bias, ACTIVATIONS, _in_groups(math.prod(mask.shape[:-1]), mask.size(-1), bias.element_size(), 16))
    return bias


def _bias_shape(mask: torch.Tensor) -> tuple[int, ...] | None:
    """The shape of what is made of a mask; None where it is taken as it is."""
    padded = (*mask.shape[:-1], -(-mask.size(-1) // 16) * 16)
    return None if mask.dtype is not torch.bool and padded == tuple(mask.shape) else padded


def _in_groups(rows: int, length: int, element: int, size: int) -> Groups:
    """The rule of a tensor whose rows are padded to whole groups of `size` elements."""
    return Groups(each=rows * element * size, length=length, size=size)


def _like_transposed(tensor: torch.Tensor) -> torch.Tensor:
    """An empty gradient in the kernels' layout (batch, length, heads, head dimension)."""
    batch, heads, length, width = tensor.shape
    return tensor.new_empty(batch, length, heads, width).transpose(1, 2)


def _real_backward(
    call: AttentionCall,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    wants_bias: bool,
    grad: torch.Tensor,
    random: torch.Tensor | None,
) -> list[torch.Tensor]:
    now = torch.get_rng_state()
    if random is not None:
        torch.set_rng_state(random)
    with torch._C.DisableTorchFunction(), torch.enable_grad():  # this attention must not be caught again
        q, k, v = (tensor.detach().requires_grad_() for tensor in (query, key, value))
        bias = mask.detach().requires_grad_() if wants_bias and mask is not None else mask
        out = call.compute(q, k, v, bias)
        wanted = [q, k, v, bias] if wants_bias and bias is not None else [q, k, v]
        results = torch.autograd.grad(out, wanted, grad)
    if random is not None:
        torch.set_rng_state(now)
    return [_like_transposed(result).copy_(result) for result in results]
