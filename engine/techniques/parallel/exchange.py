"""What ranks tell each other once per update: a few numbers on the host, in one all-gather."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields

import torch
import torch.distributed as dist

from engine.contract.forecast_types import BREAKDOWN, TRACED, UNIFIED
from engine.contract.records import Memory, RankShare, Shares

_SHARES = tuple(field.name for field in fields(Shares))
_MEMORY = tuple(field.name for field in fields(Memory) if field.name != "by_category")
_CATEGORIES = tuple(dict.fromkeys((*BREAKDOWN, *TRACED, UNIFIED)))


def gathered(numbers: list[float]) -> list[list[float]]:
    """Every rank's numbers, in the order of the ranks. All give as many. By gloo, on CUDA too: nothing waits there."""
    mine = torch.tensor(numbers, dtype=torch.float64)  # whole numbers are exact up to 2^53
    every = torch.empty((dist.get_world_size(), len(numbers)), dtype=torch.float64)
    dist.all_gather(list(every), mine)
    rows: list[list[float]] = every.tolist()
    return rows


def row_of(share: RankShare) -> list[float]:
    """A rank's share as numbers, nan where there is none."""
    held = share.memory.by_category
    return [
        _number(share.n_samples),
        _number(share.n_tokens),
        share.update_s,
        *(getattr(share.shares, name) for name in _SHARES),
        *(_number(getattr(share.memory, name)) for name in _MEMORY),
        *(_number(None if held is None else held.get(name)) for name in _CATEGORIES),
    ]


def share_of(rank: int, row: list[float]) -> RankShare:
    """The inverse of `row_of`."""
    numbers = iter(row)
    n_samples, n_tokens, update_s = int(next(numbers)), int(next(numbers)), next(numbers)
    shares = Shares(**{name: next(numbers) for name in _SHARES})
    sizes = _whole(_MEMORY, numbers)
    held = {name: size for name, size in _whole(_CATEGORIES, numbers).items() if size is not None}
    return RankShare(
        rank=rank,
        n_samples=n_samples,
        n_tokens=n_tokens,
        update_s=update_s,
        shares=shares,
        memory=Memory(**sizes, by_category=held or None),
    )


def whole_of(ranks: Sequence[RankShare], rank: int) -> RankShare:
    """What all of them make one, as `rank` tells it: `engine.techniques.parallel.together.Update.whole`."""
    shares = {name: sum(getattr(each.shares, name) for each in ranks) / len(ranks) for name in _SHARES}
    return RankShare(
        rank=rank,
        n_samples=sum(each.n_samples or 0 for each in ranks),
        n_tokens=sum(each.n_tokens or 0 for each in ranks),
        update_s=max(each.update_s for each in ranks),
        shares=Shares(**shares),
        memory=max((each.memory for each in ranks), key=lambda memory: memory.peak_used or memory.used or 0),
    )


def _number(value: int | None) -> float:
    return math.nan if value is None else value


def _whole(names: tuple[str, ...], numbers: Iterator[float]) -> dict[str, int | None]:
    return {name: None if math.isnan(value := next(numbers)) else int(value) for name in names}
