"""What is on a card when most is allocated, by what it is for."""

from __future__ import annotations

from engine.contract.forecast_types import ACTIVATIONS, BREAKDOWN, CACHED, CONTEXT, INPUTS, LIBRARIES, OPTIMIZER
from engine.forecast.replay import Replay


def breakdown(free: Replay, context: int, libraries: int, unified: int = 0) -> dict[str, int]:
    """Bytes by `BREAKDOWN`, of a run without a limit; `unified` are those of optimizer states beside the allocator."""
    held = dict.fromkeys(BREAKDOWN, 0) | free.by_category
    held[ACTIVATIONS] += held.pop(INPUTS, 0)
    held[CACHED] = free.peak_reserved - sum(held.values())
    held[CONTEXT] = context
    held[LIBRARIES] += libraries
    held[OPTIMIZER] += unified
    return held
