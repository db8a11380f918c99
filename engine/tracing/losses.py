"""Cross-entropy of a linear layer's outputs that are never all there: a row's loss from chunks of rows.

`linear_losses` computes it with PyTorch's chunked operator or Liger's kernel. In a traced run it holds what those hold
on CUDA, whatever computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)
from torch.overrides import handle_torch_function, has_torch_function
from torch.utils.checkpoint import checkpoint

from engine.contract.forecast_types import ACTIVATIONS, TEMPORARIES
from engine.tracing.scratch import CHOICE, HALF, Step

if TYPE_CHECKING:
    from engine.tracing.tracer import Tracer

CHUNKED, LIGER = "chunked", "liger"
CPU_ROWS = 64
"""Rows of a chunk at least, on a CPU. Each chunk reads and writes the weight's whole gradient: of a narrow model with a
large vocabulary PyTorch makes chunks of one row, which take ten times as long there.
"""


def linear_losses(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    target: torch.Tensor,
    *,
    kernel: str,
    softcap: float | None = None,
    ignore_index: int = -100,
) -> torch.Tensor:
    """The loss of each row in fp32, shape (rows,), 0 where its target is `ignore_index`.

    `hidden` is (rows, features), `weight` (classes, features), `bias` (classes,), `target` (rows,). With `softcap` the
    outputs are softcap × tanh(outputs / softcap). In autocast, rows and weights are cast as a linear layer's are.
    """
    tensors = (hidden, weight, bias, target)
    if has_torch_function(tensors):
        options: dict[str, Any] = {"kernel": kernel, "softcap": softcap, "ignore_index": ignore_index}
        traced: torch.Tensor = handle_torch_function(linear_losses, tensors, *tensors, **options)
        return traced
    kind = hidden.device.type
    if not torch.is_autocast_enabled(kind):
        return _computed(hidden, weight, bias, target, kernel, softcap, ignore_index)
    dtype = torch.get_autocast_dtype(kind)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    with torch.autocast(kind, enabled=False):
        return _computed(hidden, weight, bias, target, kernel, softcap, ignore_index)


def _computed(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    target: torch.Tensor,
    kernel: str,
    softcap: float | None,
    ignore_index: int,
) -> torch.Tensor:
    """Losses of single rows, not their sum: PyTorch's operator and Liger's would else make gradients in forward, before

    fp16's loss is scaled (small ones vanish) and with a sum in 16 bits. The logits' product is computed twice for it.
    """
    losses: torch.Tensor
    if kernel == LIGER and hidden.is_cuda:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        losses = liger_fused_linear_cross_entropy(
            hidden, weight, target, bias, ignore_index=ignore_index, reduction="none", softcap=softcap
        )
    elif softcap is not None or not hasattr(F, "linear_cross_entropy"):
        losses = by_checkpoints(hidden, weight, bias, target, softcap, ignore_index)
    else:
        losses = F.linear_cross_entropy(
            hidden,
            weight,
            target,
            linear_bias=bias,
            reduction="none",
            ignore_index=ignore_index,
            options=_options(hidden, weight),
        )
    return losses.float()


def _options(hidden: torch.Tensor, weight: torch.Tensor) -> torch.nn.LinearCrossEntropyOptions:
    """PyTorch's choice; on a CPU no fewer than `CPU_ROWS` rows a chunk."""
    if not hidden.is_cpu:
        return torch.nn.LinearCrossEntropyOptions()
    size = max(CPU_ROWS, chunk_size(hidden.size(0), *weight.shape, halved=True))
    return torch.nn.LinearCrossEntropyOptions(batch_chunk_size=size, chunking_method=None)


def by_checkpoints(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    target: torch.Tensor,
    softcap: float | None,
    ignore_index: int,
) -> torch.Tensor:
    """What neither operator has: each chunk's logits are computed again in backward."""

    def of_chunk(rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = F.linear(rows, weight, bias)
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        return F.cross_entropy(logits.float(), targets, ignore_index=ignore_index, reduction="none")

    size = max(CPU_ROWS if hidden.is_cpu else 1, chunk_size(hidden.size(0), *weight.shape))
    pairs = zip(torch.split(hidden, size), torch.split(target, size), strict=True)
    losses = [checkpoint(of_chunk, *pair, use_reentrant=False, preserve_rng_state=False) for pair in pairs]
    return torch.cat(losses)


def chunk_size(rows: int, classes: int, features: int, *, halved: bool = False) -> int:
    """Rows of a chunk: its logits take about as much memory as all rows' inputs, or half of it.

    (`aspect_ratio`, and `aspect_ratio:2`, of torch/nn/modules/linear_cross_entropy_options.py; Liger's is the first.)
    """
    wanted = -(-rows // -(-classes // features))
    size = 1 << (wanted - 1).bit_length()
    return max(1, min(size // 2 if halved else size, rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Memory for the rows of a chunk, of which there are not evenly more where there are more rows."""

    rows: int
    """All of them."""
    classes: int
    features: int
    each: int
    """Bytes of a row."""
    halved: bool = field(metadata=CHOICE)
    is_next: bool = field(default=False, metadata=CHOICE)
    """Whether it is there only where a second chunk follows on the first."""

    @property
    def n_bytes(self) -> int:
        """Bytes of a chunk."""
        size = chunk_size(self.rows, self.classes, self.features, halved=self.halved)
        return 0 if self.is_next and size == self.rows else size * self.each


Observe = Callable[[torch.Tensor, torch.Tensor, bool, bool], None]
"""Told of the rows, the weight, whether in backward, and whether the weight is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCall:
    """The settings of one `linear_losses`, and who hears of it."""

    kernel: str
    softcap: float | None
    ignore_index: int
    capability: tuple[int, int]
    tracer: Tracer
    observe: Observe | None

    def compute(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, target: torch.Tensor
    ) -> torch.Tensor:
        """The losses themselves."""
        return _computed(hidden, weight, bias, target, self.kernel, self.softcap, self.ignore_index)

    def _chunk(self, hidden: torch.Tensor, weight: torch.Tensor, each: int, *, is_next: bool = False) -> Chunk:
        classes, features = weight.shape
        halved = self.kernel == CHUNKED
        sizes = {"rows": hidden.size(0), "classes": classes, "features": features, "each": each}
        return Chunk(**sizes, halved=halved, is_next=is_next)

    def scratch(self, hidden: torch.Tensor, weight: torch.Tensor, *, backward: bool) -> tuple[list[Step], list[Step]]:
        """What is allocated before and after the results, and freed with the call.

        PyTorch's `_ChunkContext` with the policy `compact` (torch/nn/modules/linear_cross_entropy.py); Liger's
        `fused_linear_cross_entropy_forward` (liger_kernel/ops/fused_linear_cross_entropy.py, 0.8).
        """
        rows, (classes, features), element = hidden.size(0), weight.shape, hidden.element_size()
        is_half, later = hidden.dtype in HALF, self.capability >= (8, 0)
        if self.kernel == LIGER:
            logits: list[Step] = [self._chunk(hidden, weight, classes * element)]
            if not backward:  # its gradient of the input is made anyway
                return [hidden.numel() * element], [rows, *logits]
            after: list[Step] = [4 * rows, rows, *logits, self._chunk(hidden, weight, classes * element)]
            if not (is_half and later):
                after += [classes * features * element, *([classes * features * 4] if is_half else [])]
            return [], after
        is_wide = hidden.dtype is torch.bfloat16  # logits in fp32
        of_logits = 4 if is_wide else element
        before: list[Step] = [self._chunk(hidden, weight, size) for size in (classes * of_logits, of_logits)]
        after = [rows, 8 * rows, 4 * rows]  # mask, targets, weights of the rows
        if backward:
            if is_half:
                after.append(self._chunk(hidden, weight, 4 * features))
            if is_wide:  # the logits in 16 bits; the loop still has the last chunk's when it makes the next one's
                each = classes * element
                after += [self._chunk(hidden, weight, each), self._chunk(hidden, weight, each, is_next=True)]
            after.append(self._chunk(hidden, weight, features * element))
        return before, after


class FusedLosses(torch.autograd.Function):
    """The losses of rows, holding what the operators hold on CUDA: rows, weight, bias and targets for backward.

    On meta tensors nothing is computed. Real ones are computed unaccounted, and once more in backward.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> torch.Tensor:
        hidden, weight, bias, target, call = args
        losses: torch.Tensor
        ctx.call = call
        before, after = call.scratch(hidden, weight, backward=False)
        with call.tracer.holding(*before):
            with call.tracer.suspended():
                if hidden.is_meta:
                    losses = hidden.new_empty(hidden.size(0), dtype=torch.float32)
                else:
                    losses = call.compute(hidden, weight, bias, target)
            call.tracer.account(losses, ACTIVATIONS)
            call.tracer.use_scratch(*after)
        if call.observe is not None:
            call.observe(hidden, weight, False, False)
        ctx.save_for_backward(hidden, weight, bias, target)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        call, (hidden, weight, bias, target) = ctx.call, ctx.saved_tensors
        inputs = hidden, weight, bias
        wanted = [at for at, tensor in enumerate(inputs) if tensor is not None and ctx.needs_input_grad[at]]
        before, after = call.scratch(hidden, weight, backward=True)
        results: list[torch.Tensor | None] = [None] * 3
        with call.tracer.holding(*before):
            with call.tracer.suspended():
                if hidden.is_meta:
                    made = [torch.empty_like(inputs[at]) for at in wanted]
                else:
                    made = _real_gradients(call, inputs, target, wanted, grads[0])
            for at, result in zip(wanted, made, strict=True):
                call.tracer.account(result, TEMPORARIES)
                results[at] = result
            call.tracer.use_scratch(*after)
        if call.observe is not None:
            call.observe(hidden, weight, True, 1 in wanted)
        return (*results, None, None)


def _real_gradients(
    call: LossCall, inputs: tuple[Any, ...], target: torch.Tensor, wanted: list[int], grad: torch.Tensor
) -> list[torch.Tensor]:
    with torch._C.DisableTorchFunction(), torch.enable_grad():
        fresh: list[Any] = [tensor if tensor is None else tensor.detach() for tensor in inputs]
        for at in wanted:
            fresh[at].requires_grad_()
        losses = call.compute(fresh[0], fresh[1], fresh[2], target)
        return list(torch.autograd.grad(losses, [fresh[at] for at in wanted], grad))
