"""Every option of PYTORCH_ALLOC_CONF that changes segments: how it is read and what it does, worked by hand."""

from __future__ import annotations

import pytest

from engine.allocator.allocator import CachingAllocator
from engine.allocator.options import AllocatorOptionError, AllocatorOptions
from engine.allocator.report import AllocatorOutOfMemory
from engine.gpus.units import MIB


def allocator(capacity_mib: float | None = None, conf: str = "") -> CachingAllocator:
    return CachingAllocator(
        None if capacity_mib is None else int(capacity_mib * MIB),
        AllocatorOptions.parse(conf),
    )


def sizes(model: CachingAllocator) -> list[list[tuple[int, bool]]]:
    """Segments as lists of (bytes, is allocated)."""
    return [[(block.size, block.allocated) for block in segment.blocks] for segment in model.snapshot()]


def test_max_split_size_keeps_oversize_blocks_whole() -> None:
    model = allocator(None, "max_split_size_mb:64")
    big = model.alloc(100 * MIB)
    model.free(big)
    model.alloc(30 * MIB)  # less than 64 MiB: may not take the oversize block
    assert sizes(model) == [[(100 * MIB, False)], [(30 * MIB, True)]]
    model.alloc(70 * MIB)  # 30 MiB too much for it, which is more than 20
    assert model.reserved == 200 * MIB
    assert model.alloc(81 * MIB) == big  # within 20 MiB: takes the block, whole
    assert (model.reserved, model.allocated) == (200 * MIB, 200 * MIB)


def test_max_non_split_rounding_widens_what_an_oversize_block_serves() -> None:
    model = allocator(None, "max_split_size_mb:64,max_non_split_rounding_mb:40")
    big = model.alloc(100 * MIB)
    model.free(big)
    assert model.alloc(70 * MIB) == big


def test_max_split_size_gives_back_just_enough_before_everything() -> None:
    model = allocator(300, "max_split_size_mb:64")
    idle = [model.alloc(size * MIB) for size in (70, 80, 120)]
    for address in idle:
        model.free(address)
    model.alloc(94 * MIB)  # 270 + 94 > 300: the smallest idle block of 94 MiB and more is given back, 70 and 80 stay
    assert sorted(block[0][0] // MIB for block in sizes(model)) == [70, 80, 94]
    assert model.stats().alloc_retries == 0
    model.alloc(130 * MIB)  # none is large enough: the largest first, 80 then 70, until 130 are covered
    assert sorted(block[0][0] // MIB for block in sizes(model)) == [94, 130]


def test_max_split_size_falls_back_to_giving_back_everything() -> None:
    model = allocator(100, "max_split_size_mb:64")
    model.free(model.alloc(60 * MIB))  # not oversize
    model.alloc(66 * MIB)
    assert (model.reserved, model.stats().alloc_retries) == (66 * MIB, 1)


def test_large_segment_size() -> None:
    model = allocator(None, "large_segment_size_mb:40")
    model.alloc(2 * MIB)
    model.alloc(9 * MIB)
    assert model.reserved == 40 * MIB


@pytest.mark.parametrize(
    ("conf", "request_bytes", "rounded"),
    [
        ("roundup_power2_divisions:4", 1200 * 1024, 1280 * 1024),  # the example of the documentation, in KiB
        ("roundup_power2_divisions:4", 1280 * 1024, 1280 * 1024),
        ("roundup_power2_divisions:4", 2 * MIB, 2 * MIB),
        ("roundup_power2_divisions:4", 2048, 2048),  # up to 512 × divisions: multiples of 512
        ("roundup_power2_divisions:4", 2049, 2560),
        ("roundup_power2_divisions:1", 1200 * 1024, 1200 * 1024),  # 1 is no rounding
        ("roundup_power2_divisions:[256:1,512:2,1024:4,>:8]", 300 * MIB, 300 * MIB),
        ("roundup_power2_divisions:[256:1,512:2,1024:4,>:8]", 600 * MIB, 768 * MIB),
        ("roundup_power2_divisions:[256:1,512:2,1024:4,>:8]", 1100 * MIB, 1280 * MIB),
        ("roundup_power2_divisions:[256:1,512:2,1024:4,>:8]", 2100 * MIB, 2304 * MIB),
        ("roundup_power2_divisions:[64:2]", 3 * MIB + 1, 4 * MIB),  # the first entry also holds below it
        ("roundup_power2_divisions:[64:2]", 130 * MIB, 130 * MIB),  # named by no entry
    ],
)
def test_roundup_power2_divisions(conf: str, request_bytes: int, rounded: int) -> None:
    assert AllocatorOptions.parse(conf).round_size(request_bytes) == rounded


def test_rounded_requests_find_each_other() -> None:
    model = allocator(None, "roundup_power2_divisions:4")
    address = model.alloc(21 * MIB)  # 24 MiB
    model.free(address)
    assert model.alloc(23 * MIB) == address


def test_garbage_collection_gives_back_the_segments_idle_the_longest() -> None:
    model = allocator(200, "garbage_collection_threshold:0.5,per_process_memory_fraction:0.9")
    model.alloc(20 * MIB)
    old, young = model.alloc(40 * MIB), model.alloc(42 * MIB)
    model.free(old)
    for _ in range(5):  # every lookup ages `old`; `young` is used again and again
        model.free(young)
        young = model.alloc(42 * MIB)
    model.free(young)
    assert model.reserved == 102 * MIB
    model.alloc(44 * MIB)  # above 0.5 × 0.9 × 200 = 90 MiB: what has been idle for longer than the average goes
    assert sorted(segment.size // MIB for segment in model.snapshot()) == [20, 42, 44]
    assert (model.stats().alloc_retries, model.stats().ooms) == (0, 0)


def test_garbage_collection_needs_a_memory_fraction() -> None:
    model = allocator(200, "garbage_collection_threshold:0.1")
    model.free(model.alloc(40 * MIB))
    model.alloc(100 * MIB)
    assert model.reserved == 140 * MIB


def test_expandable_segments_grow_in_granules() -> None:
    model = allocator(None, "expandable_segments:True")
    model.alloc(512)
    assert model.reserved == 2 * MIB
    model.alloc(MIB)
    model.alloc(MIB)
    assert model.reserved == 4 * MIB
    first = model.alloc(25 * MIB)
    assert model.reserved == 44 * MIB  # 2 granules of 20 MiB
    second = model.alloc(30 * MIB)
    assert (second - first, model.reserved) == (25 * MIB, 64 * MIB)  # 15 MiB were left over: one more granule
    assert [segment.is_expandable for segment in model.snapshot()] == [True, True]
    assert model.stats().inactive_split == 0


def test_expandable_segments_tile_what_fixed_segments_cannot() -> None:
    for conf, fits in (("", False), ("expandable_segments:True", True)):
        model = allocator(200, conf)
        held = [model.alloc(60 * MIB) for _ in range(3)]
        for address in held:
            model.free(address)
        model.alloc(61 * MIB)
        keep = model.alloc(61 * MIB)
        if fits:
            model.alloc(78 * MIB - 512)  # the last granule of 180 MiB + 20
            assert (model.reserved, keep) == (200 * MIB, model.snapshot()[0].blocks[1].address)
        else:
            assert model.stats().alloc_retries == 1


def test_expandable_segments_unmap_whole_granules_when_memory_runs_out() -> None:
    model = allocator(100, "expandable_segments:True")
    low = model.alloc(50 * MIB)
    high = model.alloc(10 * MIB)
    assert model.reserved == 60 * MIB
    model.free(low)
    # needs 60 MiB: 50 are free, but below `high`, so the end would have to grow by 60: 40 are unmapped first
    address = model.alloc(60 * MIB)
    assert address == high + 10 * MIB
    assert model.reserved == 80 * MIB
    assert [segment.size // MIB for segment in model.snapshot()] == [80]
    assert sizes(model)[0] == [(10 * MIB, False), (10 * MIB, True), (60 * MIB, True)]
    assert model.stats().alloc_retries == 1
    with pytest.raises(AllocatorOutOfMemory):
        model.alloc(22 * MIB)  # mapped from the lowest address on: 2 granules, though 10 MiB are free behind them
    assert (model.alloc(20 * MIB), model.reserved) == (low, 100 * MIB)


def test_expandable_segments_give_everything_back() -> None:
    model = allocator(100, "expandable_segments:True")
    for address in [model.alloc(size) for size in (512, 30 * MIB, 3 * MIB)]:
        model.free(address)
    model.empty_cache()
    assert (model.reserved, model.snapshot()) == (0, [])
    model.alloc(100 * MIB)
    with pytest.raises(AllocatorOutOfMemory):
        model.alloc(1)


@pytest.mark.parametrize(
    ("conf", "what"),
    [
        ("backend:cudaMallocAsync", "not modelled"),
        ("backend:other", "use native"),
        ("max_split_size_mb:19", "use 20 or more"),
        ("max_split_size_mb:30,large_segment_size_mb:40", "use 40 or more"),
        ("max_non_split_rounding_mb:19", "use 20 or more"),
        ("large_segment_size_mb:10", "use 11 or more"),
        ("max_split_size_mb:many", "whole number"),
        ("expandable_segments:true", "True or False"),
        ("garbage_collection_threshold:1", "less than 1"),
        ("garbage_collection_threshold:nan", "less than 1"),
        ("per_process_memory_fraction:2", "0 to 1"),
        ("roundup_power2_divisions:3", "powers of two"),
        ("roundup_power2_divisions:0", "powers of two"),
        ("roundup_power2_divisions:[0:2]", "powers of two"),
        ("roundup_power2_divisions:[256]", "256:1"),
        ("roundup_power2_divisions:[256:1", "not readable"),
        ("expandable_segments", "not readable"),
        ("max_split_size_mb:20,,expandable_segments:True", "not readable"),
        ("no_such_option:1", "not an option"),
    ],
)
def test_refused_options(conf: str, what: str) -> None:
    with pytest.raises(AllocatorOptionError, match=what):
        AllocatorOptions.parse(conf)


def test_options_from_the_environment() -> None:
    assert AllocatorOptions.from_environment({}) == AllocatorOptions()
    new = {"PYTORCH_ALLOC_CONF": " expandable_segments:True , max_split_size_mb: 128,backend:native,"}
    assert AllocatorOptions.from_environment(new) == AllocatorOptions(
        expandable_segments=True, max_split_size=128 * MIB
    )
    both = new | {"PYTORCH_CUDA_ALLOC_CONF": "pinned_use_background_threads:True,max_split_size_mb:-1"}
    assert AllocatorOptions.from_environment(both) == AllocatorOptions()  # as PyTorch: the older name wins
    with pytest.raises(AllocatorOptionError, match="PYTORCH_ALLOC_CONF: large_segment_size_mb"):
        AllocatorOptions.from_environment({"PYTORCH_ALLOC_CONF": "large_segment_size_mb:1"})
