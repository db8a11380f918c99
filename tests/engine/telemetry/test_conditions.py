"""What a run met, added up from readings: shares of the time, peaks, and energy with and without a counter."""

from __future__ import annotations

import pytest

from engine.contract.cards import Card, CardProcess
from engine.telemetry.conditions import EnergyMeter, RunConditions

GIB = 2**30


def energy(*readings: tuple[float, float | None, float | None]) -> tuple[float | None, str | None]:
    meter = EnergyMeter()
    for reading in readings:
        meter.add(*reading)
    return meter.read()


def test_the_cards_own_counter_tells_the_energy() -> None:
    assert energy((0, 1000, 70), (1, 1070, 300), (2, 1400, 300)) == (400, "counter")
    assert energy((0, 1000, None), (60, 1600, None)) == (600, "counter")  # however long nothing was read


def test_without_a_counter_power_is_added_up() -> None:
    assert energy((0, None, 100), (1, None, 200), (2, None, 200)) == (350, "power")
    assert energy((0, None, 100), (1, None, None), (2, None, 300)) == (400, "power")


@pytest.mark.parametrize("after", [0.0, 30.0])
def test_a_counter_that_begins_anew_is_replaced_by_power_there(after: float) -> None:
    """As when the driver is loaded again, or a 32-bit one is full."""
    assert energy((0, 4e6, 100), (1, 4e6 + 90, 100), (2, after, 100), (3, after + 90, 100)) == (280, "power")


def test_a_counter_that_stands_still_is_none() -> None:
    assert energy((0, 0, 100), (1, 0, 100)) == (100, "power")
    assert energy((0, 0, None), (1, 0, None)) == (None, None)


def test_a_time_of_which_nothing_is_known_leaves_the_whole_unknown() -> None:
    assert energy((0, None, 100), (1, None, 100), (30, None, 100)) == (None, None)
    assert energy((0, None, None), (1, None, None), (2, None, 100)) == (None, None)
    assert energy((0, 1000, 100), (1, 1100, 100), (30, None, 100)) == (None, None)
    assert energy((0, 1000, 100)) == (None, None)
    assert energy() == (None, None)


def process(pid: int, used: int | None, sm: float | None = None) -> CardProcess:
    return CardProcess(pid=pid, kind="compute", memory_used=used, sm=sm, user="anna", command="python " + "x" * 900)


def test_neighbours_are_told_with_their_peak_and_for_how_long_they_were_there() -> None:
    run = RunConditions()
    idle = Card(index=0, throttle=())
    run.add(0, (idle,), (), trains=False)
    run.add(4, (idle,), (), trains=True)
    run.add(6, (idle,), (process(1, 2 * GIB, 80), process(2, None)), trains=True)
    run.add(8, (idle,), (process(1, 3 * GIB, 40), process(3, 4 * GIB)), trains=True)
    run.add(10, (idle,), (), trains=False)
    met = run.conditions()
    assert met is not None
    assert met.neighbours is not None
    assert [(n.pid, n.peak_memory, n.sm, n.share) for n in met.neighbours] == [
        (3, 4 * GIB, None, 0.2),
        (1, 3 * GIB, 60, 0.4),
        (2, None, None, 0.2),
    ]
    assert (met.shared, met.peak_others, met.contended) == (0.4, 7 * GIB, True)
    assert {len(n.command or "") for n in met.neighbours} == {200}


def test_one_that_was_gone_before_the_next_reading_still_counts() -> None:
    run = RunConditions()
    run.add(0, (None,), (process(1, GIB),), trains=False)
    run.add(9, (None,), (), trains=False)
    met = run.conditions()
    assert met is not None
    assert met.contended
    assert met.shared == 0.0


def test_clocks_and_energy_count_while_it_trains() -> None:
    run = RunConditions()

    def card(counter: float, *reasons: str) -> Card:
        return Card(index=0, energy=counter, power=50.0, throttle=reasons)

    run.add(0, (card(0, "too hot"),), (), trains=False)  # it cools down from the run before
    run.add(8, (card(100, "too hot"),), (), trains=True)
    run.add(9, (card(200, "too hot", "power cap"),), (), trains=True)
    run.add(10, (Card(index=0, lost=True),), None, trains=True)
    run.add(11, (card(400, "power cap"),), (), trains=True)
    run.add(12, (card(500),), (), trains=False)
    run.add(20, (card(900, "hardware slowdown"),), (), trains=False)
    met = run.conditions()
    assert met is not None
    assert run.energy() == (400, "counter")
    assert met.slowdowns is not None
    assert [(each.reason, each.share) for each in met.slowdowns] == [
        ("power cap", pytest.approx(2 / 3)),
        ("too hot", pytest.approx(1 / 3)),
    ]
    assert [each.reason for each in met.throttled] == ["too hot"]  # at its power limit a busy card always is


def test_what_warmed_up_counts_for_nothing() -> None:
    run = RunConditions()
    run.add(0, (Card(index=0, energy=0, throttle=("too hot",)),), (), trains=True)
    run.add(2, (Card(index=0, energy=900, throttle=("too hot",)),), (), trains=True)
    run.forget_work()
    run.add(3, (Card(index=0, energy=1000, throttle=()),), (), trains=True)
    run.add(5, (Card(index=0, energy=1070, throttle=()),), (), trains=False)
    met = run.conditions()
    assert met is not None
    assert run.energy() == (70, "counter")
    assert met.slowdowns == ()


def test_what_cannot_be_seen_is_unknown() -> None:
    run = RunConditions()
    assert run.conditions() is None
    run.add(0, (Card(index=0),), None, trains=True)
    run.add(1, (Card(index=0),), None, trains=False)
    assert run.conditions() is None
    assert run.energy() == (None, None)
    run.add(2, (Card(index=0),), (), trains=False)
    met = run.conditions()
    assert met is not None
    assert (met.neighbours, met.shared, met.slowdowns) == ((), 0.0, None)


def test_of_several_cards_energy_is_the_sum_and_one_that_is_slow_slows_all() -> None:
    run = RunConditions()

    def card(counter: float | None, *reasons: str) -> Card:
        return Card(index=0, energy=counter, power=50.0, throttle=reasons)

    run.add(0, (card(1000), card(70)), (), trains=True)
    run.add(1, (card(1100), card(170, "too hot")), (), trains=True)
    run.add(2, (card(1200, "too hot"), card(370, "too hot")), (), trains=True)
    run.add(4, (card(1300), card(470)), (), trains=False)
    assert run.energy() == (300 + 400, "counter")
    met = run.conditions()
    assert met is not None
    assert [(each.reason, each.share) for each in met.slowdowns or ()] == [("too hot", 0.5)]
    run = RunConditions()
    run.add(0, (card(0), card(None)), (), trains=True)
    run.add(2, (card(90), card(None)), (), trains=False)
    assert run.energy() == (90 + 100, "power")
    run = RunConditions()
    run.add(0, (card(0), None), (), trains=True)
    run.add(2, (card(90), None), (), trains=False)
    assert run.energy() == (None, None)
