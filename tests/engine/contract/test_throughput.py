"""Steady figures: warm-up left out, median and spread."""

from __future__ import annotations

import pytest

from engine.contract.throughput import steady, warmup_updates


@pytest.mark.parametrize(("planned", "warmup"), [(1, 1), (10, 1), (30, 3), (64, 5), (10_000, 5)])
def test_warmup_is_a_tenth_of_the_run_between_one_and_five(planned: int, warmup: int) -> None:
    assert warmup_updates(planned) == warmup


def test_too_few_updates_say_nothing() -> None:
    assert steady([]) is None
    assert steady([8.0, 8.1]) is None


def test_an_outlier_moves_neither_median_nor_spread_much() -> None:
    rates = [10.0] * 49 + [0.1]
    found = steady(rates)
    assert found is not None
    assert found.samples_per_s == 10.0
    assert found.spread == 0.0


def test_spread_is_half_of_the_middle_68_percent() -> None:
    found = steady([float(i) for i in range(101)])
    assert found is not None
    assert found.samples_per_s == 50.0
    assert found.spread == pytest.approx(34.0)
