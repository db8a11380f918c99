"""What a compiled model keeps for backward: traced as torch.compile traces it, divided by Inductor's own partitioner.

AOTAutograd makes one graph of forward and backward; the min-cut partitioner decides what forward hands over and what
backward computes again inside its fused kernels. All on meta tensors: nothing is computed or compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)
from torch.overrides import TorchFunctionMode

from engine.tracing.autocast import Autocast
from engine.tracing.kernels import GROUPED

PRIME = 1009
"""The batch's size: what grows with the batch is told by it."""


def kept_by_compiled(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], autocast: Autocast | None
) -> tuple[int, int]:
    """Bytes that the compiled forward keeps for backward: per sample, and whatever the batch.

    `model` and `batch`, of `PRIME` samples, are on meta. Weights, their views and the batch are not counted. Raises
    whatever tracing raises where a model cannot be.
    """
    from torch._functorch.aot_autograd import aot_function
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode

    weights = dict(model.named_parameters()) | dict(model.named_buffers())
    found: list[int] = []

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        inputs = dict(zip(batch, tensors[len(weights) :], strict=True))
        with AsOnCuda(autocast):
            output = torch.func.functional_call(model, dict(zip(weights, tensors, strict=False)), (), inputs)
        result: torch.Tensor = output.loss
        return result

    def look(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        found.extend(_kept(graph))
        return graph.forward

    traced = aot_function(
        loss,
        fw_compiler=look,  # type: ignore[arg-type]  # its second parameter may have any name
        bw_compiler=lambda graph, inputs: graph.forward,
        partition_fn=partial(min_cut_rematerialization_partition, compiler="inductor"),
        decompositions=select_decomp_table(),
    )
    with FakeTensorMode():  # on meta itself autograd has no formula for some of what is traced
        inputs = [torch.empty(t.shape, dtype=t.dtype) for t in (*weights.values(), *batch.values())]
        for fake, weight in zip(inputs, weights.values(), strict=False):
            fake.requires_grad_(weight.requires_grad)
        traced(*inputs)
    per_sample = sum(size // PRIME for size in found if size % PRIME == 0)
    return per_sample, sum(size for size in found if size % PRIME)


def _kept(graph: torch.fx.GraphModule) -> list[int]:
    """Bytes of every tensor that forward hands to backward, each memory once."""
    (outputs,) = next(node for node in graph.graph.nodes if node.op == "output").args
    memories = {_memory(node) for node in outputs[1:] if isinstance(node, torch.fx.Node)}
    sizes = []
    for node in memories:
        value = node.meta.get("val")
        if node.op != "placeholder" and isinstance(value, torch.Tensor):
            sizes.append(value.numel() * value.element_size())
    return sizes


def _memory(node: torch.fx.Node) -> torch.fx.Node:
    """The node whose memory this one is a view of."""
    while isinstance(node.target, torch._ops.OpOverload) and node.target.is_view:
        node = node.all_input_nodes[0]
    return node


_ANSWERS = {"__bool__": True, "item": True, "is_nonzero": True, "__contains__": False}
"""What is asked of values, which are not there: whether a mask hides nothing, whether padding is among the tokens."""


class AsOnCuda(TorchFunctionMode):
    """What is traced as it would be on CUDA: its autocast, dropout in one kernel, and fused attention."""

    def __init__(self, autocast: Autocast | None) -> None:
        super().__init__()
        self._autocast = autocast

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._autocast is not None:
            args, kwargs = self._autocast.cast(func, args, kwargs)
        answer = _ANSWERS.get(getattr(func, "__name__", ""))
        if answer is not None:
            return answer
        if func in (F.dropout, torch.dropout):
            return _dropped_out(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return _attended(*args, **kwargs)
        if func is F.cross_entropy:
            return _cross_entropy(*args, **kwargs)
        if func in GROUPED:
            return torch.ops.transformers.grouped_mm_fallback(args[0], args[1], kwargs["offs"])
        return func(*args, **kwargs)


def _cross_entropy(logits: torch.Tensor, target: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """Its mean by the operators that Inductor makes of it."""
    picked = torch.log_softmax(logits, -1).gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    counts = target != -100
    return -torch.where(counts, picked, 0.0).sum() / counts.sum()


def _dropped_out(tensor: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(tensor, p, True)[0] if training and p else tensor


def _attended(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    bias = None if attn_mask is None else attn_mask.to(query.dtype)
    result: torch.Tensor = _attention(query, key, value, bias)[0]
    return result


@torch.library.custom_op("traintop::attention", mutates_args=())
def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A kernel that the partitioner cannot look into; never run."""
    raise NotImplementedError


@_attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None) -> Any:
    batch, heads, length, _ = query.shape
    out = query.new_empty(batch, length, heads, value.size(-1)).transpose(1, 2)
    return out, query.new_empty((batch, heads, length), dtype=torch.float32)


@torch.library.custom_op("traintop::attention_backward", mutates_args=())
def _attention_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    logsumexp: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Its backward."""
    raise NotImplementedError


@_attention_backward.register_fake
def _(grad: Any, query: Any, key: Any, value: Any, bias: Any, out: Any, logsumexp: Any) -> Any:
    of_bias = query.new_empty(0) if bias is None else torch.empty_like(bias)
    return (*(torch.empty_like(tensor) for tensor in (query, key, value)), of_bias)


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, grad: torch.Tensor, grad_logsumexp: torch.Tensor) -> Any:
    *grads, of_bias = _attention_backward(grad, *ctx.saved_tensors)
    return (*grads, of_bias if ctx.needs_input_grad[3] else None)


_attention.register_autograd(_backward, setup_context=_remember)
