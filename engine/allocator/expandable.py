"""`expandable_segments:True`: one segment per pool that is backed with memory granule by granule.

Note [Expandable Segments] of CUDACachingAllocator.cpp. A granule is 2 MiB in the small pool and
`large_segment_size` (20 MiB) in the large one. Parts without memory are blocks in the state UNMAPPED.
"""

from __future__ import annotations

from engine.allocator.blocks import ALLOCATED, FREE, UNMAPPED, Block, Device, Pool, try_merge

UNLIMITED_ADDRESSES = 2**42
"""Bytes of addresses for a segment on a card without a limit: more than any card has."""


def best_fit(pool: Pool, at: int) -> int:
    """The index of the block to use when block `at` is the smallest one that is large enough (`get_free_block`).

    A block that can grow counts with the size it can grow to, so that the open end of the segment is used last.
    """
    while at + 1 < len(pool.blocks) and _can_grow_to(pool.blocks[at + 1]) < _can_grow_to(pool.blocks[at]):
        at += 1
    return at


def _can_grow_to(block: Block) -> int:
    following = block.next
    return block.size + (following.size if following is not None and following.state == UNMAPPED else 0)


def allocate(pool: Pool, size: int, device: Device, total: int | None) -> Block | None:
    """`try_allocate_expandable_block`: back enough addresses with memory for `size` bytes; None without the memory.

    `total`: bytes of the card. The block is in no list afterwards.
    """
    block = _find(pool, size, device, total)
    if block.state == UNMAPPED and not _map(block, min(block.size, size), device):
        return None
    while block.size < size:
        following = block.next
        if following is None or not _map(following, min(size - block.size, following.size), device):
            return None
        block = following  # it has taken `block` in
    pool.remove(block)
    return block


def _find(pool: Pool, size: int, device: Device, total: int | None) -> Block:
    """`find_expandable_block`: the lowest addresses, free or unmapped, that have room for `size` bytes together."""
    for unmapped in pool.unmapped:
        previous = unmapped.prev
        block = previous if previous is not None and previous.state != ALLOCATED else unmapped
        if _has_room(block, size):
            return block
    # address space for 1 1/8 of the card, so that pages can be unmapped in front and mapped again at the end
    n_bytes = UNLIMITED_ADDRESSES if total is None else total + total // 8
    n_bytes = -(-max(n_bytes, size) // pool.granule) * pool.granule
    block = Block(device.addresses(n_bytes, pool.granule), n_bytes, pool, None, None)
    block.state = UNMAPPED
    pool.add_unmapped(block)
    return block


def _has_room(block: Block | None, size: int) -> bool:
    n_bytes = 0
    while n_bytes < size and block is not None and block.state != ALLOCATED:
        n_bytes += block.size
        block = block.next
    return n_bytes >= size


def _map(block: Block, size: int, device: Device) -> bool:
    """`map_block`: back the front of an unmapped block with whole granules and put it among the free ones."""
    pool = block.pool
    n_bytes = -(-size // pool.granule) * pool.granule
    if not device.take(n_bytes):
        return False
    pool.unmapped.remove(block)
    if n_bytes < block.size:
        rest = _cut(block, n_bytes)
        rest.state = UNMAPPED
        pool.add_unmapped(rest)
    block.state = FREE
    try_merge(block, block.prev)
    try_merge(block, block.next)
    pool.add(block)
    return True


def _cut(block: Block, size: int) -> Block:
    """Shorten a block to `size` bytes; the rest is returned, linked behind it and in no list."""
    rest = Block(block.address + size, block.size - size, block.pool, block, block.next)
    if rest.next is not None:
        rest.next.prev = rest
    block.next = rest
    block.size = size
    return rest


def release(pool: Pool, device: Device) -> None:
    """`release_blocks`: unmap the whole granules inside free blocks; a segment without any memory is dropped."""
    for block in list(pool.blocks):
        unmapped = _unmap(block, device)
        if unmapped is not None and unmapped.prev is None and unmapped.next is None:
            pool.unmapped.remove(unmapped)
            device.give_back_addresses(unmapped.address, unmapped.size, pool.granule)


def _unmap(block: Block, device: Device) -> Block | None:
    """`unmap_block`: take the memory from the granules that lie wholly in a free block; None if there are none."""
    pool = block.pool
    begin = -(-block.address // pool.granule) * pool.granule
    end = (block.address + block.size) // pool.granule * pool.granule
    if begin >= end:
        return None
    pool.remove(block)
    if begin > block.address:
        front, block = block, _cut(block, begin - block.address)
        pool.add(front)
    if block.size > end - begin:
        pool.add(_cut(block, end - begin))
    device.give_back(block.size)
    block.state = UNMAPPED
    try_merge(block, block.prev)
    try_merge(block, block.next)
    pool.add_unmapped(block)
    return block
