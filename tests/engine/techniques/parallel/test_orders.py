"""Which samples a rank takes: `DistributedSampler`'s, and of what is scored none twice."""

from __future__ import annotations

import pytest
from torch.utils.data import DistributedSampler

from engine.techniques.parallel.orders import HeldOutPart, Part
from engine.techniques.preloading import Counted, EpochOrder


class _Said(EpochOrder):
    """An order that is known."""

    def whole(self) -> list[int]:
        return list(range(self.of_all))


@pytest.mark.parametrize(("n", "world_size"), [(1, 2), (7, 2), (8, 2), (9, 4), (3, 8), (64, 3)])
def test_a_rank_takes_what_distributed_sampler_gives_it(n: int, world_size: int) -> None:
    for rank in range(world_size):
        theirs = DistributedSampler(list(range(n)), world_size, rank, shuffle=False)
        part = Part(_Said(n, 0), rank, world_size)
        assert list(part) == list(theirs)
        assert len(part) == len(theirs)


def test_parts_make_the_epochs_order() -> None:
    whole = EpochOrder(12, 3)
    parts = [Part(EpochOrder(12, 3), rank, 3) for rank in range(3)]
    for epoch in (0, 2):
        whole.epoch = epoch
        for part in parts:
            part.epoch = epoch
        assert [each for three in zip(*map(list, parts), strict=True) for each in three] == list(whole)


def test_a_part_goes_on_where_it_was_left() -> None:
    part = Part(EpochOrder(12, 3), 1, 2)
    before = list(part)
    part.skipped = 4
    assert list(part) == before[4:]


def test_places_count_the_samples_of_all_ranks() -> None:
    part = Part(EpochOrder(5, 0), 1, 2)
    part.epoch = 2
    counted = Counted(part)
    assert len(counted) == 3
    assert [place % 5 for place in counted] == list(part)
    assert {place // 5 for place in counted} == {2}


@pytest.mark.parametrize("n", range(1, 20))
@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_held_out_samples_count_once_in_equal_numbers_of_batches(n: int, world_size: int, batch_size: int) -> None:
    order = list(range(n))
    parts = [HeldOutPart(order, batch_size, rank, world_size) for rank in range(world_size)]
    assert len({-(-len(part) // batch_size) for part in parts}) == 1
    counting = [each for part in parts for each in list(part)[: part.counted * batch_size]]
    assert sorted(counting) == order
