"""The forecast against what others measured; all rows are in the benchmark, these are those that take a second each."""

from __future__ import annotations

import pytest
import torch

from engine.forecast.forecast import Forecaster
from tests.benchmarks.public_rows import NotHereError, PublicRow, rows

QUICK = {
    "DistilBERT 12 × 512, fp16 autocast",
    "DistilBERT 12 × 512, bf16 autocast",
    "DistilBERT 12 × 512, weights bf16",
    "GPT-2 8 × 1024",
    "GPT-2 1 × 1024",
}


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    torch.set_num_threads(1)
    return Forecaster()


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row, id=f"{row.about} ({row.reported or row.kind})", marks=[] if row.about in QUICK else pytest.mark.slow
        )
        for row in rows()
        if row.unsure is None and (row.kind or row.reported)
    ],
)
def test_the_forecast_is_what_was_measured(forecaster: Forecaster, row: PublicRow) -> None:
    try:
        made = row.ask(forecaster)
    except NotHereError as error:
        pytest.skip(str(error))
    assert row.is_right(made) in (True, None)
    error = row.error(made)
    assert error is None or abs(error) <= (1 if row.has_16_bit_weights else 4)


def test_the_two_halves_of_a_16_bit_autocast_differ_as_measured(forecaster: Forecaster) -> None:
    """By the fp32 copy that a softmax reads of bf16 scores: 143 MiB on the card, of which numbers of 10 MB are told."""
    fp16, bf16 = (row for row in rows() if "autocast" in row.about and "12 × 512" in row.about)
    assert fp16.mib is not None
    assert bf16.mib is not None
    told = bf16.ask(forecaster).peak_reserved - fp16.ask(forecaster).peak_reserved
    assert told / 2**20 == pytest.approx(bf16.mib - fp16.mib, abs=10)


def test_the_gpu_had_as_much_when_it_asked_for_more(forecaster: Forecaster) -> None:
    """transformers#7177: 14.75 GiB already allocated, 14.81 GiB reserved, "Tried to allocate 384.00 MiB"."""
    row = next(row for row in rows() if "#7177" in row.source)
    made = row.ask(forecaster)
    assert made.failing_segment == 384 * 2**20
    last = made.timeline[-1]
    assert last.allocated / 2**30 == pytest.approx(14.75, abs=0.01)
    assert last.reserved / 2**30 == pytest.approx(14.81, abs=0.01)
