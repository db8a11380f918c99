"""What the forecast's seconds are made of: steady updates, kinds of products, the host's part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.forecast.forecast import Forecaster
from engine.forecast.speed import EFFICIENCY, MODULE_S, OPERATOR_S, STEP_CALL_S, TENSOR_EFFICIENCY, Rates, seconds
from engine.forecast.work import Work
from engine.gpus.catalogue import find
from tests.engine.forecast.five_models import small

TERA = 10**12
RATES = Rates(flops=TERA, tensor_flops=10 * TERA, bytes=TERA)
NO_TENSOR_CORES = replace(RATES, tensor_flops=None)


def test_products_outside_tensor_cores_hide_their_traffic() -> None:
    wide = Work(flops=TERA, wide_flops=TERA, product_bytes=TERA, wide_product_bytes=TERA)
    half = Work(flops=TERA, product_bytes=TERA)
    assert seconds(wide, 1, RATES) == pytest.approx(1 / EFFICIENCY)
    assert seconds(half, 1, RATES) == pytest.approx(0.1 / TENSOR_EFFICIENCY + 1 / EFFICIENCY)
    assert seconds(half, 1, NO_TENSOR_CORES) == pytest.approx(1 / EFFICIENCY)
    assert seconds(wide, 1, replace(RATES, rounds_fp32=True)) == seconds(half, 1, RATES)


def test_the_step_is_there_once_and_what_the_host_does_counts_alone_where_the_gpu_has_nothing_to_do() -> None:
    work = Work(n_bytes=TERA, step_bytes=2 * TERA)
    assert seconds(work, 3, RATES) == pytest.approx(5 / EFFICIENCY)
    host = Work(operators=100, modules=10, step_operators=20, step_calls=4)
    expected = 2 * (100 * OPERATOR_S + 10 * MODULE_S) + 20 * OPERATOR_S + 4 * STEP_CALL_S
    assert seconds(host, 2, RATES) == pytest.approx(expected)
    both = replace(work, operators=10**6)
    assert seconds(work, 1, RATES) < seconds(both, 1, RATES) < seconds(work, 1, RATES) + 10**6 * OPERATOR_S


def test_a_cards_rates_are_those_of_what_is_computed_in() -> None:
    a100, p4 = find("a100-40gb"), find("tesla-p4")
    bf16 = Rates.of(a100, RunConfig(weights="bf16"))
    assert bf16 is not None
    assert (bf16.flops, bf16.tensor_flops, bf16.rounds_fp32) == (19.5 * TERA, 312 * TERA, False)
    tf32 = Rates.of(a100, RunConfig(precision="tf32"))
    assert tf32 is not None
    assert (tf32.tensor_flops, tf32.rounds_fp32) == (156 * TERA, True)
    fp16 = Rates.of(p4, RunConfig(precision="fp16"))
    assert fp16 is not None
    assert fp16.tensor_flops is None
    assert Rates.of(p4, RunConfig(precision="bf16")) is None


def test_the_optimizer_in_backward_costs_the_host_a_step_for_every_parameter(tmp_path: Path) -> None:
    """As measured: 2.5 times slower at batch 1. Both are bound by the host, as the model is small."""
    forecaster, gpu = Forecaster(), find("h100-80gb")
    plain = small(tmp_path, "bert", max_grad_norm=0.0)
    apart = forecaster.forecast(plain, gpu).samples_per_s
    within = forecaster.forecast(plain.with_values(optimizer_in_backward=True), gpu).samples_per_s
    assert apart is not None
    assert within is not None
    n_parameters = 5 + 2 * 16 + 4  # tensors of embeddings, two layers, pooler and classifier
    assert 3 / within - 3 / apart == pytest.approx(n_parameters * STEP_CALL_S, rel=0.1)


def test_making_the_states_is_no_part_of_an_update(tmp_path: Path) -> None:
    """SGD makes none, and AdamW, fused, launches as few operators once its states are there."""
    forecaster, gpu = Forecaster(), find("h100-80gb")
    rates = [
        forecaster.forecast(small(tmp_path, "llama", optimizer=optimizer), gpu).samples_per_s
        for optimizer in ("adamw", "sgd")
    ]
    assert rates[0] == pytest.approx(rates[1], rel=0.02)
