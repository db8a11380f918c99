"""When ranks that stand still are judged to: with a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.contract.events import RankBeat
from engine.contract.records import DeviceInfo, Memory, Phase
from engine.ranks.verdicts import Verdict
from engine.ranks.watch import PACE, STANDING_S, STARTING, STOPPED_S, Watch
from engine.ranks.wire import Beat

CARDS = [DeviceInfo(name="Tesla P4", kind="virtual")] * 2


@dataclass
class Ranks:
    stopped: set[int] = field(default_factory=set)

    def is_stopped(self, rank: int) -> bool:
        return rank in self.stopped


class Case:
    """Two ranks, and seconds that pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ranks = Ranks()
        self.watch = Watch(clock=lambda: self.now)
        self.watch.begin(1)

    def second(self, *stands: tuple[Phase, int, float] | None, doing: str = "") -> Verdict | None:
        """A second passes, in which the ranks tell where they stand (None: nothing is told)."""
        self.now += 1
        for rank, stand in enumerate(stands):
            if stand is not None:
                phase, update, since_s = stand
                beat = RankBeat(run_id=1, rank=rank, phase=phase, update=update, since_s=since_s)
                self.watch.heard(rank)
                self.watch.beat(Beat(beat=beat, doing=doing, waits=False, layer=0, place=None, memory=Memory()))
        return self.watch.verdict([0, 1], self.ranks, CARDS)

    def until(self, limit: int, *, update: int = 5, doing: str = "") -> tuple[int, Verdict | None]:
        """Rank 1 stands in forward for up to `limit` seconds, and rank 0 waits: after how many it is over."""
        for second in range(limit):
            verdict = self.second((Phase.BACKWARD, update, second), (Phase.FORWARD, update, second), doing=doing)
            if verdict is not None:
                return second, verdict
        return limit, None


def test_a_rank_may_stand_for_a_minute() -> None:
    case = Case()
    case.second((Phase.DATA, 1, 0.0), (Phase.DATA, 1, 0.0))
    seconds, verdict = case.until(200)
    assert seconds == STANDING_S
    assert verdict is not None
    assert verdict.rank == 1


def test_the_first_update_has_more_time() -> None:
    seconds, verdict = Case().until(1000, update=1)
    assert seconds == STANDING_S * STARTING
    assert verdict is not None


def test_a_slow_run_is_measured_by_its_own_pace() -> None:
    case = Case()
    for second in range(20):
        assert case.second((Phase.FORWARD, 1, second), (Phase.FORWARD, 1, second)) is None
    seconds, verdict = case.until(1000)
    assert seconds == PACE * 19
    assert verdict is not None


def test_loading_saving_and_compiling_take_what_they_take() -> None:
    assert Case().until(1000, update=0) == (1000, None)
    case = Case()
    case.second((Phase.DATA, 1, 0.0), (Phase.DATA, 1, 0.0))
    assert case.until(1000, doing="saves") == (1000, None)


def test_a_rank_under_sigstop_is_told_also_while_it_loads() -> None:
    case = Case()
    assert case.second((Phase.LOAD, 0, 0.0), (Phase.LOAD, 0, 0.0)) is None
    case.ranks.stopped.add(1)
    for _ in range(int(STOPPED_S) - 1):
        assert case.second((Phase.LOAD, 0, 0.0), None) is None
    verdict = case.second((Phase.LOAD, 0, 0.0), None)
    assert verdict is not None
    assert verdict.message.startswith("Rank 1 (Tesla P4) was stopped by a signal (SIGSTOP) while it loaded, for 10 s")


def test_nobody_is_blamed_for_the_time_that_this_process_itself_was_stopped() -> None:
    case = Case()
    case.second((Phase.DATA, 1, 0.0), (Phase.DATA, 1, 0.0))
    case.ranks.stopped |= {0, 1}
    case.now += 1000
    assert case.second(None, None) is None
    assert case.second((Phase.DATA, 1, 0.0), (Phase.DATA, 1, 0.0)) is None
