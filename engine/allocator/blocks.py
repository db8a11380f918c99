"""Blocks and pools of the caching allocator: the structs `Block` and `BlockPool` of CUDACachingAllocator.cpp."""

from __future__ import annotations

from bisect import bisect_left

from engine.allocator.options import ROUND_LARGE

ADDRESS_BITS = 48
"""A free block sorts by `size << ADDRESS_BITS | address`: one integer compares faster than a tuple."""

TOP = 1 << ADDRESS_BITS - 1
"""The end of the addresses of user space."""

FREE, ALLOCATED, UNMAPPED = 0, 1, 2


class Block:
    """A piece of a segment. `prev` and `next` are its neighbours in the same segment."""

    __slots__ = ("address", "born", "key", "next", "pool", "prev", "size", "state")

    def __init__(self, address: int, size: int, pool: Pool, prev: Block | None, next_: Block | None) -> None:
        self.address = address
        self.size = size
        self.pool = pool
        self.prev = prev
        self.next = next_
        self.state = FREE
        self.key = 0
        """Place among the free blocks, while it is one."""
        self.born = 0
        """The pool's clock when it became free."""


class Device:
    """The card's memory: how much of it is taken, and which addresses are in use.

    Of blocks of one size the one at the lowest address is taken, so it matters where the driver puts a segment: with
    `grows_down` each below the one before (seen with drivers of CUDA 13), else above it.
    """

    __slots__ = ("_grows_down", "_holes", "_next_address", "allocs", "capacity", "frees", "peak_reserved", "reserved")

    def __init__(self, capacity: int | None, *, grows_down: bool = False) -> None:
        self.capacity = capacity
        self.reserved = self.peak_reserved = 0
        self.allocs = self.frees = 0
        self._grows_down = grows_down
        self._next_address = TOP if grows_down else ROUND_LARGE  # so that nothing lies at address 0
        self._holes: dict[tuple[int, int], list[int]] = {}

    def take(self, n_bytes: int) -> bool:
        """Take memory (`cudaMalloc`, `cuMemCreate`); False when there is not enough."""
        reserved = self.reserved + n_bytes
        if self.capacity is not None and reserved > self.capacity:
            return False
        self.reserved = reserved
        self.peak_reserved = max(self.peak_reserved, reserved)
        self.allocs += 1
        return True

    def give_back(self, n_bytes: int) -> None:
        """Give memory back (`cudaFree`, `cuMemRelease`)."""
        self.reserved -= n_bytes
        self.frees += 1

    def addresses(self, n_bytes: int, alignment: int = ROUND_LARGE) -> int:
        """The start of a range of addresses, a multiple of `alignment`: one given back before, else a new one."""
        holes = self._holes.get((n_bytes, alignment))
        if holes:
            return holes.pop()
        if self._grows_down:
            self._next_address = (self._next_address - n_bytes) // alignment * alignment
            return self._next_address
        address = -(-self._next_address // alignment) * alignment
        self._next_address = address + n_bytes
        return address

    def give_back_addresses(self, address: int, n_bytes: int, alignment: int = ROUND_LARGE) -> None:
        """A range of addresses may be used again."""
        self._holes.setdefault((n_bytes, alignment), []).append(address)

    def copy(self) -> Device:
        """An independent copy."""
        twin = Device(self.capacity, grows_down=self._grows_down)
        twin.reserved, twin.peak_reserved = self.reserved, self.peak_reserved
        twin.allocs, twin.frees = self.allocs, self.frees
        twin._next_address = self._next_address
        twin._holes = {kind: list(starts) for kind, starts in self._holes.items()}
        return twin


class Pool:
    """The free blocks of one size class of a stream, smallest first and at equal sizes the lowest address first.

    PyTorch has one such pool for all streams, which orders by stream, size and address (`BlockComparatorSize`).
    """

    __slots__ = ("blocks", "granule", "is_small", "keys", "lookups", "min_remainder", "stream", "unmapped")

    def __init__(self, is_small: bool, granule: int, min_remainder: int, stream: int = 0) -> None:
        self.is_small = is_small
        self.stream = stream
        self.granule = granule
        """Bytes that an expandable segment grows by."""
        self.min_remainder = min_remainder
        """Bytes that must be left over for a block to be split."""
        self.keys: list[int] = []
        self.blocks: list[Block] = []
        self.unmapped: list[Block] = []
        """Parts of expandable segments without memory, lowest address first (`BlockPool::unmapped`)."""
        self.lookups = 0
        """`get_free_blocks_call_count`: the clock of garbage collection."""

    def add(self, block: Block) -> None:
        """`BlockPool::insert_into_blocks`: put a free block in its place and note its age."""
        block.key = key = block.size << ADDRESS_BITS | block.address
        keys = self.keys
        at = bisect_left(keys, key)
        keys.insert(at, key)
        self.blocks.insert(at, block)
        block.born = self.lookups

    def remove(self, block: Block) -> None:
        """Take a free block out."""
        at = bisect_left(self.keys, block.key)
        del self.keys[at]
        del self.blocks[at]

    def add_unmapped(self, block: Block) -> None:
        """Keep an unmapped block, in the order of addresses (`BlockComparatorAddress`)."""
        at = bisect_left([other.address for other in self.unmapped], block.address)
        self.unmapped.insert(at, block)


def try_merge(block: Block, neighbour: Block | None) -> None:
    """`try_merge_blocks`: take in a neighbour that is free, or unmapped when `block` is."""
    if neighbour is not None and neighbour.state == block.state:
        merge(block, neighbour)


def merge(block: Block, neighbour: Block) -> None:
    """Take in a neighbour in the same state. `block` is in no list at this moment; the neighbour leaves its own."""
    if neighbour.state == FREE:
        neighbour.pool.remove(neighbour)
    else:
        neighbour.pool.unmapped.remove(neighbour)
    block.size += neighbour.size
    if block.prev is neighbour:
        block.address = neighbour.address
        block.prev = before = neighbour.prev
        if before is not None:
            before.next = block
    else:
        block.next = after = neighbour.next
        if after is not None:
            after.prev = block


def copy_blocks(pools: list[tuple[Pool, Pool]], live: dict[int, Block]) -> dict[int, Block]:
    """Fill each second pool with copies of the blocks of the first; returns the copies of the live blocks."""
    clones: dict[Block | None, Block | None] = {None: None}

    def clone(block: Block, pool: Pool) -> Block:
        twin = Block(block.address, block.size, pool, None, None)
        twin.state, twin.key, twin.born = block.state, block.key, block.born
        clones[block] = twin
        return twin

    for pool, copied in pools:
        copied.lookups, copied.keys = pool.lookups, list(pool.keys)
        copied.blocks = [clone(block, copied) for block in pool.blocks]
        copied.unmapped = [clone(block, copied) for block in pool.unmapped]
    twin_of = dict(pools)
    copied_live = {address: clone(block, twin_of[block.pool]) for address, block in live.items()}
    for original, twin in clones.items():
        if original is not None and twin is not None:
            twin.prev, twin.next = clones[original.prev], clones[original.next]
    return copied_live
