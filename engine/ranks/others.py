"""What a rank hears of the others, and tells them: that it is there, and who ended first, and how."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from engine.contract.events import RankBeat
from engine.contract.records import DeviceInfo, Memory, Outcome, Phase, RankInfo
from engine.ranks.end import End
from engine.ranks.meeting import Gone, Meeting
from engine.ranks.wire import BEAT_S, Beat

LOST_S = 60.0
"""Without a beat a rank is gone, or its machine is."""
_CARD, _FIRST, _BEAT, _OVER, _LET_GO = "card", "first", "beat", "over", "let go"


class Others:
    """For one thread, as its meeting is."""

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._rank = meeting.here.rank
        self._heard: dict[int, tuple[int, float]] = {}
        """Of each other rank: its last beat's number, and when it was heard, by this machine's clock."""
        self._n_beats, self._beat_at = 0, 0.0

    def come(self, info: RankInfo) -> None:
        """Tell that this rank is there, with its card."""
        self._meeting.leave_word(f"{_CARD}/{self._rank}", asdict(info))

    def there(self) -> dict[int, RankInfo]:
        """Who is, this one too."""
        return {rank: _from_word(word) for rank, word in self._meeting.words(_CARD).items()}

    def beat(self, last: Beat | None) -> list[Beat]:
        """Once a second: tell where this rank stands, as it told `last`, and hear where all others do."""
        now = time.monotonic()
        if now - self._beat_at < BEAT_S:
            return []
        self._beat_at, self._n_beats = now, self._n_beats + 1
        self._meeting.leave_word(f"{_BEAT}/{self._rank}", {"n": self._n_beats, **_beat_word(last)})
        return [*self._hear(), *([] if last is None else [last])]

    def lost(self, after_s: float = LOST_S) -> End | None:
        """A rank that has not been heard of for so long, by this machine's clock."""
        self._hear()
        now = time.monotonic()
        silent = [rank for rank, (_, at) in sorted(self._heard.items()) if now - at > after_s]
        if not silent:
            return None
        found = self.there().get(silent[0])
        return End(
            rank=silent[0],
            who=f"rank {silent[0]}" if found is None else who(found),
            outcome=Outcome.FAILED,
            message="it answers no more: killed, perhaps for want of host memory, or its machine is gone.",
        )

    def end(self, end: End) -> End:
        """Leave word of an end that others are to follow; whose word was the first."""
        return End.from_word(self._meeting.leave_first_word(_FIRST, end.to_word()))

    def first(self) -> End | None:
        """Who ended first; None while none has, or where all came to the run's end."""
        word = self._meeting.word(_FIRST)
        return None if word is None else End.from_word(word)

    def leave(self, wait_s: float, gone: int | None = None) -> None:
        """Tell that this rank is done, and wait for the others to be, but for one that is gone."""
        self._meeting.leave_word(f"{_OVER}/{self._rank}", {})
        until = time.monotonic() + wait_s
        awaited = set(range(self._meeting.here.world_size)) - {gone}
        while awaited - self._meeting.words(_OVER).keys() and time.monotonic() < until:
            time.sleep(0.05)

    def let_go(self) -> None:
        """Tell the others, from rank 0, that the run is written and all is said: they may end."""
        self._meeting.leave_word(_LET_GO, {})

    def are_let_go(self) -> bool:
        """Whether rank 0 has told so, or is gone."""
        try:
            return self._meeting.word(_LET_GO) is not None
        except Gone:
            return True

    def _hear(self) -> list[Beat]:
        new = []
        for rank, word in self._meeting.words(_BEAT).items():
            before = self._heard.get(rank)
            if rank != self._rank and (before is None or before[0] != word["n"]):
                self._heard[rank] = word["n"], time.monotonic()
                if "phase" in word:
                    new.append(_beat(rank, word))
        return new


def who(info: RankInfo) -> str:
    """`rank 1 (node2, Tesla P4)`."""
    return f"rank {info.rank} ({info.host}, {info.device.name})"


def _beat_word(last: Beat | None) -> dict[str, Any]:
    if last is None:
        return {}
    stands = {"phase": last.beat.phase.value, "update": last.beat.update, "since_s": last.beat.since_s}
    return {**stands, "run_id": last.beat.run_id, "doing": last.doing, "waits": last.waits, "layer": last.layer}


def _beat(rank: int, word: dict[str, Any]) -> Beat:
    beat = RankBeat(
        run_id=word["run_id"],
        rank=rank,
        phase=Phase(word["phase"]),
        update=word["update"],
        since_s=word["since_s"],
    )
    doing, waits, layer = word["doing"], word["waits"], word["layer"]
    return Beat(beat=beat, doing=doing, waits=waits, layer=layer, place=None, memory=Memory())


def _from_word(word: dict[str, Any]) -> RankInfo:
    return RankInfo(**{**word, "device": DeviceInfo(**word["device"])})
