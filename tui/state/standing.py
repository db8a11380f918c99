"""Which of several ranks stands still, by what each says of itself once a second. Pure: no clock.

A collective that times out blames the ranks that waited in it; here the one is named that has not come to it.
"""

from __future__ import annotations

from engine.contract.events import RankBeat
from engine.contract.records import Phase

STANDS_S, STANDS_FACTOR, FIRST_S = 10.0, 5.0, 60.0
"""A rank stands still when it has been in one phase for so long, and for so many times what a micro-step usually
takes; for `FIRST_S` while nobody knows that: kernels are compiled then."""
SILENT_S = 6.0
"""A rank that has said nothing for so long, while others go on telling, has been stopped, or its machine is gone."""
_MAY_TAKE_LONG = (Phase.LOAD, Phase.EVALUATE)


class Standing:
    """Takes the beats of one run's ranks."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._beats: dict[int, RankBeat] = {}
        self._heard: dict[int, float] = {}
        """When, by the caller's clock."""

    def see(self, beat: RankBeat, now: float) -> None:
        """Take a beat."""
        self._beats[beat.rank], self._heard[beat.rank] = beat, now

    def slept(self, seconds: float) -> None:
        """The process was stopped for so long, and heard nothing."""
        self._heard = {rank: at + seconds for rank, at in self._heard.items()}

    def look(self, now: float, usual_s: float | None) -> str:
        """Who stands still, in a sentence; empty while nobody does. `usual_s`: what a micro-step usually takes."""
        return self._silent(now) or self._stands(now, usual_s)

    def _silent(self, now: float) -> str:
        newest = max(self._heard.values(), default=now)
        quiet = [rank for rank, at in self._heard.items() if newest - at > SILENT_S]
        if not quiet or now - newest > SILENT_S:
            return ""
        rank = min(quiet, key=lambda each: self._heard[each])
        beat = self._beats[rank]
        where = f"; it was in {beat.phase.noun} of update {beat.update:,}" if beat.update else ""
        return f"rank {rank} has said nothing for {now - self._heard[rank]:.0f} s{where}"

    def _stands(self, now: float, usual_s: float | None) -> str:
        limit = FIRST_S if usual_s is None else max(STANDS_S, STANDS_FACTOR * usual_s)
        since = {rank: beat.since_s + now - self._heard[rank] for rank, beat in self._beats.items()}
        if len(since) < self._n or any(
            beat.phase in _MAY_TAKE_LONG or not beat.update or since[rank] < limit for rank, beat in self._beats.items()
        ):
            return ""  # one that goes on, or does what may take long, will bring the others on
        # the one that is behind, of those the one that came to a stop first
        rank = min(self._beats, key=lambda each: (self._beats[each].update, -since[each]))
        beat = self._beats[rank]
        at = f"in {beat.phase.noun} of update {beat.update:,} for {since[rank]:.0f} s"
        places = {(each.phase, each.update) for each in self._beats.values()}
        if len(places) == 1:
            return f"all ranks have been {at}"
        others = "the other waits" if self._n == 2 else "the others wait"
        return f"rank {rank} has been {at}; {others}"
