"""When a difference is noise: speed, memory, loss and accuracy, of single runs and of repeats."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compare.compare import Quantity, Verdict, compare, explain, fold, row_of
from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, RunRecord
from engine.gpus.units import MIB
from tests.engine.lecture_runs import BASE, CHECKPOINTED, CPU, P4, run


def verdicts(record: RunRecord, baseline: RunRecord) -> dict[Quantity, Verdict]:
    deltas = compare(row_of([record]), row_of([baseline])).deltas
    return {quantity: delta.verdict for quantity, delta in deltas.items()}


def verdict(quantity: Quantity, record: RunRecord, baseline: RunRecord) -> Verdict:
    return verdicts(record, baseline)[quantity]


def repeats(first_id: int, config: RunConfig, name: str, values: list[float]) -> list[RunRecord]:
    """Runs that differ in the seed and in one figure."""
    return [run(first_id + i, config.with_values(seed=i), **{name: value}) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("rate", "spread", "wanted"),
    [
        (7.80, 0.03, Verdict.BETTER),
        (7.80, 0.10, Verdict.SAME),  # 7.68 ±0.03 and 7.80 ±0.10 overlap
        (7.75, 0.00, Verdict.SAME),  # no overlap, but less than two runs of the lecture differ
        (7.50, 0.03, Verdict.WORSE),
    ],
)
def test_speed_of_single_runs(rate: float, spread: float, wanted: Verdict) -> None:
    assert verdict(Quantity.SPEED, run(2, rate=rate, steady_spread=spread), run()) is wanted


@given(
    st.floats(0.01, 1e6), st.floats(0.01, 1e6), st.floats(0, 1e5), st.floats(0, 1e5), st.integers(0, 4), st.booleans()
)
def test_no_winner_where_the_ranges_overlap(a: float, b: float, sa: float, sb: float, few: int, enough: bool) -> None:
    one = run(1, rate=a, steady_spread=sa, updates=64 if enough else few)
    delta = compare(row_of([one]), row_of([run(2, rate=b, steady_spread=sb)])).deltas[Quantity.SPEED]
    if delta.verdict in (Verdict.BETTER, Verdict.WORSE):
        assert enough
        assert abs(a - b) > sa + sb


def test_too_few_updates_have_no_winner() -> None:
    few = run(2, rate=20.0, updates=3, planned_updates=3)
    delta = compare(row_of([few]), row_of([run()])).deltas[Quantity.SPEED]
    assert delta.verdict is Verdict.NOT_ENOUGH_DATA
    assert "fewer than 3 updates" in delta.why
    assert delta.percent == pytest.approx(100 * (20 / 7.68 - 1))
    unknown = run(2, rate=20.0, steady_samples_per_s=None, steady_spread=None)
    assert verdict(Quantity.SPEED, unknown, run()) is Verdict.NOT_ENOUGH_DATA


@pytest.mark.parametrize(
    ("more", "device", "wanted"),
    [
        (1 * MIB, P4, Verdict.SAME),
        (7 * MIB, P4, Verdict.SAME),
        (8 * MIB, P4, Verdict.WORSE),
        (-8 * MIB, P4, Verdict.BETTER),
        (100 * MIB, CPU, Verdict.SAME),  # resident memory of a process differs by more than 0.1 % between equal runs
        (-150 * MIB, CPU, Verdict.BETTER),
    ],
)
def test_memory(more: int, device: DeviceInfo, wanted: Verdict) -> None:
    other = run(2, device=device, peak_used=7069 * MIB + more)
    assert verdict(Quantity.MEMORY, other, run(device=device)) is wanted


def test_a_mebibyte_of_a_small_run_is_nothing() -> None:
    assert verdict(Quantity.MEMORY, run(2, peak_used=100 * MIB), run(peak_used=101 * MIB)) is Verdict.SAME
    assert verdict(Quantity.MEMORY, run(2, peak_used=99 * MIB), run(peak_used=101 * MIB)) is Verdict.BETTER


def test_memory_within_the_range_of_repeats_is_the_same() -> None:
    repeats = row_of([run(1), run(2, peak_used=7169 * MIB)])
    delta = compare(row_of([run(3, peak_used=7100 * MIB)]), repeats).deltas[Quantity.MEMORY]
    assert (delta.baseline, delta.verdict) == (7169 * MIB, Verdict.SAME)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.10, 0.11, 0.12], Verdict.BETTER),
        ([0.45, 0.50, 0.55], Verdict.SAME),
        ([0.10], Verdict.NOT_ENOUGH_DATA),
        ([0.90, 0.92, 0.91, 0.93], Verdict.WORSE),
    ],
)
def test_loss_needs_other_seeds(values: list[float], wanted: Verdict) -> None:
    base = fold(repeats(1, BASE, "train_loss", [0.48, 0.50, 0.52]))
    other = fold(repeats(10, CHECKPOINTED, "train_loss", values))
    assert compare(other[0], base[0]).deltas[Quantity.LOSS].verdict is wanted


def test_equal_seeds_say_nothing_of_the_noise() -> None:
    base, other = fold([run(1), run(2), run(3, CHECKPOINTED, train_loss=0.1), run(4, CHECKPOINTED, train_loss=0.1)])
    assert len(other.records) == 2
    delta = compare(other, base).deltas[Quantity.LOSS]
    assert delta.verdict is Verdict.NOT_ENOUGH_DATA
    assert "other seeds" in delta.why


def test_speed_of_repeats_uses_their_own_spread() -> None:
    """Five equal runs on a shared CPU differ by 30 %; as repeats they show it."""
    measured = [110.2, 145.6, 126.5, 135.8, 128.8]
    base = row_of([run(i, rate=rate, steady_spread=0.1) for i, rate in enumerate(measured, 1)])
    noisy = [rate * 1.05 for rate in measured]
    faster = [rate * 2 for rate in measured]
    for rates, wanted in ((noisy, Verdict.SAME), (faster, Verdict.BETTER)):
        other = row_of([run(10 + i, CHECKPOINTED, rate, steady_spread=0.1) for i, rate in enumerate(rates)])
        comparison = compare(other, base)
        assert comparison.deltas[Quantity.SPEED].verdict is wanted
        assert comparison.deltas[Quantity.TIME].verdict is wanted


def test_accuracy_is_judged_by_the_samples_scored() -> None:
    """The lecture's reviews: 0.621 with accumulation 1, 0.554 with 8, of 1,000 scored."""
    base, other = run(eval_accuracy=0.621, n_eval=1000), run(2, eval_accuracy=0.554, n_eval=1000)
    delta = compare(row_of([other]), row_of([base])).deltas[Quantity.ACCURACY]
    assert delta.verdict is Verdict.WORSE
    assert delta.noise == pytest.approx(1.96 * math.hypot(0.01534, 0.01572), rel=0.01)
    assert verdict(Quantity.ACCURACY, replace(other, eval_accuracy=0.60), base) is Verdict.SAME
    few = [replace(record, n_eval=50) for record in (other, base)]  # type: ignore[call-arg]
    assert verdict(Quantity.ACCURACY, *few) is Verdict.SAME
    unknown = [replace(record, n_eval=None) for record in (other, base)]  # type: ignore[call-arg]
    assert verdict(Quantity.ACCURACY, *unknown) is Verdict.NOT_ENOUGH_DATA
    perfect = run(3, eval_accuracy=1.0, n_eval=50), run(4, eval_accuracy=0.98, n_eval=50)
    assert verdict(Quantity.ACCURACY, *perfect) is Verdict.SAME


@pytest.mark.parametrize(
    ("loss", "baseline", "wanted"),
    [(math.nan, 0.5, Verdict.WORSE), (0.5, math.inf, Verdict.BETTER), (math.nan, math.nan, Verdict.SAME)],
)
def test_a_training_that_diverged_lost(loss: float, baseline: float, wanted: Verdict) -> None:
    comparison = compare(row_of([run(2, train_loss=loss)]), row_of([run(train_loss=baseline)]))
    assert comparison.deltas[Quantity.LOSS].verdict is wanted
    assert explain(comparison)
