"""Whose doing an end was, and in which words."""

from __future__ import annotations

from dataclasses import replace

from engine.contract.config import RunConfig
from engine.contract.events import RankBeat
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord
from engine.ranks.verdicts import Stand, named, of_death, of_ends, of_silence, of_standing

P4 = DeviceInfo(name="Tesla P4", kind="virtual")
T4 = DeviceInfo(name="Tesla T4", kind="virtual")
CARDS = [P4, P4, T4]


def stand(rank: int, phase: Phase, update: int, since_s: float, *, layer: int = 0, waits: bool = False) -> Stand:
    beat = RankBeat(run_id=1, rank=rank, phase=phase, update=update, since_s=since_s)
    return Stand(beat=beat, layer=layer, waits=waits)


def ended(outcome: Outcome, message: str, phase: Phase = Phase.FORWARD) -> RunRecord:
    return RunRecord(run_id=1, config=RunConfig(), outcome=outcome, message=message, failed_phase=phase)


def test_ranks_are_named_with_their_cards() -> None:
    assert named([1], CARDS) == "rank 1 (Tesla P4)"
    assert named([0, 2], CARDS) == "ranks 0 and 2 (Tesla P4 or Tesla T4)"
    assert named([0, 1, 2], CARDS) == "all 3 ranks (Tesla P4 or Tesla T4)"
    assert named([0, 1, 2], None) == "ranks 0, 1 and 2"


def test_an_out_of_memory_is_the_cause_of_what_failed_beside_it() -> None:
    ends = {0: ended(Outcome.FAILED, "Connection closed"), 2: ended(Outcome.OUT_OF_MEMORY, "Out of memory in forward")}
    verdict = of_ends(ends, CARDS)
    assert (verdict.outcome, verdict.rank) == (Outcome.OUT_OF_MEMORY, 2)
    assert verdict.message == "Rank 2 (Tesla T4): Out of memory in forward"


def test_what_all_say_alike_is_no_ones() -> None:
    verdict = of_ends({rank: ended(Outcome.FAILED, "The loss is nan.") for rank in range(3)}, CARDS)
    assert (verdict.rank, verdict.message) == (None, "The loss is nan.")


def test_several_that_ran_out_of_memory_are_all_named() -> None:
    ends = {rank: ended(Outcome.OUT_OF_MEMORY, f"Out of memory: {rank}") for rank in (0, 1)}
    verdict = of_ends(ends, CARDS)
    assert (verdict.rank, verdict.message) == (0, "Ranks 0 and 1 (Tesla P4): Out of memory: 0")


def test_where_all_ran_out_of_memory_it_is_due_to_no_single_one() -> None:
    ends = {rank: ended(Outcome.OUT_OF_MEMORY, f"Out of memory: {rank}") for rank in range(3)}
    verdict = of_ends(ends, CARDS)
    assert (verdict.rank, verdict.message) == (None, "All 3 ranks (Tesla P4 or Tesla T4): Out of memory: 0")
    del ends[2]
    assert of_ends(ends, CARDS[:2]) == replace(verdict, message="Both ranks (Tesla P4): Out of memory: 0")


def test_a_death_says_how_and_when() -> None:
    assert of_death(1, -9, 41, CARDS).message == (
        "Rank 1 (Tesla P4) was killed by SIGKILL, perhaps for want of host memory in update 41: all were ended. Its "
        "log file has what it printed."
    )
    assert "was killed by SIGSEGV in update 3:" in of_death(0, -11, 3, CARDS).message
    assert "ended by itself with exit code 1 while it loaded:" in of_death(0, 1, 0, CARDS).message
    assert "Rank 0 (Tesla P4) ended by itself in update 2:" in of_death(0, None, 2, CARDS).message


def test_who_waits_is_not_to_blame() -> None:
    stands = {0: stand(0, Phase.BACKWARD, 41, 31.0, waits=True), 1: stand(1, Phase.FORWARD, 41, 30.0)}
    verdict = of_standing(stands, CARDS)
    assert (verdict.rank, verdict.phase) == (1, Phase.FORWARD)
    assert verdict.message == (
        "Rank 1 (Tesla P4) stood in forward of update 41 for 30 s; rank 0 waited for it. All were ended; its log file "
        "has what it printed."
    )


def test_of_those_that_compute_who_is_furthest_behind_is_to_blame() -> None:
    behind = {
        0: stand(0, Phase.FORWARD, 42, 60.0),
        1: stand(1, Phase.EVALUATE, 42, 50.0),  # after update 41, so before the forward of 42
        2: stand(2, Phase.BACKWARD, 42, 60.0, layer=3),
    }
    verdict = of_standing(behind, CARDS)
    assert verdict.rank == 1
    assert "stood in evaluation after update 41 for 50 s; ranks 0 and 2 waited" in verdict.message
    layers = {0: stand(0, Phase.BACKWARD, 2, 60.0, layer=3), 1: stand(1, Phase.BACKWARD, 2, 60.0, layer=7)}
    assert of_standing(layers, CARDS).rank == 1  # backward counts down
    equals = {0: stand(0, Phase.DATA, 2, 60.0), 1: stand(1, Phase.DATA, 2, 61.0)}
    assert of_standing(equals, CARDS).rank == 1  # it stood first


def test_who_goes_on_has_not_waited() -> None:
    stands = {0: stand(0, Phase.FORWARD, 2, 1.0), 1: stand(1, Phase.DATA, 2, 60.0)}
    assert "waited" not in of_standing(stands, CARDS).message


def test_silence() -> None:
    stopped = of_silence(1, 10.4, True, stand(1, Phase.FORWARD, 3, 1.0), CARDS)
    assert stopped.message == (
        "Rank 1 (Tesla P4) was stopped by a signal (SIGSTOP) in forward of update 3, for 10 s: all were ended."
    )
    assert "answered no more while it loaded, for 60 s" in of_silence(0, 60, False, None, CARDS).message
