"""What holds for the caching allocator whatever is allocated and freed, and a second, naive model that must agree."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.allocator.allocator import CachingAllocator
from engine.allocator.options import AllocatorOptions
from engine.allocator.report import AllocatorOutOfMemory
from engine.gpus.units import MIB

CAPACITY = 160 * MIB
CONFS = (
    "",
    "expandable_segments:True",
    "max_split_size_mb:24",
    "max_split_size_mb:32,max_non_split_rounding_mb:48",
    "roundup_power2_divisions:[2:2,8:4,>:8]",
    "garbage_collection_threshold:0.4,per_process_memory_fraction:0.8",
    "large_segment_size_mb:13,per_process_memory_fraction:0.7",
    "expandable_segments:True,large_segment_size_mb:12,per_process_memory_fraction:0.9",
    "expandable_segments:True,max_split_size_mb:24",
)

# sizes near the rules' borders, and anything in between
SIZES = st.one_of(
    st.sampled_from([1, 512, 513, MIB - 1, MIB, MIB + 1, 9 * MIB, 10 * MIB, 11 * MIB, 20 * MIB, 24 * MIB, 47 * MIB]),
    st.integers(1, 4 * MIB),
    st.integers(1, 60 * MIB),
)
# (allocate this much, or free the live block with this rank)
EVENTS = st.lists(st.one_of(SIZES, st.integers(-40, -1)), max_size=60)


def apply(model: CachingAllocator, events: list[int]) -> list[tuple[int, int]]:
    """The outcome of every event: (address or -1, reserved)."""
    live: list[int] = []
    outcome = []
    for event in events:
        address = -1
        if event > 0:
            try:
                address = model.alloc(event)
                live.append(address)
            except AllocatorOutOfMemory:
                pass
        elif live:
            model.free(live.pop(event % len(live)))
        outcome.append((address, model.reserved))
    return outcome


def check(model: CachingAllocator) -> None:
    """Every invariant that the segments have between two events."""
    segments, stats = model.snapshot(), model.stats()
    end = 0
    for segment in segments:
        assert segment.address >= end
        end = segment.address
        previous_free = False
        for block in segment.blocks:
            assert block.address == end
            assert block.size > 0
            assert block.size % 512 == 0
            assert not (previous_free and not block.allocated), "two free neighbours"
            previous_free = not block.allocated
            end += block.size
        assert end == segment.address + segment.size
    assert stats.segments == len(segments)
    assert stats.reserved == sum(segment.size for segment in segments) <= CAPACITY
    assert stats.allocated == sum(segment.allocated for segment in segments)
    free = sum(block.size for segment in segments for block in segment.blocks if not block.allocated)
    assert stats.reserved == stats.allocated + free
    assert stats.allocations == sum(block.allocated for segment in segments for block in segment.blocks)
    assert stats.peak_allocated >= stats.allocated
    assert stats.peak_reserved >= stats.reserved
    fraction = model.options.per_process_memory_fraction
    # the limit is tested with the request's own segment; a granule of an expandable one may be larger
    slack = model.options.large_segment_size if model.options.expandable_segments else 0
    assert stats.peak_reserved <= fraction * CAPACITY + slack * (fraction < 1)


@pytest.mark.parametrize("conf", CONFS)
@given(events=EVENTS)
@settings(max_examples=60)
def test_invariants(conf: str, events: list[int]) -> None:
    model = CachingAllocator(CAPACITY, AllocatorOptions.parse(conf))
    live: dict[int, int] = {}
    for event in events:
        reserved, retries = model.reserved, model.alloc_retries
        if event > 0:
            try:
                address = model.alloc(event)
                assert address not in live
                live[address] = event
            except AllocatorOutOfMemory as error:
                failure = (error.free + error.reserved, error.requested)
            else:
                failure = (CAPACITY, event)
            assert failure == (CAPACITY, event)
        elif live:
            address = sorted(live)[event % len(live)]
            del live[address]
            model.free(address)
            assert model.reserved == reserved, "a free never gives a segment back"
        if not conf:
            assert model.reserved >= reserved or model.alloc_retries > retries, "given back without a failed request"
        check(model)
        spans = {b.address: b.size for segment in model.snapshot() for b in segment.blocks if b.allocated}
        assert all(spans[address] >= size for address, size in live.items())


@pytest.mark.parametrize("conf", CONFS)
@given(events=EVENTS)
@settings(max_examples=30)
def test_everything_freed_leaves_one_block_per_segment(conf: str, events: list[int]) -> None:
    model = CachingAllocator(CAPACITY, AllocatorOptions.parse(conf))
    apply(model, events)
    for segment in model.snapshot():
        for block in segment.blocks:
            if block.allocated:
                model.free(block.address)
    check(model)
    assert model.allocated == 0
    assert all(len(segment.blocks) == 1 for segment in model.snapshot())
    model.empty_cache()
    assert model.reserved == 0


@pytest.mark.parametrize("conf", CONFS)
@given(events=EVENTS, more=EVENTS)
@settings(max_examples=30)
def test_replays_and_copies_are_deterministic(conf: str, events: list[int], more: list[int]) -> None:
    model, same = (CachingAllocator(CAPACITY, AllocatorOptions.parse(conf)) for _ in range(2))
    assert apply(model, events) == apply(same, events)
    twin = model.copy()
    before = model.snapshot()
    outcome = apply(twin, more)
    assert model.snapshot() == before
    assert apply(model, more) == outcome
    assert (twin.snapshot(), twin.stats()) == (model.snapshot(), model.stats())


@dataclass
class Naive:
    """The default rules as plainly as possible: a segment is (place, is small, [[offset, size, is allocated], …])."""

    capacity: int
    segments: list[tuple[int, bool, list[list[int]]]] = field(default_factory=list)
    holes: dict[int, list[int]] = field(default_factory=dict)
    """Places of segments that were given back, by size: the next one of that size takes the last."""
    places: int = 0

    def reserved(self) -> int:
        return sum(block[1] for _, _, blocks in self.segments for block in blocks)

    def alloc(self, n_bytes: int) -> tuple[int, int] | None:
        size = max(-(-n_bytes // 512) * 512, 512)
        small = size <= MIB
        candidates = [
            (block[1], number, block[0])
            for number, is_small, blocks in self.segments
            for block in blocks
            if is_small == small and not block[2] and block[1] >= size
        ]
        if not candidates:
            segment = 2 * MIB if small else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
            if self.reserved() + segment > self.capacity:
                self.release()
            if self.reserved() + segment > self.capacity:
                return None
            place = self.holes[segment].pop() if self.holes.get(segment) else self.places
            self.places += 1
            self.segments.append((place, small, [[0, segment, 0]]))
            candidates = [(segment, place, 0)]
        _, number, offset = min(candidates)
        blocks = next(blocks for other, _, blocks in self.segments if other == number)
        at = next(i for i, block in enumerate(blocks) if block[0] == offset)
        rest = blocks[at][1] - size
        if rest >= (512 if small else MIB + 1):
            blocks[at][1] = size
            blocks.insert(at + 1, [offset + size, rest, 0])
        blocks[at][2] = 1
        return number, offset

    def release(self) -> None:
        for entry in sorted(self.segments):
            if not any(block[2] for block in entry[2]):
                self.segments.remove(entry)
                self.holes.setdefault(entry[2][0][1], []).append(entry[0])

    def free(self, where: tuple[int, int]) -> None:
        blocks = next(blocks for number, _, blocks in self.segments if number == where[0])
        next(block for block in blocks if block[0] == where[1])[2] = 0
        for at in range(len(blocks) - 1, 0, -1):
            if not blocks[at][2] and not blocks[at - 1][2]:
                blocks[at - 1][1] += blocks.pop(at)[1]


@given(events=EVENTS)
@settings(max_examples=200)
def test_a_naive_model_agrees(events: list[int]) -> None:
    model, naive = CachingAllocator(CAPACITY), Naive(CAPACITY)
    live: list[tuple[int, tuple[int, int]]] = []
    for event in events:
        if event > 0:
            where = naive.alloc(event)
            if where is None:
                with pytest.raises(AllocatorOutOfMemory):
                    model.alloc(event)
            else:
                live.append((model.alloc(event), where))
        elif live:
            address, where = live.pop(event % len(live))
            model.free(address)
            naive.free(where)
        assert model.reserved == naive.reserved()
        ours = sorted([(b.size, b.allocated) for b in segment.blocks] for segment in model.snapshot())
        assert ours == sorted([(size, bool(used)) for _, size, used in blocks] for _, _, blocks in naive.segments)
