"""Length-bucketed batches: the same samples, in another order that is still random, with less padding."""

from __future__ import annotations

import numpy as np
import pytest

from engine.contract.config import RunConfig
from engine.techniques.bucketing import BucketedOrder, SortedOrder, epoch_order, scoring_order
from engine.techniques.preloading import EpochOrder, build_loader
from engine.workloads.prepare import prepare


def lengths(n: int, seed: int = 0) -> list[int]:
    return [int(length) + 2 for length in np.random.default_rng(seed).lognormal(3.5, 0.7, n)]


def padded(order: list[int], sizes: list[int], batch: int) -> int:
    return sum(
        max(sizes[i] for i in order[start : start + batch]) * len(order[start : start + batch])
        for start in range(0, len(order), batch)
    )


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 400, 401, 1_003])
def test_every_sample_comes_once_and_the_incomplete_batch_last(n: int) -> None:
    sizes = lengths(n)
    order = list(BucketedOrder(sizes, 8, 3))
    assert sorted(order) == list(range(n))
    assert len(BucketedOrder(sizes, 8, 3)) == n


def test_it_pads_far_less_than_a_random_order() -> None:
    sizes = lengths(2_000)
    random_ = padded(list(EpochOrder(2_000, 1)), sizes, 16)
    bucketed = padded(list(BucketedOrder(sizes, 16, 1)), sizes, 16)
    assert bucketed < 1.1 * sum(sizes)
    assert random_ > 1.8 * sum(sizes)


def test_it_depends_on_the_seed_and_the_epoch_alone() -> None:
    sizes = lengths(300)
    first, again = BucketedOrder(sizes, 8, 3), BucketedOrder(sizes, 8, 3)
    assert list(first) == list(again) == list(first)
    again.epoch = 1
    assert list(first) != list(again)
    assert list(first) != list(BucketedOrder(sizes, 8, 4))


def test_batches_do_not_come_by_length_and_do_not_stay_together() -> None:
    sizes = lengths(1_600)
    order = BucketedOrder(sizes, 8, 0)
    firsts = [sizes[i] for i in list(order)[::8]]
    assert abs(float(np.corrcoef(np.arange(len(firsts)), firsts)[0, 1])) < 0.25
    one = {frozenset(list(order)[i : i + 8]) for i in range(0, 1_600, 8)}
    order.epoch = 1
    other = {frozenset(list(order)[i : i + 8]) for i in range(0, 1_600, 8)}
    assert len(one & other) < 3


def test_the_knob_chooses_the_order_and_the_batches_are_narrow() -> None:
    config = RunConfig(workload="reviews", samples=200, eval_samples=50, seq_len=128, padding="bucketed")
    data = prepare(config)
    assert data.evaluation is not None
    assert isinstance(epoch_order(config, data.train.lengths()), BucketedOrder)
    assert isinstance(scoring_order(config, data.evaluation.lengths()), SortedOrder)
    widths = {}
    seen = {}
    for padding in ("bucketed", "longest"):
        chosen = config.with_values(padding=padding)
        loader = build_loader(
            chosen, data.train, data.collate, order=epoch_order(chosen, data.train.lengths()), pin=False
        )
        batches = list(loader)
        widths[padding] = sum(batch["input_ids"].numel() for batch in batches)
        rows = [row[mask.bool()] for batch in batches for row, mask in zip(*map(batch.get, _BOTH), strict=True)]
        seen[padding] = sorted(tuple(row.tolist()) for row in rows)
    assert seen["bucketed"] == seen["longest"]
    assert widths["bucketed"] < 0.75 * widths["longest"]
    assert scoring_order(config.with_values(padding="longest"), data.evaluation.lengths()) is None


_BOTH = ("input_ids", "attention_mask")
