"""Unified memory: what an optimizer's paged states are in on a GPU, beside the caching allocator.

The driver moves its pages to the card where they are used and back to the host where room is short
(`cudaMallocManaged`; bitsandbytes' `get_paged` and `prefetch_tensor`).
"""

from __future__ import annotations

from typing import Any

import torch

_DEFINED: Any = torch.library.Library("traintop", "FRAGMENT")  # type: ignore[no-untyped-call]
_DEFINED.define("unified_zeros(Tensor like, ScalarType dtype) -> Tensor")
_DEFINED.impl("unified_zeros", lambda like, dtype: torch.zeros_like(like, dtype=dtype), "CompositeExplicitAutograd")
UNIFIED_ZEROS: Any = torch.ops.traintop.unified_zeros.default
"""As `torch.zeros_like`, of memory that the tracer does not look for in the allocator."""


def with_unified(used: int, unified: int, limit: int) -> int:
    """Bytes used on a card of `limit` bytes where `unified` more are as far on it as there is room."""
    return max(used, min(used + unified, limit))


EIGHT_BIT_FROM, PAGED_FROM = 4_096, 100_000
"""Parameters of a tensor from which on bitsandbytes keeps its optimizer states in 8 bits, and paged
(`min_8bit_size` and `get_state_buffer` of optim/optimizer.py)."""


def state_buffer(parameter: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """One state of a paged optimizer: zeros, in unified memory where it is large."""
    if parameter.numel() < PAGED_FROM:
        return torch.zeros_like(parameter, dtype=dtype)
    state: torch.Tensor = UNIFIED_ZEROS(parameter, dtype)
    return state
