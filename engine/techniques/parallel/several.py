"""Ranks that train one model: what they have in common, however the model is divided among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import RankShare
from engine.techniques.parallel.exchange import gathered, row_of, share_of, whole_of
from engine.techniques.parallel.orders import HeldOutPart, Part
from engine.techniques.parallel.together import T, Together, Update, Waits
from engine.techniques.preloading import EpochOrder


def several(config: RunConfig, device: torch.device) -> Together:
    """This rank among those of the process group, which is open; `device` is its own."""
    from engine.techniques.parallel.ddp import Ddp
    from engine.techniques.parallel.fsdp import Fsdp
    from engine.techniques.parallel.zero1 import Zero1

    return {"ddp": Ddp, "zero1": Zero1, "fsdp": Fsdp}[config.parallel]()


OF_ONE_TYPE = "divides weights of one type only"
"""Why ZeRO-1 refuses others."""


def refuse_several_types(parameters: Iterable[torch.nn.Parameter], config: RunConfig, why: str) -> None:
    """Raise `ConfigError` where what is trained of these is stored in several types; `why` that cannot be."""
    found = sorted({str(each.dtype).removeprefix("torch.") for each in parameters if each.requires_grad})
    if len(found) > 1:
        raise ConfigError(
            "parallel",
            f"--parallel {config.parallel} {why}, and of {config.model} this run trains weights in "
            f"{' and '.join(found)} there: use --parallel ddp, or --weights fp32.",
        )


class Several(Together):
    """One rank of several. Numbers go by gloo, on the host; every rank asks the same, in the same order."""

    def __init__(self) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        group = dist.group.WORLD
        assert group is not None
        self._group = group
        self._waits: Waits = lambda begins: None

    @contextmanager
    def first(self) -> Iterator[None]:
        if self.rank:
            self._meet()
        try:
            yield
        finally:  # what the first one fails at the others find too
            if not self.rank:
                self._meet()

    def wrap(self, model: torch.nn.Module, config: RunConfig, waits: Waits) -> torch.nn.Module:
        self._waits = waits
        if self.rank:
            torch.manual_seed(config.seed + self.rank)  # dropout: weights have been made alike by now
        return model

    def part(self, order: EpochOrder) -> EpochOrder:
        return Part(order, self.rank, self.world_size)

    def held_out(self, order: EpochOrder | None, n: int, batch_size: int) -> tuple[EpochOrder | None, float]:
        whole = list(range(n)) if order is None else order.whole()
        mine = HeldOutPart(whole, batch_size, self.rank, self.world_size)
        return mine, mine.counted

    def share(self, number: float) -> float:
        return self.summed([number])[0] / self.world_size

    def summed(self, numbers: Sequence[float]) -> Sequence[float]:
        with self._waiting():
            return [sum(each) for each in zip(*gathered([*numbers]), strict=True)]

    def everyones(self, value: T) -> list[T]:
        said: list[Any] = [None] * self.world_size
        dist.all_gather_object(said, value, group=self._group)
        return said

    def update_done(self, loss: float, own: RankShare, asked: bool) -> Update:
        with self._waiting():
            rows = gathered([loss, asked, *row_of(own)])
        ranks = tuple(share_of(rank, row[2:]) for rank, row in enumerate(rows))
        return Update(
            loss=sum(row[0] for row in rows) / self.world_size,
            whole=whole_of(ranks, self.rank),
            ranks=ranks,
            stops=any(row[1] for row in rows),
        )

    def agree(self, asked: bool) -> bool:
        return any(self.summed([asked]))

    def _meet(self) -> None:
        gathered([0.0])

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._waits(True)
        yield
        self._waits(False)
