"""The caching allocator's rules, on examples worked by hand from PyTorch's source and documentation."""

from __future__ import annotations

import pytest

from engine.allocator.allocator import CachingAllocator
from engine.allocator.options import AllocatorOptions
from engine.allocator.report import AllocatorOutOfMemory, format_size
from engine.gpus.units import MIB


def allocator(capacity_mib: float | None = None, conf: str = "", total_mib: float | None = None) -> CachingAllocator:
    return CachingAllocator(
        None if capacity_mib is None else int(capacity_mib * MIB),
        AllocatorOptions.parse(conf),
        total=None if total_mib is None else int(total_mib * MIB),
    )


def sizes(model: CachingAllocator) -> list[list[tuple[int, bool]]]:
    """Segments as lists of (bytes, is allocated)."""
    return [[(block.size, block.allocated) for block in segment.blocks] for segment in model.snapshot()]


@pytest.mark.parametrize(
    ("request_bytes", "allocated", "segment"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),  # the largest small request
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),  # from 10 MiB on: the request, rounded up to 2 MiB
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),  # 1 MiB + 512 too much: split off
        (11 * MIB, 12 * MIB, 12 * MIB),  # 1 MiB too much: kept
    ],
)
def test_sizes_of_blocks_and_segments(request_bytes: int, allocated: int, segment: int) -> None:
    model = allocator()
    model.alloc(request_bytes)
    assert (model.allocated, model.reserved) == (allocated, segment)


def test_an_empty_request_takes_nothing() -> None:
    model = allocator(0)
    assert model.alloc(0) == 0
    model.free(0)
    assert model.stats().reserved == 0


def test_a_negative_size_and_an_unknown_address_are_refused() -> None:
    model = allocator()
    with pytest.raises(ValueError, match="-1 bytes"):
        model.alloc(-1)
    address = model.alloc(5)
    model.free(address)
    with pytest.raises(ValueError, match="nothing is allocated"):
        model.free(address)


def test_small_requests_share_a_segment_and_split_down_to_512_bytes() -> None:
    model = allocator()
    for _ in range(4095):
        model.alloc(512)
    assert sizes(model) == [[(512, True)] * 4095 + [(512, False)]]
    model.alloc(512)
    model.alloc(512)
    assert [len(blocks) for blocks in sizes(model)] == [4096, 2]


def test_best_fit_takes_the_smallest_block_and_then_the_lowest_address() -> None:
    model = allocator()
    wanted = (4 * MIB, 2 * MIB, 3 * MIB, 2 * MIB, 2 * MIB, 2 * MIB, 2 * MIB, 2 * MIB)
    first = [model.alloc(size) for size in wanted]
    assert model.reserved == 20 * MIB
    for index in (0, 2, 4, 6):  # free: 4, 3, 2 and 2 MiB, then 1 MiB at the end
        model.free(first[index])
    assert model.alloc(2 * MIB) == first[4]
    assert model.alloc(2 * MIB) == first[6]
    assert model.alloc(2 * MIB) == first[2]  # 3 MiB: exactly 1 MiB too much, so kept whole
    assert model.alloc(2 * MIB) == first[0]
    assert model.reserved == 20 * MIB


def test_freed_blocks_merge_with_both_neighbours_and_the_segment_stays() -> None:
    model = allocator()
    left, middle, right = (model.alloc(2 * MIB) for _ in range(3))
    model.free(left)
    model.free(right)  # merges with the rest of the segment
    assert sizes(model) == [[(2 * MIB, False), (2 * MIB, True), (16 * MIB, False)]]
    assert model.stats().inactive_split == 18 * MIB
    model.free(middle)
    assert sizes(model) == [[(20 * MIB, False)]]
    stats = model.stats()
    assert (stats.allocated, stats.reserved, stats.inactive_split, stats.allocations) == (0, 20 * MIB, 0, 0)


def test_pools_do_not_share_segments() -> None:
    model = allocator()
    model.free(model.alloc(5 * MIB))
    model.alloc(512)
    assert model.reserved == 22 * MIB


def test_a_full_card_gives_back_idle_segments_before_it_fails() -> None:
    model = allocator(40)
    model.free(model.alloc(30 * MIB))
    model.alloc(32 * MIB)  # 30 + 32 does not fit: the idle 30 MiB are given back
    stats = model.stats()
    assert (stats.reserved, stats.segments, stats.alloc_retries, stats.ooms) == (32 * MIB, 1, 1, 0)
    assert (stats.peak_reserved, stats.device_allocs, stats.device_frees) == (32 * MIB, 2, 1)


def test_a_segment_with_one_live_byte_is_not_given_back() -> None:
    model = allocator(40)
    big, small = model.alloc(18 * MIB), model.alloc(5 * MIB)
    model.free(big)
    with pytest.raises(AllocatorOutOfMemory) as caught:
        model.alloc(22 * MIB)  # the idle 18 MiB are given back, 20 MiB hold 5: 20 MiB are left
    error = caught.value
    assert (error.requested, error.segment, error.free) == (22 * MIB, 22 * MIB, 20 * MIB)
    assert (error.reserved, error.allocated) == (20 * MIB, 5 * MIB)
    stats = model.stats()
    assert (stats.ooms, stats.alloc_retries) == (1, 1)
    model.free(small)
    model.alloc(40 * MIB)  # it goes on after an out-of-memory error


def test_the_words_of_running_out() -> None:
    model = allocator(7067, total_mib=7611)
    held = [model.alloc(1000 * MIB) for _ in range(7)]
    model.alloc(40 * MIB)
    with pytest.raises(AllocatorOutOfMemory) as caught:
        model.alloc(30 * MIB + 5)
    assert len(held) == 7
    assert str(caught.value) == (
        "CUDA out of memory. Tried to allocate 32.00 MiB. GPU 0 has a total capacity of 7.43 GiB of which 27.00 MiB "
        "is free. Including non-PyTorch memory, this process has 7.41 GiB memory in use. Of the allocated memory "
        "6.88 GiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated. If reserved but "
        "unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  "
        "See documentation for Memory Management  "
        "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
    )
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (1024, "1024 bytes"),
        (1025, "1.00 KiB"),
        (MIB, "1024.00 KiB"),
        (20 * MIB, "20.00 MiB"),
        (1024 * MIB, "1024.00 MiB"),
        (7611 * MIB, "7.43 GiB"),
    ],
)
def test_format_size(n_bytes: int, text: str) -> None:
    assert format_size(n_bytes) == text


def test_a_memory_fraction_limits_segments_and_says_so() -> None:
    model = allocator(90, "per_process_memory_fraction:0.5", total_mib=100)
    model.alloc(48 * MIB)
    with pytest.raises(AllocatorOutOfMemory, match=r"50\.00 MiB allowed; Of the allocated memory 48\.00 MiB") as caught:
        model.alloc(10 * MIB)
    assert caught.value.free == 42 * MIB  # the card has room; the process may not use it
    model.set_memory_fraction(1.0)
    model.alloc(10 * MIB)
    with pytest.raises(ValueError, match="0 to 1"):
        model.set_memory_fraction(1.5)
    with pytest.raises(ValueError, match="total"):
        allocator(None, "per_process_memory_fraction:0.5")


def test_empty_cache_and_reset_peaks() -> None:
    model = allocator()
    model.free(model.alloc(50 * MIB))
    kept = model.alloc(100)
    model.empty_cache()
    assert (model.reserved, model.peak_reserved) == (2 * MIB, 52 * MIB)
    model.reset_peaks()
    assert (model.peak_reserved, model.peak_allocated) == (2 * MIB, 512)
    model.free(kept)
    model.empty_cache()
    assert model.snapshot() == []


def test_replay_counts_events_and_goes_on() -> None:
    ops, ids, n_bytes = [1, 1, 0, 1], [7, 8, 7, 9], [30 * MIB, 512, 0, 30 * MIB]
    model = allocator()
    live = model.replay(ops, ids, n_bytes)
    assert sorted(live) == [8, 9]
    assert model.reserved == 32 * MIB
    live = model.replay([0, 0], [8, 9], [0, 0], live)
    assert (live, model.allocated) == ({}, 0)
    with pytest.raises(ValueError, match="event 1 frees 3"):
        model.replay([1, 0], [2, 3], [1, 0])
    with pytest.raises(AllocatorOutOfMemory) as caught:
        allocator(40).replay(ops, [1, 2, 3, 4], n_bytes) if False else allocator(31).replay(
            [1, 1], [1, 2], [MIB, 31 * MIB]
        )
    assert caught.value.event == 1


def test_a_copy_lives_on_its_own() -> None:
    model = allocator(100)
    kept, freed = model.alloc(3 * MIB), model.alloc(3 * MIB)
    model.free(freed)
    before = model.snapshot()
    twin = model.copy()
    assert (twin.snapshot(), twin.stats()) == (before, model.stats())
    twin.free(kept)
    twin.alloc(60 * MIB)
    assert model.snapshot() == before
    model.free(kept)
    assert sizes(model) == [[(20 * MIB, False)]]


def test_what_one_stream_has_freed_another_does_not_take() -> None:
    model = allocator()
    model.free(model.alloc(30 * MIB))
    for stream in (1, 2):
        model.free(model.alloc(30 * MIB, stream))
    assert [(segment.stream, segment.size) for segment in model.snapshot()] == [(n, 30 * MIB) for n in (0, 1, 2)]
    model.alloc(30 * MIB, 2)
    model.alloc(30 * MIB)
    assert model.reserved == 90 * MIB
    assert [segment.stream for segment in model.snapshot() if segment.allocated] == [0, 2]


def test_a_copy_goes_on_in_every_stream() -> None:
    model = allocator()
    addresses = [model.alloc(30 * MIB, stream) for stream in (0, 1)]
    twin = model.copy()
    for address in addresses:
        twin.free(address)
    assert [twin.alloc(30 * MIB, stream) for stream in (1, 0)] == addresses[::-1]
    assert model.stats().allocations == twin.stats().allocations == 2
    assert twin.reserved == 60 * MIB


def test_memory_that_is_short_is_taken_from_every_stream() -> None:
    model = allocator(100)
    for stream in (0, 1, 2):
        model.free(model.alloc(30 * MIB, stream))
    model.alloc(80 * MIB, 3)
    assert (model.reserved, model.alloc_retries) == (80 * MIB, 1)
    with pytest.raises(AllocatorOutOfMemory):
        model.alloc(30 * MIB)


def test_emptying_the_cache_leaves_what_lives_in_any_stream() -> None:
    model = allocator()
    kept = [model.alloc(30 * MIB, stream) for stream in (0, 1)]
    for stream in (0, 1):
        model.free(model.alloc(40 * MIB, stream))
        model.free(model.alloc(100, stream))
    model.empty_cache()
    assert model.reserved == 60 * MIB
    assert len(model.snapshot()) == len(kept)


def test_each_stream_has_expandable_segments_of_its_own() -> None:
    model = allocator(1000, "expandable_segments:True")
    for stream in (0, 1):
        model.free(model.alloc(20 * MIB, stream))
    model.alloc(40 * MIB, 1)  # grows its own segment, and leaves what the first one has free
    assert sorted((segment.stream, segment.size) for segment in model.snapshot()) == [(0, 20 * MIB), (1, 40 * MIB)]


def test_garbage_is_collected_from_every_stream_by_one_clock() -> None:
    model = allocator(1000, "garbage_collection_threshold:0.5", 1000)
    model.set_memory_fraction(0.2)
    for stream in (1, 0):
        model.free(model.alloc(40 * MIB, stream))
    model.alloc(60 * MIB)  # 80 of the allowed 200 MiB are not above the threshold yet
    assert model.reserved == 140 * MIB
    model.alloc(50 * MIB, 2)
    assert {segment.stream for segment in model.snapshot()} == {0, 2}
    assert model.reserved == 150 * MIB  # the one that was idle for longer, in stream 1, was enough
