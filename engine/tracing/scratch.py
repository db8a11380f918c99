"""What CUDA's kernels allocate inside one operator, beside its result, and free again before it ends.

An amount that does not grow evenly with the batch and the length is a `Rule`, so that traces at some sizes hold at
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import torch

from engine.gpus.catalogue import Gpu

aten = torch.ops.aten

CHOICE = {"choice": True}
"""Of a rule's field that decides how the others are read: the same at every batch size and length, or not foretold."""
HALF = (torch.float16, torch.bfloat16)


class Rule(Protocol):
    """A size by numbers that are plain functions of batch size and length (see `engine.forecast.sizes`).

    A frozen dataclass of whole numbers and truths.
    """

    @property
    def n_bytes(self) -> int:
        """Bytes to allocate; 0 for nothing."""


Step = int | Rule
"""Bytes to allocate, or (-1, -2, …) the first, second, … allocation of this operator to free before its end."""

Scratch = Callable[..., Sequence[Step]]
"""From an operator's arguments to the steps that its CUDA kernel takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Memory for whole groups of a sequence's tokens, such as blocks of 64."""

    each: int
    """Bytes of a group."""
    length: int
    size: int
    """Tokens of a group."""

    @property
    def n_bytes(self) -> int:
        """Bytes of all groups, the last one perhaps not full."""
        return self.each * -(-self.length // self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """Partial results of blocks that share an output: `setReduceConfig`, `global_memory_size` of cuda/Reduce.cuh.

    Few outputs with many inputs, such as a bias' gradient, are reduced by many blocks each. (Their semaphores, some
    bytes in the small pool, are left out.)
    """

    inputs: int
    """Per output."""
    outputs: int
    is_along_rows: bool = field(metadata=CHOICE)
    """Whether what is reduced lies closest together in memory."""
    vector: int = field(metadata=CHOICE)
    """Neighbouring inputs (along rows, from 129 of them on) or outputs that a thread may read at once."""
    multiprocessors: int
    threads: int
    """That a multiprocessor holds."""
    accumulator: int = 4
    """Bytes of a partial result: half precision is summed in fp32."""

    @property
    def n_bytes(self) -> int:
        """Bytes of the buffer."""
        width, height, per_block = self._block(self.vector if not self.is_along_rows or self.inputs > 128 else 1)
        step, x_outputs = (width, 1) if self.is_along_rows else (1, width)
        per_thread = -(-self.inputs // step)
        if per_thread < height * 16 and per_thread < 256:
            return 0  # a warp does an output alone
        per_thread = -(-self.inputs // (step * height))
        grid = -(-(self.outputs // (1 if self.is_along_rows else self.vector)) // x_outputs)
        target = self.multiprocessors * (self.threads // (width * height))
        if per_thread < 256 or grid > target:
            return 0
        blocks = max(min(-(-target // grid), -(-per_thread // 16)), -(-per_thread // 256))
        if blocks <= 1:
            return 0
        return self.accumulator * self.outputs * blocks * per_block

    def _block(self, vector: int) -> tuple[int, int, int]:
        """Width and height of a block of threads, and partial results that one keeps for a row of its outputs."""
        x, y = (self.inputs, self.outputs) if self.is_along_rows else (self.outputs, self.inputs)
        most = 512 if self.is_along_rows else 512 // vector
        x, y = (_power_of_two(max(1, x // vector), most), _power_of_two(y, most))
        width = min(x, 32)
        height = min(y, most // width)
        width = min(x, most // height)
        return width, height, 1 if self.is_along_rows else width * vector


def _power_of_two(n: int, most: int) -> int:
    return most if n >= most else 1 << (n.bit_length() - 1)


def reduction(gpu: Gpu, source: torch.Tensor, dims: Sequence[int] | None) -> Sequence[Step]:
    """The scratch memory of a sum or mean of `source` over `dims` (None or empty: all)."""
    gone = {dim % source.dim() for dim in dims} if dims else set(range(source.dim()))
    shape = [
        (size, stride, index in gone)
        for index, (size, stride) in enumerate(zip(source.shape, source.stride(), strict=True))
        if size > 1
    ]
    if not any(is_gone for *_, is_gone in shape) or any(stride == 0 for _, stride, _ in shape) or not source.numel():
        return ()
    reduced = _joined([(size, stride) for size, stride, is_gone in shape if is_gone])
    kept = _joined([(size, stride) for size, stride, is_gone in shape if not is_gone])
    inputs, outputs = math.prod(size for size, _ in reduced), math.prod(size for size, _ in kept)
    along_rows = not kept or reduced[0][1] < kept[0][1]
    vector = 1
    if along_rows and reduced[0][1] == 1 and len(reduced) == 1:
        vector = 4
    elif not along_rows and kept[0][1] == 1:
        vector = math.gcd(4, kept[0][0], *(stride for _, stride in [*reduced, *kept[1:]]))
    rule = Reduction(
        inputs=inputs,
        outputs=outputs,
        is_along_rows=along_rows,
        vector=vector,
        multiprocessors=gpu.multiprocessors,
        threads=gpu.threads_per_multiprocessor,
        accumulator=8 if source.dtype in (torch.float64, torch.int64) else 4,
    )
    return (rule,)


def _joined(dims: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sizes and strides, the closest in memory first, with those joined that follow on each other."""
    ordered = sorted(dims, key=lambda dim: dim[1])
    joined = ordered[:1]
    for (size, stride), (more, further) in pairwise(ordered):
        if further == size * stride:
            joined[-1] = (joined[-1][0] * more, joined[-1][1])
        else:
            joined.append((more, further))
    return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingGradient:
    """More than 3072 indices are sorted, and the gradient is summed by segments of them.

    (`embedding_dense_backward_cuda` of cuda/Embedding.cu and EmbeddingBackwardKernel.cu: NROWS_PER_THREAD is 10.)
    """

    indices: int
    rows: int
    """Of the embedding."""
    per_index: int = 0  # bytes
    per_segment: int = 0  # bytes

    @property
    def n_bytes(self) -> int:
        """Bytes of one of the arrays."""
        if self.indices <= 3072:
            return 0
        segments = self.indices // 10 + min(self.indices, self.rows)
        return self.per_index * self.indices + self.per_segment * segments


def embedding_gradient(grad: torch.Tensor, indices: torch.Tensor, rows: int, *_: object) -> Sequence[Step]:
    """Indices, their order and its inverse; where segments begin; the partial sums in fp32."""
    n = indices.numel()
    sorting = [EmbeddingGradient(indices=n, rows=rows, per_index=8)] * 3
    return (
        *sorting,
        EmbeddingGradient(indices=n, rows=rows, per_segment=8),
        EmbeddingGradient(indices=n, rows=rows, per_segment=4 * grad.size(-1)),
    )


def softmax_gradient(grad: torch.Tensor, *_: object) -> Sequence[Step]:
    """`softmax_backward_cuda_out` multiplies gradient and output first (cuda/SoftMax.cu)."""
    return (grad.numel() * grad.element_size(),)


def flash_gradient(query: torch.Tensor, key: torch.Tensor) -> Sequence[Step]:
    """softmax_d and dq_accum in fp32, and expanded dk and dv where keys are shared (flash_api.cpp: mha_bwd).

    Rows are rounded to 128, the head dimension to 32.
    """
    batch, heads, length, width = query.shape
    columns = -(-width // 32) * 32
    rows = [Groups(each=batch * heads * 128 * 4 * each, length=length, size=128) for each in (1, columns)]
    scratch: list[Step] = [*rows]
    if heads != key.size(1):
        scratch += [batch * key.size(2) * heads * width * query.element_size()] * 2
    return scratch


def efficient_gradient(query: torch.Tensor) -> Sequence[Step]:
    """delta, and the workspace of dq: blocks of 64 × 64 in fp32 with a header of 16 bytes.

    In fp32 delta is the sum of a product of the output's size, made contiguous. (attention_backward.cu, and
    `GradQTempStorage` of mem_eff_attention/kernel_backward.h.)
    """
    batch, heads, length, width = query.shape
    delta = batch * heads * length * 4
    workspace = Groups(each=batch * heads * -(-width // 64) * (64 * 64 * 4 + 16), length=length, size=64)
    if query.dtype in HALF:
        return delta, workspace
    product = batch * heads * length * width * 4
    return product, delta, delta, -2, -1, workspace, -3


def scratch_of(gpu: Gpu) -> dict[Any, Scratch]:
    """By operator, what its kernel on `gpu` allocates and frees again."""

    def over_dims(source: torch.Tensor, dims: Sequence[int] | None = None, *_: object) -> Sequence[Step]:
        return reduction(gpu, source, dims)

    def over_all(source: torch.Tensor, *_: object) -> Sequence[Step]:
        return reduction(gpu, source, None)

    return {
        aten.sum.dim_IntList: over_dims,
        aten.mean.dim: over_dims,
        aten.sum.default: over_all,
        aten.mean.default: over_all,
        aten.embedding_dense_backward.default: embedding_gradient,
        aten._softmax_backward_data.default: softmax_gradient,
    }
