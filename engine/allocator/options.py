"""The settings of PyTorch's CUDA caching allocator, read as PyTorch reads PYTORCH_ALLOC_CONF.

Standard library only. Source of every rule: c10/core/AllocatorConfig.{h,cpp} and
c10/cuda/CUDAAllocatorConfig.{h,cpp} of PyTorch 2.13, and "Memory management" in its notes on CUDA semantics.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.gpus.units import MIB

MIN_BLOCK = 512
"""`kMinBlockSize`: every size is rounded up to a multiple of this."""
SMALL_SIZE = MIB
"""`kSmallSize`: the largest request of the small pool, and what a large block may be too large by without a split."""
SMALL_SEGMENT = 2 * MIB
"""`kSmallBuffer`: the segments of the small pool."""
ROUND_LARGE = 2 * MIB
"""`kRoundLarge`: what the segments of large requests are rounded up to."""
LARGE_SEGMENT = 20 * MIB
"""Default of `large_segment_size_mb`: the segment that a request of 1 to 10 MiB is cut from."""
MIN_LARGE_ALLOC = 10 * MIB
"""`kMinLargeAlloc`: requests from here on get a segment of their own size."""

_INTERVALS = 16  # kRoundUpPowerOfTwoIntervals: powers of two from 1 MiB to 32 GiB, the last one open

_WITHOUT_EFFECT = frozenset(
    {
        "graph_capture_record_stream_reuse",
        "pinned_free_catch_all",
        "pinned_max_cached_size_mb",
        "pinned_max_round_threshold_mb",
        "pinned_num_register_threads",
        "pinned_reserve_segment_size_mb",
        "pinned_use_background_threads",
        "pinned_use_cuda_host_register",
        "pinned_use_hip_host_register",
        "release_lock_on_cudamalloc",
        "release_lock_on_hipmalloc",
        "throw_on_cudamalloc_oom",
    }
)
"""Keys that PyTorch knows and that change host memory, locking or reporting, never a segment."""


class AllocatorOptionError(ValueError):
    """A setting of PYTORCH_ALLOC_CONF that PyTorch refuses or that is not modelled; one sentence with the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorOptions:
    """What PYTORCH_ALLOC_CONF can change about segments. The defaults are PyTorch's."""

    expandable_segments: bool = False
    """One growing segment per pool instead of one `cudaMalloc` per segment."""
    large_segment_size: int = LARGE_SEGMENT
    """Bytes; `large_segment_size_mb`."""
    max_split_size: int | None = None
    """Bytes; blocks of this size and more are never split nor given to smaller requests. None: all may be split."""
    max_non_split_rounding_size: int | None = None
    """Bytes; how much larger an oversize block may be than the request it serves. None: `large_segment_size`."""
    roundup_power2_divisions: tuple[int, ...] = ()
    """Divisions per power of two, for sizes from 1 MiB (first) to 32 GiB and more (16th); empty: no rounding."""
    garbage_collection_threshold: float = 0.0
    """Share of the allowed memory above which old cached segments are freed early; works only with a fraction < 1."""
    per_process_memory_fraction: float = 1.0
    """Share of the card's memory that the segments may take, as `set_per_process_memory_fraction`."""

    @property
    def rounding_limit(self) -> int:
        """`max_non_split_rounding_size` with its default, which follows the large segment (`parseArgs`)."""
        return self.large_segment_size if self.max_non_split_rounding_size is None else self.max_non_split_rounding_size

    def round_size(self, n_bytes: int) -> int:
        """`round_size`: multiples of 512, or steps of a power of two where `roundup_power2_divisions` says so."""
        if n_bytes < MIN_BLOCK:
            return MIN_BLOCK
        if self.roundup_power2_divisions:
            exponent = n_bytes.bit_length() - 1
            divisions = self.roundup_power2_divisions[min(max(exponent - 20, 0), _INTERVALS - 1)]
            if divisions > 1 and n_bytes > MIN_BLOCK * divisions:
                step = (1 << exponent) // divisions  # roundup_power2_next_division
                return -(-n_bytes // step) * step
        return -(-n_bytes // MIN_BLOCK) * MIN_BLOCK

    def segment_size(self, size: int) -> int:
        """`get_allocation_size`: the segment that is taken for a rounded size that no free block serves."""
        if size <= SMALL_SIZE:
            return SMALL_SEGMENT
        if size < MIN_LARGE_ALLOC:
            return self.large_segment_size
        return -(-size // ROUND_LARGE) * ROUND_LARGE

    @classmethod
    def parse(cls, text: str) -> AllocatorOptions:
        """The options of a text such as `max_split_size_mb:128,expandable_segments:True`.

        Raises `AllocatorOptionError` where PyTorch would refuse the text, and for `backend:cudaMallocAsync`,
        whose pools belong to the CUDA driver and are not modelled.
        """
        pairs = _pairs(text)
        options = cls()
        # large_segment_size_mb first: the lower bound of two others follows it (AcceleratorAllocatorConfig::parseArgs)
        for key, value in sorted(pairs, key=lambda pair: pair[0] != "large_segment_size_mb"):
            options = replace(options, **_setting(key, value, options))
        return options

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> AllocatorOptions:
        """The options that a process with this environment trains with.

        PyTorch 2.13 reads the first of the two that is set and never looks at the other; the older name wins
        (`AcceleratorAllocatorConfig::instance`).
        """
        for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
            if name in environ:
                try:
                    return cls.parse(environ[name])
                except AllocatorOptionError as error:
                    raise AllocatorOptionError(f"{name}: {error}") from None
        return cls()


def _pairs(text: str) -> list[tuple[str, str]]:
    """`key:value` pairs; a value in brackets keeps its commas. White space means nothing (`ConfigTokenizer`)."""
    rest = re.sub(r"\s", "", text)
    pairs = []
    while rest:
        match = re.match(r"([^,:\[\]]+):(\[[^\[\]]*\]|[^,:\[\]]+)(?:,|$)", rest)
        if match is None:
            raise AllocatorOptionError(f"{rest!r} is not readable: write key:value pairs with commas between them.")
        pairs.append((match[1], match[2]))
        rest = rest[match.end() :]
    return pairs


def _setting(key: str, value: str, so_far: AllocatorOptions) -> dict[str, Any]:
    """The fields that one `key:value` sets; checks of `AcceleratorAllocatorConfig::parse*`."""
    if key in _WITHOUT_EFFECT:
        return {}
    if key == "backend":
        return _backend(value)
    if key == "expandable_segments":
        return {"expandable_segments": _true_or_false(key, value)}
    if key == "roundup_power2_divisions":
        return {"roundup_power2_divisions": _divisions(value)}
    if key == "garbage_collection_threshold":
        return {"garbage_collection_threshold": _share(key, value, below_one=True)}
    if key == "per_process_memory_fraction":
        return {"per_process_memory_fraction": _share(key, value, below_one=False)}
    if key == "large_segment_size_mb":
        return {"large_segment_size": _mebibytes(key, value, MIN_LARGE_ALLOC // MIB + 1)}
    if key == "max_split_size_mb":
        if value == "-1":  # PyTorch reads it as an unsigned number: no limit
            return {"max_split_size": None}
        return {"max_split_size": _mebibytes(key, value, so_far.large_segment_size // MIB)}
    if key == "max_non_split_rounding_mb":
        return {"max_non_split_rounding_size": _mebibytes(key, value, so_far.large_segment_size // MIB)}
    raise AllocatorOptionError(f"{key!r} is not an option of PyTorch's CUDA allocator: remove it.")


def _backend(value: str) -> dict[str, Any]:
    if value == "native":
        return {}
    if value == "cudaMallocAsync":
        raise AllocatorOptionError(
            "backend:cudaMallocAsync leaves the memory pool to the CUDA driver, which is not modelled: "
            "use backend:native, or leave backend out."
        )
    raise AllocatorOptionError(f"backend {value!r} is not known: use native.")


def _true_or_false(key: str, value: str) -> bool:
    if value not in ("True", "False"):
        raise AllocatorOptionError(f"{key} needs True or False, not {value!r}.")
    return value == "True"


def _whole(key: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise AllocatorOptionError(f"{key} needs a whole number, not {value!r}.")
    return int(value)


def _mebibytes(key: str, value: str, minimum: int) -> int:
    number = _whole(key, value)
    if number < minimum:
        raise AllocatorOptionError(f"{key} {number} is too small: use {minimum} or more.")
    return number * MIB


def _share(key: str, value: str, *, below_one: bool) -> float:
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not (0.0 < share < 1.0 if below_one else 0.0 <= share <= 1.0):
        bounds = "more than 0 and less than 1" if below_one else "0 to 1"
        raise AllocatorOptionError(f"{key} needs a number from {bounds}, not {value!r}.")
    return share


def _power_of_two(key: str, value: str, *, zero: bool) -> int:
    number = _whole(key, value)
    if number & (number - 1) or (number == 0 and not zero):
        raise AllocatorOptionError(f"{key} needs powers of two{' or 0' if zero else ''}, not {value!r}.")
    return number


def _divisions(value: str) -> tuple[int, ...]:
    """`AcceleratorAllocatorConfig::parseRoundUpPower2Divisions`: one number, or `[256:1,512:2,1024:4,>:8]`.

    In a list the key is the lower end of an interval in MiB. The first entry also covers everything below it;
    `>` covers everything above the entry before it; intervals named by no entry are not rounded.
    """
    key = "roundup_power2_divisions"
    if not value.startswith("["):
        return (_power_of_two(key, value, zero=False),) * _INTERVALS
    divisions = [0] * _INTERVALS
    last: int | None = None
    for entry in filter(None, value[1:-1].split(",")):
        boundary, colon, number = entry.partition(":")
        if not colon:
            raise AllocatorOptionError(f"{key} needs entries such as 256:1, not {entry!r}.")
        division = _power_of_two(key, number, zero=True)
        if boundary == ">":
            start = (last or 0) + 1
            divisions[start:] = [division] * len(divisions[start:])
            continue
        index = min(_power_of_two(key, boundary, zero=False).bit_length() - 1, _INTERVALS - 1)
        if last is None:
            divisions[:index] = [division] * index
        divisions[index] = division
        last = index
    return tuple(divisions)
