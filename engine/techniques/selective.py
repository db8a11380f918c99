"""Selective checkpointing: what is dear to compute is kept, the rest of a layer is computed again in backward.

Kept are the results of matrix products (those of experts too) and of fused attention; computed again are norms,
activation functions, dropout, sums and casts, whose operations hardly count. Attention that drops out is computed again
as well: random numbers have to be drawn in the order of forward, and an operator that is not run again draws none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from engine.tracing.kernels import KeptAttention

_PRODUCTS = frozenset(
    [
        *("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_grouped_mm"),
        "transformers::grouped_mm_fallback",
        "bitsandbytes::gemm_4bit",  # a quantised layer's product, whose parts nothing outside of it sees
    ]
)
_DROPOUT_OF_ATTENTION = {
    "aten::_scaled_dot_product_flash_attention": 3,
    "aten::_scaled_dot_product_efficient_attention": 5,
    "aten::_scaled_dot_product_cudnn_attention": 5,
    "aten::_scaled_dot_product_flash_attention_for_cpu": 3,
}
"""The place of `dropout_p` among the arguments; one that is left out is 0."""


def policy(ctx: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Whether the result of an operator of a layer is kept."""
    name = operator._schema.name if isinstance(operator, torch._ops.OpOverload) else ""
    keeps = name in _PRODUCTS
    if (place := _DROPOUT_OF_ATTENTION.get(name)) is not None:
        keeps = not (args[place] if len(args) > place else kwargs.get("dropout_p", 0.0))
    return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE


def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around a layer's forward, and around its computation in backward: `context_fn` of `torch.utils.checkpoint`."""
    forward, again = create_selective_checkpoint_contexts(policy)  # type: ignore[no-untyped-call]
    kept = KeptAttention()
    return _both(forward, kept.keeping()), _both(again, kept.giving())


@contextmanager
def _both(*inner: AbstractContextManager[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for each in inner:
            stack.enter_context(each)
        yield
