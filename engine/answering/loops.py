"""How much an answer repeats itself: a small model, or one that never learned to end, often goes round in a loop."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.answers import LOOP_TOKENS


def looped(ids: Sequence[int]) -> float | None:
    """Share of the runs of `LOOP_TOKENS` tokens that were there before, 0 to 1; None where there are fewer than two."""
    runs = len(ids) - LOOP_TOKENS + 1
    if runs < 2:
        return None
    return 1 - len({tuple(ids[start : start + LOOP_TOKENS]) for start in range(runs)}) / runs
