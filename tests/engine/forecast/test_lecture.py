"""The forecast against the lecture's measured table: a Tesla P4 with the software of September 2023."""

from __future__ import annotations

from statistics import mean

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.forecast_types import Forecast
from engine.forecast.forecast import Assumptions, Forecaster
from engine.gpus.catalogue import find
from engine.gpus.units import MIB

CHECKPOINTED = {"batch_size": 8, "gradient_checkpointing": "on"}
TABLE = [
    *(({"batch_size": batch}, used) for batch, used in ((1, 3281), (2, 3391), (4, 4613), (8, 7069))),
    *(({"batch_size": 8, "gradient_accumulation_steps": steps}, 7509) for steps in (2, 4, 8, 16, 32)),
    *(({"batch_size": 8, "gradient_accumulation_steps": steps}, 6637) for steps in (128, 1024, 4096)),
    (CHECKPOINTED, 3619),
    ({**CHECKPOINTED, "batch_size": 16}, 3731),
]
"""Changed knobs, and `nvmlDeviceGetMemoryInfo(...).used` in MiB after training."""
SPEED = [
    ({"batch_size": 1}, 4.67),
    ({"batch_size": 2}, 5.97),
    ({"batch_size": 4}, 7.09),
    ({"batch_size": 8}, 7.68),
    (CHECKPOINTED, 512 / 93.07),
]
"""Samples per second."""


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    torch.set_num_threads(1)
    return Forecaster()


def _forecast(forecaster: Forecaster, model: str = "bert-base-uncased", **changes: str | int) -> Forecast:
    config = RunConfig(model=model, samples=512, seq_len=512).with_values(**changes)
    return forecaster.forecast(config, find("tesla-p4"), Assumptions(stack="lecture-2023"))


def test_the_memory_table(forecaster: Forecaster) -> None:
    errors = [_forecast(forecaster, **changes).peak_used / MIB / used - 1 for changes, used in TABLE]
    assert mean(abs(error) for error in errors) <= 0.01
    assert max(abs(error) for error in errors) <= 0.05


@pytest.mark.parametrize("changes", [changes for changes, _ in TABLE])
def test_what_ran_fits(forecaster: Forecaster, changes: dict[str, str | int]) -> None:
    forecast = _forecast(forecaster, **changes)
    assert forecast.fits
    assert forecast.near_limit == (changes.get("gradient_accumulation_steps", 128) < 128)


def test_batch_9_is_out_of_memory(forecaster: Forecaster) -> None:
    forecast = _forecast(forecaster, batch_size=9)
    assert not forecast.fits
    assert forecast.near_limit


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_bert_large_dies_in_the_first_optimizer_step(forecaster: Forecaster, checkpointing: str) -> None:
    forecast = _forecast(forecaster, model="bert-large-uncased", batch_size=1, gradient_checkpointing=checkpointing)
    assert forecast.verdict == "out_of_memory"
    assert forecast.failing_phase == "optimizer"
    # "Tried to allocate 20.00 MiB": the segment of a request between 1 and 10 MiB
    assert forecast.failing_request is not None
    assert MIB < forecast.failing_request < 10 * MIB


@pytest.mark.parametrize(("model", "used"), [("bert-base-uncased", 887), ("bert-large-uncased", 1705)])
def test_the_transcript_after_loading(forecaster: Forecaster, model: str, used: int) -> None:
    assert _forecast(forecaster, model=model, batch_size=1).loaded_used == used * MIB


def test_the_speed_of_the_batch_sizes(forecaster: Forecaster) -> None:
    for changes, measured in SPEED:
        rate = _forecast(forecaster, **changes).samples_per_s
        assert rate == pytest.approx(measured, rel=0.06)


def test_the_arithmetic_of_bert_base(forecaster: Forecaster) -> None:
    forecast = _forecast(forecaster, batch_size=8)
    assert forecast.flops_per_sample == pytest.approx(289.9e9, rel=1e-3)
    assert _forecast(forecaster, **CHECKPOINTED).flops_per_sample == pytest.approx(386.6e9, rel=1e-3)
    assert forecast.n_parameters == 109_483_778
