"""Scratch memory of CUDA's kernels: sizes that were recorded on a card, and some worked out by hand."""

from __future__ import annotations

import pytest
import torch

from engine.gpus.catalogue import find
from engine.tracing.scratch import EmbeddingGradient, Groups, efficient_gradient, reduction


def _bytes(gpu: str, shape: tuple[int, ...], dims: list[int] | None) -> list[int]:
    source = torch.empty(shape, device="meta")
    return [step if isinstance(step, int) else step.n_bytes for step in reduction(find(gpu), source, dims)]


@pytest.mark.parametrize(
    ("gpu", "shape", "n_bytes"),
    [
        ("h200", (2048, 768), 12_582_912),  # a bias' gradient of bert-base at batch 4 × 512, as recorded on an H200
        ("h200", (2048, 3072), 50_331_648),  # likewise
        ("h200", (512, 768), 0),  # at batch 1 a block does an output alone
        ("tesla-p4", (4096, 768), 4 * 768 * 54 * 128),  # 320 blocks fill the card, 6 cover the outputs: 54 each
        ("tesla-p4", (2048, 3072), 4 * 3072 * 14 * 128),
    ],
)
def test_many_blocks_sum_a_bias_gradient(gpu: str, shape: tuple[int, int], n_bytes: int) -> None:
    assert _bytes(gpu, shape, [0]) == [n_bytes]


def test_the_layout_decides() -> None:
    assert _bytes("h200", (4, 512, 768), [0, 1]) == _bytes("h200", (2048, 768), [0])
    assert _bytes("h200", (2**24,), None) == [4 * 528]  # one output: four blocks of 512 threads on each multiprocessor
    assert _bytes("h200", (2048, 768), [1]) == [0]
    assert _bytes("h200", (1, 768), [0]) == []
    assert list(reduction(find("h200"), torch.empty(1, device="meta").expand(10), None)) == []


def test_few_indices_are_not_sorted() -> None:
    few, many = (EmbeddingGradient(indices=512 * b, rows=30_522, per_segment=4 * 768) for b in (6, 8))
    assert few.n_bytes == 0
    assert many.n_bytes == 4 * 768 * (4096 // 10 + 4096)


def test_attention_of_bert_base_at_batch_4() -> None:
    query = torch.empty(4, 12, 512, 64, device="meta")
    steps = [step if isinstance(step, int) else step.n_bytes for step in efficient_gradient(query)]
    assert steps == [6_291_456, 98_304, 98_304, -2, -1, 6_297_600, -3]  # as recorded on an H200


def test_a_last_group_is_taken_whole() -> None:
    assert [Groups(each=100, length=length, size=64).n_bytes for length in (1, 64, 65)] == [100, 100, 200]
