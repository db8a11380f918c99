"""Which samples a rank takes, by `torch.utils.data.DistributedSampler`'s rule: every W-th one, from its own on."""

from __future__ import annotations

from engine.techniques.preloading import EpochOrder


class Part(EpochOrder):
    """A rank's part of an epoch: of W ranks, rank r takes places r, r + W, … of the order of all.

    The order begins again at its end until every rank has as many samples: so do the Trainer's ranks.
    """

    def __init__(self, all_samples: EpochOrder, rank: int, world_size: int) -> None:
        self._all, self._rank, self._world_size = all_samples, rank, world_size
        self.skipped = 0

    @property
    def epoch(self) -> int:
        return self._all.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._all.epoch = epoch

    @property
    def of_all(self) -> int:
        return self._all.of_all

    def __len__(self) -> int:
        return -(-self.of_all // self._world_size)

    def whole(self) -> list[int]:
        order = self._all.whole()
        needed = len(self) * self._world_size
        while len(order) < needed:
            order += order[: needed - len(order)]
        return order[self._rank :: self._world_size]


class HeldOutPart(EpochOrder):
    """A rank's part of what is scored, none of it twice.

    Ranks have equal numbers of batches, as each one's forward may need the others. Where that takes one more, its last
    batch is a sample that counts nothing: `counted` batches do.
    """

    def __init__(self, order: list[int], batch_size: int, rank: int, world_size: int) -> None:
        super().__init__(len(order), 0)
        mine, most = order[rank::world_size], -(-len(order) // world_size)
        self.counted = -(-len(mine) // batch_size)
        # parts differ by a sample, so one batch more is of one sample
        self._mine = mine if self.counted == -(-most // batch_size) else [*mine, order[0]]

    def __len__(self) -> int:
        return len(self._mine)

    def whole(self) -> list[int]:
        return self._mine
