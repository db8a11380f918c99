"""The ranks of a run on several GPUs, as far as its events have told. Pure: no Textual, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.contract.events import RankBeat, RanksStarted, Sampled, UpdateDone
from engine.contract.records import GpuSample, Memory, RankInfo, RankShare, Shares
from engine.contract.run_figures import larger, with_peaks
from engine.gpus.units import MIB, to_mib
from tui.drawing.plot import Columns
from tui.state.foreign import clean_rank

STEADY_ORDER = 0.01
"""Share of a card by which a rank must be fuller than the one before it to change places: rows are not to jump."""
STRAGGLES, ENOUGH_UPDATES = 0.05, 5
"""A rank is the one that the others wait for where each of them waits for so much more of an update than it does, over
at least so many updates after warm-up."""


@dataclass(slots=True)
class RankView:
    """One of them: what it holds, and what it does with its time."""

    rank: int
    info: RankInfo | None = None
    """None until its process is there."""
    memory: Memory = field(default_factory=Memory)
    """The last reading, with the peaks so far."""
    shares: Shares = field(default_factory=Shares)
    """Seconds over `timed_updates`."""
    timed_updates: int = 0
    """Updates after warm-up; those of the warm-up until there are any."""
    gpu: GpuSample | None = None
    """The last reading of its card."""
    beat: RankBeat | None = None
    """Where it stood when it was last heard of."""
    used_mib: Columns = field(default_factory=Columns)
    allocated_mib: Columns = field(default_factory=Columns)
    utilization: Columns = field(default_factory=Columns)

    @property
    def wait_share(self) -> float | None:
        """Of its updates' time, what it waited for others (0 to 1); None before the first."""
        whole = seconds_of(self.shares)
        return self.shares.waiting / whole if whole else None

    def remember(self, memory: Memory, progress: float) -> None:
        """Take a reading."""
        self.memory = with_peaks(self.memory, merged(self.memory, memory))
        self.used_mib.append(progress, to_mib(memory.used))
        self.allocated_mib.append(progress, to_mib(memory.allocated))


class Ranks:
    """All ranks of a run; there are none where it has one GPU."""

    def __init__(self, n: int) -> None:
        self.each = [RankView(rank) for rank in range(n)] if n > 1 else []
        self.order = list(range(len(self.each)))
        """Their numbers, the fullest first, as they are listed."""
        self._is_steady = False
        """True once the warm-up is over."""

    def __len__(self) -> int:
        return len(self.each)

    @property
    def fullest(self) -> RankView | None:
        """The one that is nearest to its card's limit, as far as is known."""
        return self.each[self.order[0]] if self.order else None

    def chosen(self, rank: int | None) -> RankView | None:
        """The one that a person chose to look at; None where that is all of them."""
        return self.each[rank] if rank is not None and rank < len(self.each) else None

    @property
    def in_order(self) -> list[RankView]:
        """The fullest first."""
        return [self.each[rank] for rank in self.order]

    @property
    def straggler(self) -> RankView | None:
        """The one that all others wait for; None where there is none, or it is not clear which."""
        waits = sorted(
            ((rank.wait_share, rank.rank) for rank in self.each if rank.wait_share is not None), key=lambda pair: pair
        )
        if not self._is_steady or len(waits) < max(2, len(self.each)):
            return None
        if min(rank.timed_updates for rank in self.each) < ENOUGH_UPDATES:
            return None
        (least, which), (following, _) = waits[:2]
        return self.each[which] if (following or 0.0) - (least or 0.0) >= STRAGGLES else None

    def started(self, event: RanksStarted) -> None:
        """Take which process is on which card."""
        for info in event.ranks:
            rank = self._of(info.rank)
            rank.info = clean_rank(info)
            if rank.memory.total is None:
                rank.memory = replace(rank.memory, total=info.device.memory_total)

    def updated(self, event: UpdateDone, progress: float, *, anew: bool) -> None:
        """Take what each did in an update; `anew` where it is the first that counts."""
        self._is_steady |= anew
        for share in event.ranks:
            rank = self._of(share.rank)
            _time(rank, share, anew=anew)
            rank.remember(share.memory, progress)
        self._arrange()

    def sampled(self, event: Sampled, progress: float) -> None:
        """Take the readings of the cards, in the order of the ranks."""
        for rank, gpu in zip(self.each, event.gpus, strict=False):
            rank.gpu = gpu
            rank.utilization.append(progress, gpu.utilization if gpu is not None else None)
            if gpu is not None and gpu.memory_used is not None:
                total = gpu.memory_total if gpu.memory_total is not None else rank.memory.total
                rank.memory = replace(rank.memory, used=gpu.memory_used, total=total)

    def beat(self, event: RankBeat) -> None:
        """Take where a rank stands."""
        self._of(event.rank).beat = event

    def finished(self, peaks: Sequence[int | None]) -> None:
        """Take each rank's peak at the run's end: one that dies before an update has told of none."""
        for rank, peak in enumerate(peaks):
            memory = self._of(rank).memory
            self.each[rank].memory = replace(memory, peak_used=larger(memory.peak_used, peak))
        self._arrange()

    def _of(self, rank: int) -> RankView:
        while rank >= len(self.each):
            self.order.append(len(self.each))
            self.each.append(RankView(len(self.each)))
        return self.each[rank]

    def _arrange(self) -> None:
        """Move those up that are clearly fuller than the ones before them."""
        for end in range(1, len(self.order)):
            at = end
            while at and self._share(at) > self._share(at - 1) + STEADY_ORDER:
                self.order[at - 1], self.order[at] = self.order[at], self.order[at - 1]
                at -= 1

    def _share(self, at: int) -> float:
        memory = self.each[self.order[at]].memory
        return (memory.peak_used or 0) / memory.total if memory.total else 0.0


def fullest_of(peaks: Sequence[int]) -> int | None:
    """Which of several ranks needs the most; None where all need as much, to the MiB."""
    if len(peaks) < 2 or max(peaks) - min(peaks) < MIB:
        return None
    return peaks.index(max(peaks))


def _time(rank: RankView, share: RankShare, *, anew: bool) -> None:
    if anew:
        rank.shares, rank.timed_updates = Shares(), 0
    rank.shares = summed(rank.shares, share.shares)
    rank.timed_updates += 1


def summed(before: Shares, now: Shares) -> Shares:
    """Seconds of more updates."""
    return Shares(
        data=before.data + now.data,
        forward=before.forward + now.forward,
        backward=before.backward + now.backward,
        optimizer=before.optimizer + now.optimizer,
        waiting=before.waiting + now.waiting,
        other=before.other + now.other,
    )


def seconds_of(shares: Shares) -> float:
    """All of it together."""
    return shares.data + shares.forward + shares.backward + shares.optimizer + shares.waiting + shares.other


def merged(before: Memory, now: Memory) -> Memory:
    """The newer reading, with the older breakdown and total where the newer one does not say."""
    return replace(
        now,
        total=now.total if now.total is not None else before.total,
        by_category=now.by_category if now.by_category is not None else before.by_category,
    )
