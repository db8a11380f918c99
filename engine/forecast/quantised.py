"""Quantised linear layers on meta tensors: they hold and make what bitsandbytes' do on CUDA, without the library.

Each follows a class of bitsandbytes 0.50 step by step: what lives how long depends on where it is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.tracing.quantised import (
    ABSMAX_BLOCK,
    BLOCK,
    ON_META,
    OUTLIER,
    find_outliers,
    gemm_4bit,
    int8_scaled_mm,
)


def _meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@dataclass(slots=True, kw_only=True)
class Scales:
    """The second level of double quantisation (`QuantState.state2`): fp32 for blocks of 256 scales, and their code."""

    absmax: torch.Tensor
    code: torch.Tensor


class State4bit:
    """`QuantState` of functional.py, as `quantize_4bit` makes it of a weight of `shape` and `dtype`."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        blocks = -(-shape.numel() // BLOCK)
        self.shape, self.dtype = shape, dtype
        self.absmax = _meta(blocks, dtype=torch.uint8)
        self.code = _meta(16)
        self.offset = _meta()
        self.state2 = Scales(absmax=_meta(-(-blocks // ABSMAX_BLOCK)), code=_meta(256))


class _Quantised(nn.Linear):
    """A linear layer of `shape` (outputs, inputs) whose weight is quantised; its bias is the given one."""

    def __init__(self, shape: torch.Size, bias: nn.Parameter | None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = shape
        self.bias = bias  # type: ignore[assignment]

    def begin(self) -> None:
        """Be as before the first step."""


class Linear4bit(_Quantised):
    """`Linear4bit` of nn/modules.py, which computes in `dtype`, the type of the weight before."""

    def __init__(self, shape: torch.Size, bias: nn.Parameter | None, dtype: torch.dtype) -> None:
        super().__init__(shape, bias)
        self.compute_dtype = dtype
        packed: Any = nn.Parameter(_meta(-(-shape.numel() // 2), 1, dtype=torch.uint8), requires_grad=False)
        packed.quant_state = State4bit(shape, dtype)
        self.weight = packed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight: Any = self.weight
        wanted = x.dtype
        x = x.to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        # one expression, as there: a name would hold the product until after the input is gone
        return _Product4bit.apply(x, weight, bias, weight.quant_state).to(wanted)  # type: ignore[no-any-return, no-untyped-call]


class _Product4bit(torch.autograd.Function):
    """`MatMul4Bit` of autograd/_functions.py: nothing of the input is kept."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> torch.Tensor:
        source, packed, bias, state = args
        packed = packed.view(-1, 1)
        output = gemm_4bit(
            ON_META,
            source,
            packed,
            state.shape,
            state.state2.absmax,
            BLOCK,
            "nf4",
            bias,
            state.absmax,
            state.state2.code,
            state.offset,
        )
        ctx.state, ctx.packed = state, packed
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        weight = _dequantised(ctx.packed, ctx.state)
        return torch.matmul(grad, weight.to(grad.dtype)), None, None, None


def _dequantised(packed: torch.Tensor, state: State4bit) -> torch.Tensor:
    """`dequantize_4bit` of functional.py: the scales are made anew before the weight."""
    absmax = ON_META.dequantize_blockwise(state.absmax, state.state2.absmax, state.state2.code, 256, torch.float32)
    absmax += state.offset
    weight: torch.Tensor = ON_META.dequantize_4bit(packed, absmax, BLOCK, "nf4", state.shape, state.dtype)
    return weight


class Linear8bitLt(_Quantised):
    """`Linear8bitLt` of nn/modules.py with weights of 8 bits (`has_fp16_weights=False`)."""

    def __init__(self, shape: torch.Size, bias: nn.Parameter | None) -> None:
        super().__init__(shape, bias)
        weight: Any = nn.Parameter(_meta(*shape, dtype=torch.int8), requires_grad=False)
        weight.SCB = _meta(shape[0])
        self.weight = weight
        self._bias_dtype = None if bias is None else bias.dtype

    def begin(self) -> None:
        if self.bias is not None and self._bias_dtype is not None:
            self.bias.data = self.bias.data.to(self._bias_dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.bias is not None and self.bias.dtype != x.dtype:
            self.bias.data = self.bias.data.to(x.dtype)
        product: torch.Tensor = _Product8bit.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return product


class _Product8bit(torch.autograd.Function):
    """`MatMul8bitLt` of autograd/_functions.py, where no activation is an outlier.

    It holds its input beside what autograd saves, and so also where checkpointing does without.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> torch.Tensor:
        source, weight, bias = args
        shape = source.shape
        if len(shape) == 3:
            source = source.reshape(-1, shape[-1])
        half = source.to(torch.float16)
        rows, stats, _ = _quantised_rows(half)
        del half  # held until the call has ended
        kept = source.new_empty(0)
        output = int8_scaled_mm(ON_META, rows, weight, stats, weight.SCB, bias, source.dtype)
        ctx.weight, ctx.shape, ctx.dtype = weight, shape, source.dtype
        ctx.tensors = (kept, source) if any(ctx.needs_input_grad[:2]) else ()
        return output.reshape(*shape[:-1], weight.shape[0]) if len(shape) == 3 else output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        if len(grad.shape) == 3:
            grad = grad.reshape(-1, grad.shape[-1]).contiguous()
        weight = ctx.weight.to(ctx.dtype, copy=True).mul_(ctx.weight.SCB.unsqueeze(1).mul(1.0 / 127.0))
        return torch.matmul(grad.to(ctx.dtype), weight).view(ctx.shape), None, None


def _quantised_rows(source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`int8_vectorwise_quant` of backends/cuda/ops.py."""
    stats = ON_META.int8_row_scales(source)
    rows = ON_META.int8_rows(source, stats)
    outliers = find_outliers(source, OUTLIER)
    outliers.any()  # whose answer is read, and taken for no
    return rows, stats, source.new_empty(0, dtype=torch.int64)


def stand_in(linear: nn.Module, shape: torch.Size, weights: str) -> nn.Module:
    """What stands for a linear layer on the meta device once its weight of `shape` (outputs, inputs) is quantised."""
    weight: torch.Tensor = linear.weight  # type: ignore[assignment]
    bias: nn.Parameter | None = linear.bias  # type: ignore[assignment]
    return Linear4bit(shape, bias, weight.dtype) if weights == "nf4" else Linear8bitLt(shape, bias)


def begin(model: nn.Module) -> None:
    """Have the model's quantised layers be as before the first step."""
    for module in model.modules():
        if isinstance(module, _Quantised):
            module.begin()


def lora_layers() -> dict[type[nn.Module], type[nn.Module]]:
    """By stand-in, peft's layer beside one; imports peft."""
    from engine.forecast.quantised_lora import Lora4bit, Lora8bit

    return {Linear4bit: Lora4bit, Linear8bitLt: Lora8bit}
