"""A model of PyTorch's CUDA caching allocator: what a sequence of allocations and frees reserves on a card.

Standard library only. No CUDA graphs, no private pools, and no tensors that one stream frees while another still works
on them (`record_stream`). Every rule follows `DeviceCachingAllocator` of c10/cuda/CUDACachingAllocator.cpp (read at
PyTorch 2.10; constants and options are those of 2.13); the docstrings name its functions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from engine.allocator import expandable as expandable
from engine.allocator.blocks import ADDRESS_BITS, ALLOCATED, FREE, UNMAPPED, Block, Device, Pool, copy_blocks, merge
from engine.allocator.options import MIN_BLOCK, SMALL_SEGMENT, SMALL_SIZE, AllocatorOptions
from engine.allocator.release import collect_garbage, release_available, release_cached
from engine.allocator.report import AllocatorOutOfMemory, AllocatorStats, SegmentInfo, segment_info

UNLIMITED = 2**63


class CachingAllocator:
    """The state of the allocator on one card.

    `capacity`: bytes that segments may take together (the card's memory without the CUDA context and the libraries),
    None for no limit. `total`: the card's whole memory in bytes, for `per_process_memory_fraction` and for the message
    of an out-of-memory error; None takes `capacity`. `grows_down`: where the driver puts segments (see `Device`).

    Neither thread-safe nor reentrant: a finalizer, which may run in the middle of `alloc`, must queue its frees.
    """

    __slots__ = (
        "_allowed",
        "_choosy",
        "_collects",
        "_device",
        "_large",
        "_live",
        "_max_split",
        "_rounds",
        "_small",
        "_split_limit",
        "_streams",
        "alloc_retries",
        "allocated",
        "ooms",
        "options",
        "peak_allocated",
        "total",
    )

    def __init__(
        self,
        capacity: int | None = None,
        options: AllocatorOptions | None = None,
        *,
        total: int | None = None,
        grows_down: bool = False,
    ) -> None:
        self.options = options or AllocatorOptions()
        self.total = capacity if total is None else total
        self.allocated = self.peak_allocated = self.alloc_retries = self.ooms = 0
        self._device = Device(capacity, grows_down=grows_down)
        self._streams: dict[int, tuple[Pool, Pool]] = {}
        self._small, self._large = self._pools_of(0)
        self._rounds = bool(self.options.roundup_power2_divisions)
        self._max_split = self.options.max_split_size or UNLIMITED
        self._split_limit = UNLIMITED if self.options.expandable_segments else self._max_split
        self._live: dict[int, Block] = {}
        self.set_memory_fraction(self.options.per_process_memory_fraction)

    @property
    def reserved(self) -> int:
        """Bytes in segments."""
        return self._device.reserved

    @property
    def peak_reserved(self) -> int:
        """The most bytes that were in segments since the start or the last `reset_peaks`."""
        return self._device.peak_reserved

    @property
    def has_separate_pools(self) -> bool:
        """Whether what small requests do has no bearing on large ones, nor the other way round.

        A limit would let the one have the other's cached segments given back, and some options look at both.
        """
        return self._device.capacity is None and not self._choosy and not self._rounds

    @property
    def free_large_blocks(self) -> tuple[int, ...]:
        """Sizes and addresses of what is free in the large pools, one stream after the other."""
        return tuple(key for _, large in self._streams.values() for key in large.keys)

    def set_memory_fraction(self, fraction: float) -> None:
        """`setMemoryFraction`: from now on no segment is taken that would bring them above this share of `total`.

        1 is no limit. What is reserved already stays. Raises `ValueError` out of bounds, or when `total` is unknown.
        """
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"a memory fraction of {fraction} makes no sense: use 0 to 1.")
        if fraction < 1.0 and self.total is None:
            raise ValueError("a memory fraction needs the card's memory: give capacity or total.")
        self._allowed = int(fraction * self.total) if fraction < 1.0 and self.total is not None else None
        self._collects = self._allowed is not None and self.options.garbage_collection_threshold > 0
        self._choosy = self.options.expandable_segments or self._max_split != UNLIMITED or self._collects

    def alloc(self, n_bytes: int, stream: int = 0) -> int:
        """`malloc`: allocate and return the address, which `free` takes; 0 for an empty request, which takes nothing.

        Best fit among the free blocks of the stream's pool, else a new segment; what a block has too much is split off
        (`alloc_found_block`). What another stream has free is not taken: work on it may not be done yet. 0 is the
        stream that computes. Raises `AllocatorOutOfMemory`.
        """
        if n_bytes <= 0:
            if n_bytes < 0:
                raise ValueError(f"an allocation of {n_bytes} bytes makes no sense: sizes are 0 or more.")
            return 0
        size = self.options.round_size(n_bytes) if self._rounds else (n_bytes + 511) & -512
        if stream:
            pool = self._pools_of(stream)[size > SMALL_SIZE]
        else:
            pool = self._small if size <= SMALL_SIZE else self._large
        keys = pool.keys
        at = bisect_left(keys, size << ADDRESS_BITS)
        if self._choosy or at == len(keys):
            block = self._get_block(pool, size, n_bytes)
        else:
            del keys[at]
            block = pool.blocks.pop(at)
        address = block.address
        rest = block.size - size
        if rest >= pool.min_remainder and size < self._split_limit:
            following = block.next
            remainder = Block(address + size, rest, pool, block, following)
            if following is not None:
                following.prev = remainder
            block.next = remainder
            block.size = size
            pool.add(remainder)
        else:
            size = block.size
        block.state = ALLOCATED
        self._live[address] = block
        self.allocated = allocated = self.allocated + size
        if allocated > self.peak_allocated:
            self.peak_allocated = allocated
        return address

    def free(self, address: int) -> None:
        """`free`: the block becomes free and takes in its free neighbours (`free_block`); its segment stays reserved.

        Raises `ValueError` when nothing is allocated at this address.
        """
        block = self._live.pop(address, None)
        if block is None:
            if address == 0:
                return
            raise ValueError(f"nothing is allocated at address {address}: it was freed before or never allocated.")
        self.allocated -= block.size
        block.state = FREE
        neighbour = block.prev
        if neighbour is not None and neighbour.state == FREE:
            merge(block, neighbour)
        neighbour = block.next
        if neighbour is not None and neighbour.state == FREE:
            merge(block, neighbour)
        block.pool.add(block)

    def replay(
        self, ops: Sequence[int], ids: Sequence[int], sizes: Sequence[int], live: dict[int, int] | None = None
    ) -> dict[int, int]:
        """Apply events given as parallel sequences: op 1 allocates `sizes[i]` bytes as `ids[i]`, op 0 frees `ids[i]`.

        All in one stream.

        `live` maps the ids of live blocks to their addresses; it is kept up to date and returned, so that a replay
        can be continued, also on a `copy`. An id is used again only after it was freed.
        Raises `AllocatorOutOfMemory` with the index of the event in `event`, `ValueError` on freeing an unknown id.
        """
        live = {} if live is None else live
        alloc, free = self.alloc, self.free
        index = 0
        try:
            for index, (op, key, size) in enumerate(zip(ops, ids, sizes, strict=True)):  # noqa: B007  (read on failure)
                if op:
                    live[key] = alloc(size)
                else:
                    free(live.pop(key))
        except AllocatorOutOfMemory as error:
            error.event = index
            raise
        except KeyError as error:
            raise ValueError(f"event {index} frees {error.args[0]!r}, which is not allocated.") from None
        return live

    def empty_cache(self) -> None:
        """`torch.cuda.empty_cache`: give back every segment without a live block (`release_cached_blocks`)."""
        for index in (1, 0):  # all large blocks first, as there is one pool for all streams
            for pools in self._streams.values():
                release_cached(pools[index], self._device, expandable=self.options.expandable_segments)

    def reset_peaks(self) -> None:
        """`resetPeakStats`: peaks start again from what is there now."""
        self.peak_allocated = self.allocated
        self._device.peak_reserved = self._device.reserved

    def stats(self) -> AllocatorStats:
        """The figures of this moment, in time proportional to the number of blocks."""
        growing = self.options.expandable_segments
        free = [block for pools in self._streams.values() for pool in pools for block in pool.blocks]
        return AllocatorStats(
            allocated=self.allocated,
            reserved=self.reserved,
            peak_allocated=self.peak_allocated,
            peak_reserved=self.peak_reserved,
            segments=sum(1 for _ in self._segment_heads()),
            allocations=len(self._live),
            inactive_split=0 if growing else sum(block.size for block in free if block.prev or block.next),
            alloc_retries=self.alloc_retries,
            ooms=self.ooms,
            device_allocs=self._device.allocs,
            device_frees=self._device.frees,
        )

    def snapshot(self) -> list[SegmentInfo]:
        """`snapshot`: every segment with its blocks, in the order of addresses."""
        heads = sorted(self._segment_heads(), key=lambda head: head.address)
        return [segment_info(head, is_expandable=self.options.expandable_segments) for head in heads]

    def copy(self) -> CachingAllocator:
        """An independent copy, in which the addresses of live blocks stay valid; a few microseconds per block."""
        twin = CachingAllocator(self._device.capacity, self.options, total=self.total)
        twin.allocated, twin.peak_allocated = self.allocated, self.peak_allocated
        twin.alloc_retries, twin.ooms = self.alloc_retries, self.ooms
        twin._allowed, twin._collects, twin._choosy = self._allowed, self._collects, self._choosy
        twin._device = self._device.copy()
        pools = [
            pair for stream, own in self._streams.items() for pair in zip(own, twin._pools_of(stream), strict=True)
        ]
        twin._live = copy_blocks(pools, self._live)
        return twin

    def _pools_of(self, stream: int) -> tuple[Pool, Pool]:
        """The small and the large one: `BlockComparatorSize` looks for streams first."""
        pools = self._streams.get(stream)
        if pools is None:
            least = MIN_BLOCK if self.options.expandable_segments else SMALL_SIZE + 1
            pools = self._streams[stream] = (
                Pool(True, SMALL_SEGMENT, MIN_BLOCK, stream),
                Pool(False, self.options.large_segment_size, least, stream),
            )
        return pools

    def _get_block(self, pool: Pool, size: int, n_bytes: int) -> Block:
        """The part of `malloc` that finds a block or takes a segment; the block is in no list afterwards.

        The order of the attempts: a cached block; garbage collection; a new segment; giving back oversize blocks
        and a new segment; giving back all cached segments and a new segment; out of memory.
        """
        block = self._get_free_block(pool, size)
        if block is not None:
            return block
        if self._collects and self._allowed is not None and not self.options.expandable_segments:
            threshold = int(self.options.garbage_collection_threshold * self._allowed)
            collect_garbage([large for _, large in self._streams.values()], threshold, self._device)
        block = self._new_segment(pool, size)
        oversize = self._max_split != UNLIMITED and not self.options.expandable_segments
        if block is None and oversize and release_available(pool, size, self._max_split, self._device):
            block = self._new_segment(pool, size)
        if block is None:
            self.empty_cache()
            self.alloc_retries += 1
            block = self._new_segment(pool, size)
        if block is None:
            raise self._out_of_memory(n_bytes, size)
        return block

    def _get_free_block(self, pool: Pool, size: int) -> Block | None:
        """`get_free_block`: best fit by size and address, within the rules for oversize blocks."""
        if self._collects:
            for pools in self._streams.values():  # one clock for the small pools of all streams, and one for the large
                pools[not pool.is_small].lookups += 1
        at = bisect_left(pool.keys, size << ADDRESS_BITS)
        if at == len(pool.blocks):
            return None
        if self.options.expandable_segments:
            at = expandable.best_fit(pool, at)
        block = pool.blocks[at]
        if size < self._max_split <= block.size:
            return None  # an oversize block is kept for oversize requests
        if size >= self._max_split and block.size >= size + self.options.rounding_limit:
            return None  # too much of it would be wasted
        del pool.keys[at]
        return pool.blocks.pop(at)

    def _new_segment(self, pool: Pool, size: int) -> Block | None:
        """`alloc_block`: one `cudaMalloc`, or growth of the expandable segment; None when the memory is not there."""
        n_bytes = self.options.segment_size(size)
        device = self._device
        if self._allowed is not None and device.reserved + n_bytes > self._allowed:
            return None
        if self.options.expandable_segments:
            return expandable.allocate(pool, size, device, self.total)
        if not device.take(n_bytes):
            return None
        return Block(device.addresses(n_bytes), n_bytes, pool, None, None)

    def _out_of_memory(self, n_bytes: int, size: int) -> AllocatorOutOfMemory:
        self.ooms += 1
        capacity = self._device.capacity
        return AllocatorOutOfMemory(
            requested=n_bytes,
            segment=self.options.segment_size(size),
            free=max((self.total or 0 if capacity is None else capacity) - self.reserved, 0),
            reserved=self.reserved,
            allocated=self.allocated,
            total=self.total or 0,
            allowed=self._allowed,
        )

    def _segment_heads(self) -> Iterator[Block]:
        """The first block of every segment, or of every mapped range of an expandable one."""
        free = (pool.blocks for pools in self._streams.values() for pool in pools)
        for blocks in (*free, self._live.values()):
            for block in blocks:
                if block.prev is None or block.prev.state == UNMAPPED:
                    yield block
