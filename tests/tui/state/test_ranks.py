"""The ranks of a run: their order, who waits for whom, what each holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.records import GpuSample, Memory, RankShare, Shares
from engine.contract.text import counted
from tests.tui.fake_ranks import begun, config_of, held, ranks_started, sampled_of, share, update_of
from tests.tui.fake_session import MIB
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.ranks import Ranks, fullest_of
from tui.state.state import State


def told(n: int, updates: int = 10) -> State:
    """A run on `n` GPUs after so many updates."""
    state = State(editor=KnobEditor(config_of(n)))
    for event in (*begun(n), *(update_of(n, number) for number in range(1, updates + 1))):
        fold(state, event)
    return state


def with_peak(rank: int, used_mib: int) -> RankShare:
    return replace(share(rank), memory=Memory(used=used_mib * MIB, total=8000 * MIB))


def after(*peaks: tuple[int, ...]) -> Ranks:
    """Ranks after updates that used so many MiB each."""
    ranks = Ranks(len(peaks[0]))
    for number, used in enumerate(peaks, 1):
        shares = tuple(with_peak(rank, mib) for rank, mib in enumerate(used))
        ranks.updated(replace(update_of(len(used), number), ranks=shares), float(number), anew=number == 4)
    return ranks


def test_the_fullest_rank_comes_first() -> None:
    assert after((4000, 6000, 5000)).order == [1, 2, 0]


def test_ranks_that_are_about_as_full_do_not_change_places() -> None:
    # 8000 MiB: within 80 of each other they stay
    ranks = after((5000, 5000), (5000, 5070), (5140, 5070))
    assert ranks.order == [0, 1]
    assert after((5000, 5000), (5000, 5090)).order == [1, 0]


def test_a_rank_that_needed_much_once_stays_where_it_is() -> None:
    ranks = after((4000, 6000), (4000, 1000))
    assert ranks.order == [1, 0]
    assert ranks.each[1].memory.used == 1000 * MIB
    assert ranks.each[1].memory.peak_used == 6000 * MIB


def test_the_rank_that_does_not_wait_is_the_one_that_is_waited_for() -> None:
    run = told(4).run
    assert run is not None
    assert run.ranks.straggler is run.ranks.each[1]
    assert [round(rank.wait_share or 0.0, 2) for rank in run.ranks.each] == [0.16, 0.02, 0.18, 0.19]


@pytest.mark.parametrize("updates", [1, 3, 6])
def test_nobody_is_blamed_before_it_is_clear(updates: int) -> None:
    run = told(4, updates).run  # the first three are warm-up
    assert run is not None
    assert run.ranks.straggler is None


def test_nobody_is_blamed_where_two_do_not_wait() -> None:
    shares = [replace(share(rank), shares=Shares(backward=0.8, waiting=0.01 if rank < 2 else 0.2)) for rank in range(4)]
    ranks = Ranks(4)
    for number in range(1, 20):
        ranks.updated(replace(update_of(4, number), ranks=tuple(shares)), float(number), anew=number == 4)
    assert ranks.straggler is None


def test_the_warm_up_is_not_in_a_ranks_time() -> None:
    ranks = Ranks(2)
    slow, quick = Shares(forward=9.0, waiting=1.0), Shares(forward=0.75, waiting=0.25)
    for number in range(1, 6):
        each = tuple(replace(share(rank), shares=slow if number < 4 else quick) for rank in range(2))
        ranks.updated(replace(update_of(2, number), ranks=each), float(number), anew=number == 4)
    assert ranks.each[0].timed_updates == 2
    assert ranks.each[0].wait_share == pytest.approx(0.25)


def test_one_gpu_has_no_ranks() -> None:
    assert not Ranks(1)
    assert Ranks(1).fullest is None
    assert Ranks(1).straggler is None


def test_more_ranks_than_were_asked_for_are_taken() -> None:
    ranks = Ranks(1)  # all there are, where nobody has counted them
    ranks.started(ranks_started(3))
    assert len(ranks) == 3
    assert sorted(ranks.order) == [0, 1, 2]


def test_a_cards_reading_is_what_is_used_and_no_peak_of_the_run() -> None:
    ranks = Ranks(2)
    ranks.updated(update_of(2), 1.0, anew=False)
    ranks.sampled(replace(sampled_of(2), gpus=(GpuSample(memory_used=7500 * MIB), None)), 1.5)
    assert ranks.each[0].memory.used == 7500 * MIB
    assert ranks.each[0].memory.peak_used == held(0).peak_used
    assert ranks.each[1].memory.used == held(1).used
    assert ranks.each[1].gpu is None


def test_names_that_a_terminal_would_obey_are_made_harmless() -> None:
    begin = ranks_started(1)
    info = replace(begin.ranks[0], host="lab\x1b[2J", device=replace(begin.ranks[0].device, name="P4\x1b]0;x\x07"))
    ranks = Ranks(2)
    ranks.started(replace(begin, ranks=(info,)))
    taken = ranks.each[0].info
    assert taken is not None
    assert (taken.host, taken.device.name) == ("lab", "P4")


def test_the_processes_are_told_in_the_log() -> None:
    lines = [line.text for line in told(2, 0).log]
    assert "2 ranks on 2 × Tesla P4: processes 4711, 4712" in lines


def test_what_a_card_needs_by_forecast_is_kept_by_rank() -> None:
    from tests.tui.fake_ranks import forecast_of

    state = State(editor=KnobEditor(config_of(2)))
    for event in (forecast_of(2), *begun(2)):
        fold(state, event)
    assert state.expected_by_rank == (7099 * MIB, 6789 * MIB)


def test_the_chosen_rank_is_one_of_the_run_that_is_shown() -> None:
    state = told(2)
    state.view.rank = 1
    assert state.rank is not None
    assert state.rank.rank == 1
    state.view.rank = 5  # chosen in a run on eight
    assert state.rank is None


@pytest.mark.parametrize(
    ("names", "words"),
    [(["Tesla P4"], "Tesla P4"), (["Tesla P4"] * 2, "2 × Tesla P4"), (["T4", "P4", "T4"], "2 × T4, P4")],
)
def test_cards_are_counted_by_their_names(names: list[str], words: str) -> None:
    assert counted(names) == words


def test_the_fullest_by_forecast() -> None:
    assert fullest_of((5000 * MIB, 7000 * MIB)) == 1
    assert fullest_of((5000 * MIB, 5000 * MIB + 17)) is None
    assert fullest_of(()) is None


def test_a_run_on_one_gpu_waits_for_nobody() -> None:
    state = State(editor=KnobEditor(RunConfig()))
    for event in begun(1):
        fold(state, event)
    assert state.run is not None
    assert state.rank is None
