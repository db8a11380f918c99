"""What a CPU does in another way than a GPU, done as there.

fp16 products go through fp32: no CPU's libraries multiply fp16 fast, and most take eighty times as long. A GPU adds
fp16 products up in fp32 as well, so the results are nearer to its own. Products with quantised weights take the steps
of CUDA's kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from engine.tracing.gloo import COLLECTIVES, on_copies
from engine.tracing.tracer import MATMULS, Tracer

aten = torch.ops.aten

_ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu.default
_ATTENTION_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
_SOFTMAX = {aten._softmax.default, aten._log_softmax.default}
_SOFTMAX_BACKWARD = {aten._softmax_backward_data.default, aten._log_softmax_backward_data.default}
_SLOW = MATMULS | {_ATTENTION, _ATTENTION_BACKWARD}


class CpuTracer(Tracer):  # type: ignore[no-untyped-call]
    """The tracer for tensors on a CPU: what it accounts for stays fp16, only the arithmetic inside is fp32."""

    paths: Mapping[Any, Callable[..., Any]] = {}
    """By operator: the steps to trace in its place."""

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = self.paths.get(func) if self.paths and not self._suspended else None
        if path is not None:
            with self:
                return path(*args, **kwargs)
        if func in COLLECTIVES:
            return on_copies(func, args, kwargs)
        if func in _SOFTMAX and args[2]:  # fp16 to fp32 in one kernel, which a CPU lacks
            return func(args[0].float(), args[1], False)
        if func in _SOFTMAX_BACKWARD and args[3] is torch.float16:
            return func(*args[:3], torch.float32).half()
        if func not in _SLOW or not any(map(_is_half, args)):
            return func(*args, **kwargs)
        wide = {name: _widened(value) for name, value in kwargs.items()}  # attention's mask is one of them
        result = func(*map(_widened, args), **wide)
        if func is _ATTENTION:
            out, logsumexp = result
            return out.half(), logsumexp
        return tuple(part.half() for part in result) if isinstance(result, tuple) else result.half()


def _widened(value: Any) -> Any:
    return value.float() if _is_half(value) else value


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype is torch.float16 and value.device.type == "cpu"
