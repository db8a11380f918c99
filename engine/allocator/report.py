"""What the caching allocator reports: its statistics, a snapshot of its segments, and running out of memory."""

from __future__ import annotations

from dataclasses import dataclass

from engine.allocator.blocks import ALLOCATED, UNMAPPED, Block


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorStats:
    """The figures of `torch.cuda.memory_stats` that a forecast needs; sizes in bytes.

    `inactive_split` leaves expandable segments out, as PyTorch does (`free_block`).
    """

    allocated: int
    """In live blocks (`allocated_bytes.all.current`)."""
    reserved: int
    """In segments (`reserved_bytes.all.current`)."""
    peak_allocated: int
    peak_reserved: int
    segments: int
    """Pieces of memory taken from the device; an expandable segment counts once per contiguous mapped range."""
    allocations: int
    """Live blocks."""
    inactive_split: int
    """In free blocks that share their segment with another block, so that the segment cannot be given back."""
    alloc_retries: int
    """Times that cached segments were given back and the device was asked again (`num_alloc_retries`)."""
    ooms: int
    """Out-of-memory errors (`num_ooms`)."""
    device_allocs: int
    """Segments taken or mapped (`num_device_alloc`)."""
    device_frees: int
    """Segments given back or unmapped (`num_device_free`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo:
    """One block of a segment; `address` and `size` in bytes."""

    address: int
    size: int
    allocated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """One contiguous piece of device memory, its blocks in the order of addresses; sizes in bytes."""

    address: int
    size: int
    is_small: bool
    is_expandable: bool
    stream: int
    """Whose work it is for."""
    blocks: tuple[BlockInfo, ...]

    @property
    def allocated(self) -> int:
        """Bytes in live blocks."""
        return sum(block.size for block in self.blocks if block.allocated)


def segment_info(head: Block, *, is_expandable: bool) -> SegmentInfo:
    """The segment, or the mapped range of an expandable segment, that begins with this block."""
    blocks = []
    block: Block | None = head
    while block is not None and block.state != UNMAPPED:
        blocks.append(BlockInfo(address=block.address, size=block.size, allocated=block.state == ALLOCATED))
        block = block.next
    return SegmentInfo(
        address=head.address,
        size=sum(info.size for info in blocks),
        is_small=head.pool.is_small,
        is_expandable=is_expandable,
        stream=head.pool.stream,
        blocks=tuple(blocks),
    )


class AllocatorOutOfMemory(RuntimeError):  # noqa: N818  (named as torch.OutOfMemoryError is, which is a RuntimeError too)
    """No segment could be had for a request, not even after the cached ones were given back. Sizes in bytes.

    `str()` is the message of `torch.OutOfMemoryError`, so that a library that matches on its text recognises it.
    """

    def __init__(
        self, *, requested: int, segment: int, free: int, reserved: int, allocated: int, total: int, allowed: int | None
    ) -> None:
        self.requested = requested
        """What was asked for."""
        self.segment = segment
        """What the device was asked for: the size in "Tried to allocate"."""
        self.free = free
        """What was left on the device."""
        self.reserved = reserved
        self.allocated = allocated
        self.total = total
        """The card's whole memory."""
        self.allowed = allowed
        """The limit of `per_process_memory_fraction`, None where there is none."""
        self.event: int | None = None
        """Index of the failing event of a replay."""
        super().__init__(self._text())

    def _text(self) -> str:
        """The sentence that `DeviceCachingAllocator::malloc` throws, with the one of `reportProcessMemoryInfo`."""
        allowed = "" if self.allowed is None else f"{format_size(self.allowed)} allowed; "
        return (
            f"CUDA out of memory. Tried to allocate {format_size(self.segment)}. "
            f"GPU 0 has a total capacity of {format_size(self.total)} of which {format_size(self.free)} is free. "
            f"Including non-PyTorch memory, this process has {format_size(self.total - self.free)} memory in use. "
            f"{allowed}Of the allocated memory {format_size(self.allocated)} is allocated by PyTorch, "
            f"and {format_size(self.reserved - self.allocated)} is reserved by PyTorch but unallocated. "
            "If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True "
            "to avoid fragmentation.  See documentation for Memory Management  "
            "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
        )


def format_size(n_bytes: int) -> str:
    """A size as PyTorch's messages write it: `20.00 MiB` (`format_size` of CUDACachingAllocator.cpp)."""
    if n_bytes <= 2**10:
        return f"{n_bytes} bytes"
    if n_bytes <= 2**20:
        return f"{n_bytes / 2**10:.2f} KiB"
    if n_bytes <= 2**30:
        return f"{n_bytes / 2**20:.2f} MiB"
    return f"{n_bytes / 2**30:.2f} GiB"
