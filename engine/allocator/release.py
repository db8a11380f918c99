"""How cached segments go back to the device: on a failed allocation, by garbage collection, by `empty_cache`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from engine.allocator import expandable as allocator_expandable
from engine.allocator.blocks import ADDRESS_BITS, Block, Device, Pool


def release_block(block: Block, device: Device) -> None:
    """`release_block`: give a free block that is a whole segment back."""
    block.pool.remove(block)
    device.give_back(block.size)
    device.give_back_addresses(block.address, block.size)


def release_cached(pool: Pool, device: Device, *, expandable: bool) -> None:
    """`release_blocks`: give back every segment without a live block."""
    if expandable:
        allocator_expandable.release(pool, device)
        return
    for block in _whole_segments(pool):
        release_block(block, device)


def release_available(pool: Pool, size: int, max_split: int, device: Device) -> bool:
    """`release_available_cached_blocks`: give back just enough oversize blocks for a request of `size` bytes.

    That is the smallest one that covers the request, else the largest ones until they do together; False when
    all of them are not enough.
    """
    wanted = max(size, max_split)
    at = bisect_left(pool.keys, wanted << ADDRESS_BITS)
    if at < len(pool.blocks):
        release_block(pool.blocks[at], device)
        return True
    released = 0
    while released < wanted and pool.blocks and pool.blocks[-1].size >= max_split:
        released += pool.blocks[-1].size
        release_block(pool.blocks[-1], device)
    return released >= wanted


def collect_garbage(pools: Sequence[Pool], threshold: int, device: Device) -> None:
    """`garbage_collect_cached_blocks`: while more than `threshold` bytes are reserved, give back idle segments.

    Each pass takes all that have been idle for the average time or longer, in lookups of the `pools`, those of all
    streams.
    """
    target = device.reserved - threshold
    idle = [block for pool in pools for block in _whole_segments(pool)]
    while idle and target > 0:
        average = sum(block.pool.lookups - block.born for block in idle) / len(idle)
        for block in idle:
            if block.pool.lookups - block.born >= average:
                target -= block.size
                release_block(block, device)
        idle = [block for block in idle if block.pool.lookups - block.born < average]


def _whole_segments(pool: Pool) -> list[Block]:
    """The free blocks that are a segment of their own."""
    return [block for block in pool.blocks if block.prev is None and block.next is None]
