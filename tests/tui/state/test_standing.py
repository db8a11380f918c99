"""Which rank is said to stand still, and when nobody is."""

from __future__ import annotations

import pytest

from engine.contract.events import Event
from engine.contract.records import Phase
from tests.tui.fake_ranks import beat, begun, update_of
from tui.state.alerts import Alerts
from tui.state.standing import FIRST_S, Standing


def standing(*beats: tuple[int, int, float, Phase], at: float = 100.0) -> Standing:
    """(rank, update, since, phase) of every rank, heard at the same time."""
    ranks = Standing(len(beats))
    for rank, update, since_s, phase in beats:
        ranks.see(beat(rank, update, since_s, phase), at)
    return ranks


def test_the_rank_that_is_behind_is_named() -> None:
    ranks = standing((0, 41, 11.8, Phase.BACKWARD), (1, 41, 12.0, Phase.FORWARD))
    assert ranks.look(100.0, 0.5) == "rank 1 has been in forward of update 41 for 12 s; the other waits"


def test_the_rank_in_an_earlier_update_is_behind_whoever_stopped_first() -> None:
    ranks = standing((0, 42, 12.5, Phase.FORWARD), (1, 42, 12.4, Phase.FORWARD), (2, 41, 12.0, Phase.OPTIMIZER))
    assert ranks.look(100.0, 0.5) == "rank 2 has been in optimizer of update 41 for 12 s; the others wait"


def test_where_all_stand_at_one_place_nobody_is_blamed() -> None:
    ranks = standing((0, 41, 20.0, Phase.BACKWARD), (1, 41, 20.2, Phase.BACKWARD))
    assert ranks.look(100.0, 0.5) == "all ranks have been in backward of update 41 for 20 s"


@pytest.mark.parametrize(
    ("usual_s", "since_s"), [(0.5, 9.0), (4.0, 19.0), (None, FIRST_S - 1)], ids=["short", "long steps", "first steps"]
)
def test_what_may_still_come_is_not_told(usual_s: float | None, since_s: float) -> None:
    ranks = standing((0, 41, since_s, Phase.FORWARD), (1, 41, since_s, Phase.BACKWARD))
    assert ranks.look(100.0, usual_s) == ""


def test_time_goes_on_between_two_beats() -> None:
    ranks = standing((0, 41, 9.5, Phase.FORWARD), (1, 41, 9.4, Phase.BACKWARD))
    assert ranks.look(100.9, 0.5) == "rank 0 has been in forward of update 41 for 10 s; the other waits"


@pytest.mark.parametrize("phase", [Phase.LOAD, Phase.EVALUATE])
def test_loading_and_evaluating_may_take_long(phase: Phase) -> None:
    ranks = standing((0, 41, 50.0, phase), (1, 41, 50.0, Phase.BACKWARD))
    assert ranks.look(100.0, 0.5) == ""


def test_while_one_goes_on_nobody_stands() -> None:
    ranks = standing((0, 41, 12.0, Phase.FORWARD), (1, 41, 0.3, Phase.BACKWARD))
    assert ranks.look(100.0, 0.5) == ""


def test_a_rank_that_says_nothing_is_named() -> None:
    ranks = standing((0, 41, 0.3, Phase.FORWARD), (1, 41, 0.3, Phase.OPTIMIZER))
    ranks.see(beat(0, 42, 1.0, Phase.BACKWARD), 107.0)
    assert ranks.look(107.0, 0.5) == "rank 1 has said nothing for 7 s; it was in optimizer of update 41"


def test_a_screen_that_hears_nobody_blames_nobody() -> None:
    ranks = standing((0, 41, 0.3, Phase.FORWARD), (1, 41, 0.3, Phase.OPTIMIZER))
    assert ranks.look(108.0, 0.5) == ""


def test_a_machine_that_slept_blames_nobody() -> None:
    ranks = standing((0, 41, 0.3, Phase.FORWARD), (1, 41, 0.3, Phase.OPTIMIZER))
    ranks.slept(3600.0)
    assert ranks.look(3700.0, 0.5) == ""


def alerts_of(n: int) -> Alerts:
    """A run of which ten updates are done, one a second."""
    alerts = Alerts()
    events: list[Event] = [*begun(n), *(update_of(n, number) for number in range(1, 11))]
    for number, event in enumerate(events):
        alerts.see(event, float(number))
    return alerts


def test_it_is_told_once_with_what_to_do_and_then_that_it_goes_on() -> None:
    alerts = alerts_of(2)
    said = []
    for second in range(14, 60):
        alerts.see(beat(0, 11, second - 13.0, Phase.BACKWARD), float(second))
        alerts.see(beat(1, 11, second - 12.5, Phase.FORWARD), float(second))
        said.append(alerts.look(float(second)))
    told = [alert for alert in said if alert is not None]
    assert [alert.text for alert in told] == [
        "Run 1: rank 1 has been in forward of update 11 for 10 s; the other waits. "
        "See its log (] and l), or stop the run (s)."
    ]
    assert alerts.stalled_s is not None
    after = alerts.see(update_of(2, 11), 60.0)
    assert after is not None
    assert after.text.startswith("Run 1 goes on after 4")
    assert alerts.stalled_s is None
