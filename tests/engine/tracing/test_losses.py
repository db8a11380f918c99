"""What is accounted for chunks of cross-entropy is what PyTorch's own operator allocates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)
from torch.utils._python_dispatch import TorchDispatchMode

from engine.gpus.catalogue import find
from engine.tracing.kernels import CudaKernels
from engine.tracing.losses import CHUNKED, CPU_ROWS, LIGER, chunk_size, linear_losses
from engine.tracing.scratch import Rule
from engine.tracing.tracer import Tracer

ROWS, FEATURES, CLASSES = 4096, 256, 10_000


class _Peak:
    """A sink that knows how much was alive at most."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.alive = self.peak = 0

    def allocate(self, size: int, category: str, stream: int = 0) -> int:
        self.sizes.append(size)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        return len(self.sizes) - 1

    def allocate_by(self, rule: Rule, category: str) -> int | None:
        return self.allocate(rule.n_bytes, category) if rule.n_bytes else None

    def free(self, handle: int) -> None:
        self.alive -= self.sizes[handle]

    def recategorize(self, handle: int, category: str) -> None:
        pass


def _tensors(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    hidden, weight = (torch.empty(n, FEATURES, dtype=dtype, device="meta") for n in (ROWS, CLASSES))
    return [hidden, weight, torch.empty(CLASSES, dtype=dtype, device="meta")]


def _accounted(kernel: str, dtype: torch.dtype = torch.float32, gpu: str = "a100-40gb") -> tuple[int, int]:
    """The peaks of forward, and of backward."""
    sink = _Peak()
    tracer = Tracer(sink, "meta")
    tensors = [tensor.requires_grad_() for tensor in _tensors(dtype)]
    target = torch.empty(ROWS, dtype=torch.int64, device="meta")
    with CudaKernels(tracer, find(gpu)), tracer:
        losses = linear_losses(*tensors, target, kernel=kernel)
        forward, sink.peak = sink.peak, sink.alive
        losses.backward(torch.empty_like(losses))
    return forward, sink.peak


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="PyTorch before 2.13")
def test_chunks_are_those_of_pytorch() -> None:
    """In fp32, where the operator does on any device what it does on CUDA."""
    from torch.nn.modules import linear_cross_entropy as theirs

    hidden, weight, bias = _tensors()
    target = torch.empty(ROWS, dtype=torch.int64, device="meta")
    size = chunk_size(ROWS, CLASSES, FEATURES, halved=True)

    def peak(grad: torch.Tensor | None) -> int:
        sink = _Peak()
        wants = grad is not None
        more: dict[str, Any] = {"loss_grad_output": grad}
        options = "none", -100, 0.0, size, "compact", torch.float32, wants, wants, wants
        with Tracer(sink, "meta"):
            theirs._linear_cross_entropy_batch_chunked_accumulator(hidden, weight, target, bias, None, *options, **more)
        return sink.peak

    forward, backward = _accounted(CHUNKED)
    grads = (torch.empty(ROWS, device="meta"),)
    assert forward == pytest.approx(peak(None), rel=0.01)
    assert backward == pytest.approx(peak(grads[0]), rel=0.01)


@pytest.mark.parametrize("kernel", [CHUNKED, LIGER])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_far_less_than_the_logits_is_held(kernel: str, dtype: torch.dtype) -> None:
    forward, backward = _accounted(kernel, dtype)
    logits, gradients = ROWS * CLASSES * 4, (ROWS + CLASSES) * FEATURES * dtype.itemsize
    assert forward < logits / 10
    assert backward < gradients + logits / 5


class _Products(TorchDispatchMode):
    """How many products of matrices were computed."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_a_cpu_computes_no_chunks_of_single_rows(softcap: float | None) -> None:
    rows, classes, features = 4 * CPU_ROWS + 3, 4000, 8
    assert chunk_size(rows, classes, features, halved=True) == 1
    hidden, weight = (torch.randn(n, features).requires_grad_() for n in (rows, classes))
    with _Products() as products:
        losses = linear_losses(hidden, weight, None, torch.arange(rows), kernel=CHUNKED, softcap=softcap)
        losses.sum().backward()
    assert losses.shape == (rows,)
    assert 5 <= products.n <= 6 * 5  # five chunks, in forward and backward
