"""How much of the host other programs took: from single readings to a run's figure, and when that is much.

Pure; standard library only. DESIGN's word for it is *host busy*, as *contended* is for a card.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, HostSample

BUSY_SHARE = 0.1
"""Of the cores that a run may use. A desktop's own programs take less; ten equal updates differ by as much."""


class HostLoad(NamedTuple):
    """Sums over readings: an addition makes another one."""

    n: int = 0
    cores_sum: float = 0.0
    free_sum: float = 0.0

    def plus(self, sample: HostSample) -> HostLoad:
        """With one more reading; the same where it does not know."""
        if sample.cores is None or sample.free_cores is None:
            return self
        return HostLoad(self.n + 1, self.cores_sum + sample.cores, self.free_sum + sample.free_cores)

    @classmethod
    def over(cls, samples: Iterable[HostSample]) -> HostLoad:
        """Of these readings."""
        load = cls()
        for sample in samples:
            load = load.plus(sample)
        return load

    @property
    def cores(self) -> float | None:
        """That this process may use, on average."""
        return self.cores_sum / self.n if self.n else None

    @property
    def free(self) -> float | None:
        """Of them, on average: not taken by others."""
        return self.free_sum / self.n if self.n else None


def busy_share(cores: float | None, free: float | None) -> float | None:
    """What others took of the cores, 0 to 1; None where it is unknown."""
    return max(0.0, 1 - free / cores) if cores and free is not None else None


def is_busy(cores: float | None, free: float | None, device: DeviceInfo | None, config: RunConfig) -> bool:
    """Whether others took so much that a run was slower for it. False where it is unknown.

    A training on the CPU uses all cores. One on a GPU needs one to give it work, and one for each data-loader worker.
    """
    share = busy_share(cores, free)
    if share is None or free is None or share < BUSY_SHARE:
        return False
    return device is None or device.kind != "cuda" or free < 1 + config.dataloader_num_workers


def taken(cores: float, free: float, *, past: bool = False) -> str:
    """As people read it: `other programs take 1.9 of 2 cores`."""
    return f"other programs {'took' if past else 'take'} {cores - free:.1f} of {cores:g} cores"
