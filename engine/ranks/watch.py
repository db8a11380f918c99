"""Who of the ranks stands still, by their heartbeats: a collective's own timeout would blame the one that waited."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.contract.records import DeviceInfo
from engine.ranks import verdicts
from engine.ranks.verdicts import Stand, Verdict
from engine.ranks.wire import Beat

STANDING_S = 60.0
"""A rank that trains may stay so long where it is, and `PACE` times as long as any stayed before."""
PACE = 10.0
STARTING = 5.0
"""In its first update so many times as long: data loaders start, kernels are chosen, files are read."""
STOPPED_S = 10.0
"""So long a signal may keep a rank from running: a person who does it by mistake sees that nothing goes on."""
SILENT_S = 10.0
"""A rank that runs tells where it is once a second, but for a host that is very busy."""
_GAP_S = 2.0
"""Between two looks: this process itself was stopped, or the machine slept, so that nobody could be heard."""


class Ranks(Protocol):
    """What is asked of the processes."""

    def is_stopped(self, rank: int) -> bool:
        """Whether a signal keeps a rank's process from running."""


@dataclass(kw_only=True)
class Watch:
    """Hears of heartbeats, and judges. `standing_s` and `stopped_s` as above."""

    standing_s: float = STANDING_S
    stopped_s: float = STOPPED_S
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._beats: dict[int, Beat] = {}
        self._heard: dict[int, float] = {}
        self._longest = 0.0
        self._first = 0
        self._looked = self.clock()

    def begin(self, first_update: int) -> None:
        """The training begins, with this update."""
        self._first = first_update

    def heard(self, rank: int) -> None:
        """The rank has told something."""
        self._heard[rank] = self.clock()

    def beat(self, told: Beat) -> None:
        """The rank has told where it stands."""
        before = self._beats.get(told.beat.rank)
        if before is not None and told.beat.since_s < before.beat.since_s:
            self._longest = max(self._longest, before.beat.since_s)
        self._beats[told.beat.rank] = told

    def verdict(self, running: Sequence[int], ranks: Ranks, cards: Sequence[DeviceInfo]) -> Verdict | None:
        """An end that is due to a rank that stands still; None while all go on."""
        now = self.clock()
        if now - self._looked > _GAP_S:
            self._heard = dict.fromkeys(self._heard, now)
        self._looked = now
        for rank in running:
            silent_s = now - self._heard.setdefault(rank, now)
            if silent_s >= self.stopped_s and ranks.is_stopped(rank):
                return verdicts.of_silence(rank, silent_s, True, self._stand(rank), cards)
            if silent_s >= max(self._limit, SILENT_S) and self._trains(rank):
                return verdicts.of_silence(rank, silent_s, False, self._stand(rank), cards)
        beats = {rank: self._beats[rank] for rank in running if rank in self._beats}
        stands = self._standing(beats)
        return verdicts.of_standing(stands, cards) if stands else None

    @property
    def _limit(self) -> float:
        updates = [told.beat.update for told in self._beats.values()]
        starts = bool(updates) and min(updates) <= self._first
        return max(self.standing_s * (STARTING if starts else 1.0), PACE * self._longest)

    def _standing(self, beats: Mapping[int, Beat]) -> dict[int, Stand]:
        """The ranks, where one has stood for too long and none does what takes its time."""
        if any(beat.doing or not beat.beat.update for beat in beats.values()):
            return {}
        if not any(beat.beat.since_s >= self._limit for beat in beats.values()):
            return {}
        return {rank: stand for rank in beats if (stand := self._stand(rank)) is not None}

    def _trains(self, rank: int) -> bool:
        beat = self._beats.get(rank)
        return beat is not None and beat.beat.update > 0

    def _stand(self, rank: int) -> Stand | None:
        told = self._beats.get(rank)
        if told is None:
            return None
        return Stand(beat=told.beat, layer=told.layer, waits=told.waits)
