"""Steady figures: warm-up left out, median and spread."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from statistics import median, quantiles

import pytest

from engine.contract import throughput
from engine.contract.distribution import Distribution
from engine.contract.throughput import Steady, warmup_updates


def steady(values: Iterable[float]) -> Steady | None:
    rates = Distribution()
    for value in values:
        rates.add(value)
    return throughput.steady(rates)


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


@pytest.mark.parametrize("n", [3, 4, 100, 2049, 50_000])
@pytest.mark.parametrize("order", ["random", "rising", "falling", "few values"])
def test_percentiles_are_exact_however_long_the_run(n: int, order: str) -> None:
    numbers = random.Random(n)
    values = [numbers.lognormvariate(2, 1) for _ in range(n)]
    if order == "few values":
        values = [float(int(value) % 5) for value in values]
    elif order != "random":
        values.sort(reverse=order == "falling")
    found, wanted = steady(values), quantiles(values, n=100, method="inclusive")
    assert found is not None
    assert math.isclose(found.samples_per_s, median(values), rel_tol=1e-12)
    assert math.isclose(found.spread, (wanted[83] - wanted[15]) / 2, rel_tol=1e-9, abs_tol=1e-12)


def test_a_copy_goes_its_own_way() -> None:
    rates = Distribution()
    for value in range(5000):
        rates.add(float(value))
    other = rates.copy()
    other.add(1e9)
    assert (len(rates), len(other)) == (5000, 5001)
    assert throughput.steady(rates) != throughput.steady(other)
