"""Products with quantised weights as CUDA makes them: bitsandbytes' own code, whose kernels a CPU does not have.

The steps are those of bitsandbytes 0.50 (backends/cuda/ops.py and backends/default/ops.py), each named where it is. On
meta tensors, where the library need not be installed, operators of the same meaning stand for its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import mm_flop, register_flop_formula

if TYPE_CHECKING:
    from engine.tracing.autocast import Autocast
    from engine.tracing.tracer import Tracer

aten: Any = torch.ops.aten

LIBRARY = "bitsandbytes"
BLOCK, ABSMAX_BLOCK = 64, 256
"""Values that share a scale in nf4, and scales that share one of their own (QLoRA, section 3)."""
OUTLIER = 6.0
"""From this on an activation is an outlier, whose column int8 computes in 16 bits (LLM.int8(), section 3.2)."""

_ON_META: dict[str, tuple[str, Callable[..., torch.Tensor]]] = {
    "dequantize_blockwise": (
        "(Tensor A, Tensor absmax, Tensor code, int blocksize, ScalarType dtype) -> Tensor",
        lambda packed, absmax, code, blocksize, dtype: torch.empty_like(packed, dtype=dtype),
    ),
    "dequantize_4bit": (
        "(Tensor A, Tensor absmax, int blocksize, str quant_type, int[] shape, ScalarType dtype) -> Tensor",
        lambda packed, absmax, blocksize, kind, shape, dtype: torch.empty(shape, dtype=dtype, device="meta"),
    ),
    "int8_row_scales": ("(Tensor A) -> Tensor", lambda rows: rows.new_empty(rows.shape[:1], dtype=torch.float32)),
    "int8_rows": ("(Tensor A, Tensor row_stats) -> Tensor", lambda rows, _: torch.empty_like(rows, dtype=torch.int8)),
    "int8_linear_matmul": (
        "(Tensor A, Tensor B) -> Tensor",
        lambda rows, weight: rows.new_empty((*rows.shape[:-1], weight.shape[0]), dtype=torch.int32),
    ),
    "int8_mm_dequant": (
        "(Tensor A, Tensor row_stats, Tensor col_stats, ScalarType? dtype=None, Tensor? bias=None) -> Tensor",
        lambda whole, row_stats, col_stats, dtype=None, bias=None: torch.empty_like(whole, dtype=dtype),
    ),
}
"""By name: signature and result; as in bitsandbytes/_ops.py, but that quantising rows is one operator there."""
_DEFINED: Any = torch.library.Library("traintop", "FRAGMENT")  # type: ignore[no-untyped-call]
for _name, (_signature, _kernel) in _ON_META.items():
    _DEFINED.define(_name + _signature)
    _DEFINED.impl(_name, _kernel, "Meta")
ON_META: Any = torch.ops.traintop
"""In the place of `torch.ops.bitsandbytes`; each is one kernel, so that its traffic is that of the kernel."""


@register_flop_formula(ON_META.int8_linear_matmul)
def _int8_flops(a_shape: torch.Size, b_shape: torch.Size, *_: Any, **__: Any) -> int:
    n: int = mm_flop(a_shape, b_shape[::-1])
    return n


def gemm_4bit(
    ops: Any,
    source: torch.Tensor,
    packed: torch.Tensor,
    shape: Any,
    absmax: torch.Tensor,
    blocksize: int,
    quant_type: str,
    bias: torch.Tensor | None = None,
    absmax_8bit: torch.Tensor | None = None,
    absmax_code: torch.Tensor | None = None,
    absmax_offset: torch.Tensor | None = None,
) -> torch.Tensor:
    """`_dequant_linear_fallback` of backends/cuda/ops.py: the scales, then the weight are made anew for the product.

    For few tokens (at most 1536, fewer on most cards) versions from 0.50 on do it in one kernel that makes neither:
    backward makes them all the same, so the peak is no other.
    """
    if absmax_8bit is not None:
        scales = ops.dequantize_blockwise(absmax_8bit, absmax, absmax_code, ABSMAX_BLOCK, torch.float32)
        absmax = scales + absmax_offset
    weight = ops.dequantize_4bit(packed, absmax, blocksize, quant_type, shape, source.dtype)
    return linear(source, weight, bias)


def linear(source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`F.linear` in its parts (aten/native/Linear.cpp): from inside a kernel a mode sees it whole, like all such."""
    if not source.is_contiguous():
        source = source.clone(memory_format=torch.contiguous_format)
    rows = source.view(-1, source.shape[-1])
    product = torch.mm(rows, weight.t()) if bias is None else torch.addmm(bias, rows, weight.t())
    return product.view(*source.shape[:-1], weight.shape[0])


def int8_scaled_mm(
    ops: Any,
    rows: torch.Tensor,
    weight: torch.Tensor,
    row_stats: torch.Tensor,
    col_stats: torch.Tensor,
    bias: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """`int8_scaled_mm` of backends/default/ops.py and `int8_mm_dequant` of backends/cuda/ops.py.

    A product in 32 bits, then fp16, to which a bias of another type is added, then the wanted type.
    """
    whole = ops.int8_linear_matmul(rows, weight)
    fused = bias if bias is not None and bias.dtype is torch.float16 else None
    half: Any = ops.int8_mm_dequant(whole, row_stats, col_stats, dtype=torch.float16, bias=fused)
    if bias is not None and fused is None:
        half.add_(bias)
    output: torch.Tensor = half if dtype in (None, torch.float16) else aten._to_copy(half, dtype=dtype)
    return output


def find_outliers(source: torch.Tensor, threshold: float) -> torch.Tensor:
    """Which values are outliers (`int8_vectorwise_quant` of backends/cuda/ops.py)."""
    return source.abs() >= threshold


# live, on a CPU ---------------------------------------------------------------------------------------------------


def cuda_paths(tracer: Tracer) -> dict[Any, Callable[..., Any]]:
    """By operator of the library, what CUDA does in its place, for real tensors; empty where it is not loaded."""
    if LIBRARY not in sys.modules:
        return {}
    ops: Any = torch.ops.bitsandbytes
    return {
        ops.gemm_4bit.default: partial(gemm_4bit, ops),
        ops.int8_scaled_mm.default: partial(int8_scaled_mm, ops),
        ops.int8_mixed_scaled_mm.default: partial(_int8_mixed, ops),
        ops.int8_vectorwise_quant.default: partial(_int8_quantise, ops, tracer),
    }


def _int8_quantise(
    ops: Any, tracer: Tracer, source: torch.Tensor, threshold: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """`int8_vectorwise_quant` of backends/cuda/ops.py: the results first, then what looks for outliers."""
    scales = source.new_empty(source.shape[:1], dtype=torch.float32)
    rows = torch.empty_like(source, dtype=torch.int8)
    columns = None
    if threshold > 0.0:
        outliers = find_outliers(source, threshold)
        if outliers.any():
            columns = torch.argwhere(outliers.any(dim=0)).view(-1)
        else:
            columns = source.new_empty(0, dtype=torch.int64)
    with tracer.suspended():
        values, stats, _ = ops.int8_vectorwise_quant.default(source, threshold)
        rows.copy_(values)
        scales.copy_(stats)
    return rows, scales, columns


def _int8_mixed(
    ops: Any,
    source: torch.Tensor,
    rows: torch.Tensor,
    weight: torch.Tensor,
    row_stats: torch.Tensor,
    col_stats: torch.Tensor,
    outliers: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`int8_mixed_scaled_mm` of backends/default/ops.py, which CUDA has too."""
    columns = None
    if outliers is not None and outliers.numel():
        kept = source[:, outliers].contiguous()
        columns = ops.int8_vectorwise_dequant.default(weight[:, outliers].contiguous(), col_stats).to(source.dtype).t()
    else:
        kept = source.new_empty(0)
    output = int8_scaled_mm(ops, rows, weight, row_stats, col_stats, bias, source.dtype)
    return (output if columns is None else output.addmm(kept, columns)), kept


# the model --------------------------------------------------------------------------------------------------------


def tensors_of(parameter: Any) -> list[torch.Tensor] | None:
    """A quantised weight and what belongs to it, in the order in which they are moved; None of another parameter.

    (`Params4bit.to`, `QuantState.to` and `Int8Params.to` of nn/modules.py and functional.py.)
    """
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return [state.code, state.absmax, state.offset, state.state2.absmax, state.state2.code, parameter]
    scales = getattr(parameter, "SCB", None)
    return None if scales is None else [parameter, scales]


def n_values(parameter: torch.Tensor) -> int:
    """Parameters that a tensor stands for: nf4 packs two into a byte."""
    return parameter.numel() * (2 if parameter.dtype is torch.uint8 else 1)


def as_on_cuda(model: torch.nn.Module, autocast: Autocast | None) -> list[Any]:
    """Have the model's quantised layers do on a CPU, or on meta tensors, what they do on CUDA; hooks, to be removed.

    Training on a CPU int8 takes a way of its own, which CUDA has not; and peft's layers beside quantised ones ask torch
    whether `autocast` is at work, which is not torch's here.
    """
    hooks: list[Any] = []
    for module in model.modules():
        if type(module).__name__ == "Linear8bitLt" and hasattr(module, "state"):
            hooks.append(module.register_forward_pre_hook(_not_as_in_training))
        elif autocast is not None and _is_beside_quantised(module):
            flag = _Flag(autocast)
            hooks += [
                module.register_forward_pre_hook(flag.on),
                module.register_forward_hook(flag.off, always_call=True),
            ]
    return hooks


def _is_beside_quantised(module: torch.nn.Module) -> bool:
    weight = getattr(getattr(module, "base_layer", None), "weight", None)
    return hasattr(module, "lora_A") and weight is not None and not weight.is_floating_point()


def _not_as_in_training(module: torch.nn.Module, _: Any) -> None:
    module.training = False  # of a linear layer this decides that alone


class _Flag:
    """torch's own flag of CUDA's autocast, which casts nothing where there is no CUDA tensor."""

    def __init__(self, autocast: Autocast) -> None:
        self._autocast = autocast
        self._before: list[bool] = []

    def on(self, *_: Any) -> None:
        self._before.append(torch.is_autocast_enabled("cuda"))
        torch.set_autocast_enabled("cuda", self._autocast.is_active)

    def off(self, *_: Any) -> None:
        torch.set_autocast_enabled("cuda", self._before.pop())


def quantised_parameters(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, list[torch.Tensor]]]:
    """The layers with quantised weights, and their tensors."""
    for module in model.modules():
        tensors = tensors_of(module._parameters.get("weight"))
        if tensors is not None:
            yield module, tensors
