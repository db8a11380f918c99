"""What an update waits for: bytes by nccl-tests' formulas, and what backward and forward hide of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.forecast.parallel.buckets import Buckets
from engine.forecast.parallel.ranks import progress
from engine.forecast.parallel.waiting import Between, Computing, ddp, fsdp, zero1
from engine.forecast.work import Work
from engine.gpus.links import NVLINK, Link

LINK = Link(kind=NVLINK, rate=1e9, latency_s=0.0, note="")
FOUR = Between(ranks=4, link=LINK)
COMPUTING = Computing(update=3.0, forward=1.0, backward=2.0, micro_steps=1)


def _buckets(*later: tuple[int, float]) -> Buckets:
    sizes, ready = [size for size, _ in later], [share for _, share in later]
    return Buckets(first=sizes, later=sizes, are_rebuilt=True, ready=ready)


def test_bytes_on_the_wire_are_those_of_nccl_tests() -> None:
    assert FOUR.summed(10**9) == pytest.approx(1.5)
    assert FOUR.gathered(10**9) == pytest.approx(0.75)
    assert FOUR.broadcast(10**9) == pytest.approx(1.0)
    late = Between(ranks=4, link=replace(LINK, latency_s=0.25))
    assert late.summed(10**9) == pytest.approx(1.75)


def test_of_buckets_that_go_with_backward_the_last_one_is_waited_for() -> None:
    assert ddp(_buckets((10**8, 0.25), (10**8, 0.5), (10**8, 1.0)), COMPUTING, FOUR) == pytest.approx(0.15)


def test_one_bucket_is_waited_for_whole() -> None:
    assert ddp(_buckets((10**9, 1.0)), COMPUTING, FOUR) == pytest.approx(1.5)


def test_a_link_that_is_slower_than_backward_is_what_counts() -> None:
    first, others = 0.1 * COMPUTING.backward, 4 * 1.5
    waits = ddp(_buckets((10**9, 0.1), (10**9, 0.3), (10**9, 0.6), (10**9, 1.0)), COMPUTING, FOUR)
    assert waits == pytest.approx(first + others - COMPUTING.backward)


def test_weights_are_handed_out_one_after_the_other() -> None:
    late = Between(ranks=4, link=replace(LINK, latency_s=0.5))
    assert zero1([10**9, 2 * 10**9], late) == pytest.approx(4.0)


def test_of_fsdp_the_first_weights_and_the_last_sums_are_waited_for() -> None:
    work = Work(
        gathers=4,
        gathered_bytes=4 * 10**8,
        forward_gathers=2,
        forward_gathered_bytes=2 * 10**8,
        first_gathered_bytes=10**8,
        scatters=2,
        scattered_bytes=2 * 10**8,
        last_scattered_bytes=10**8,
    )
    assert fsdp(work, COMPUTING, FOUR) == pytest.approx(0.075 + 0.075)
    slow = Between(ranks=4, link=replace(LINK, rate=1e7))
    assert fsdp(work, COMPUTING, slow) == pytest.approx((15 - 1.0) + (15 + 15 - 2.0))


def test_in_a_window_weights_are_gathered_in_every_micro_step_and_sums_made_in_the_last() -> None:
    work = Work(gathers=1, gathered_bytes=10**9, forward_gathers=1, forward_gathered_bytes=10**9)
    work.first_gathered_bytes = 10**9
    many = fsdp(work, replace(COMPUTING, micro_steps=3), FOUR)
    assert many == pytest.approx(3 * fsdp(work, COMPUTING, FOUR)) == pytest.approx(3 * 0.75)


def test_a_tied_head_is_computed_first_though_its_gradient_comes_last() -> None:
    class Model(torch.nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(30, 10)
            self.layer = torch.nn.Linear(10, 10, bias=False)
            self.head = torch.nn.Linear(10, 30, bias=False)
            if tied:
                self.head.weight = self.embedding.weight

    tied, apart = Model(True), Model(False)
    assert progress(tied, [tied.layer.weight, tied.embedding.weight]) == [1.0, 1.0]
    arriving = [apart.head.weight, apart.layer.weight, apart.embedding.weight]
    assert progress(apart, arriving) == [0.75, 1.0, 1.0]
