"""A real GPU: memory numbers, outcomes, limits and techniques. `make test-gpu` runs these where there is a card."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted, MemoryMoment, RunRefused, UpdateDone
from engine.contract.records import Outcome, Phase, RunRecord
from engine.gpus.catalogue import by_nvml_name
from engine.gpus.units import MIB
from tests.engine.session.test_session import Driver

pytestmark = pytest.mark.gpu

SMALL = RunConfig(device="cuda", samples=96, batch_size=8, seq_len=128, dropout=False)
BASE = RunConfig(device="cuda", model="bert-base-uncased", samples=64, batch_size=8)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    driver.session.open()
    yield driver
    assert driver.session.close(60)
    driver.history.close()


def run(driver: Driver, config: RunConfig) -> RunRecord:
    record = driver.run(config).record
    assert record.outcome is Outcome.COMPLETED, record.message
    return record


def updates(driver: Driver, record: RunRecord) -> list[UpdateDone]:
    return [event for event in driver.events if isinstance(event, UpdateDone) and event.run_id == record.run_id]


def losses(driver: Driver, **changes: Any) -> list[float]:
    return [update.loss for update in updates(driver, run(driver, SMALL.with_values(**changes)))]


def test_the_card_is_in_the_catalogue() -> None:
    properties = torch.cuda.get_device_properties(0)
    gpu = by_nvml_name(properties.name, properties.total_memory)
    assert gpu is not None
    assert gpu.compute_capability == (properties.major, properties.minor)
    assert gpu.multiprocessors == properties.multi_processor_count


def test_a_run_knows_its_memory_and_its_time(driver: Driver) -> None:
    record = run(driver, BASE)
    assert record.peak_allocated
    assert record.peak_reserved
    assert record.peak_used
    assert record.peak_allocated <= record.peak_reserved < record.peak_used <= (record.memory_total or 0)
    assert record.peak_allocated > 4 * 4 * (record.n_parameters or 0)  # weights, gradients and two states
    for update in updates(driver, record):
        shares = update.shares
        parts = shares.data + shares.forward + shares.backward + shares.optimizer
        assert parts == pytest.approx(update.update_s)
        assert min(shares.forward, shares.backward, shares.optimizer) > 0
    moments = {event.moment: event.memory for event in driver.events if isinstance(event, MemoryMoment)}
    weights = 4 * (record.n_parameters or 0)
    assert (moments["model"].allocated or 0) - (moments["context"].allocated or 0) >= weights
    assert torch.cuda.memory_allocated() == torch.cuda.memory_reserved() == 0  # given back
    assert record.mfu
    assert 0.0 < record.mfu < 1.0


def test_losses_are_the_cpus(driver: Driver) -> None:
    torch.testing.assert_close(losses(driver), losses(driver, device="cpu"), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"gradient_checkpointing": "on"}, 1e-5),
        ({"optimizer_implementation": "foreach"}, 1e-5),
        ({"optimizer_implementation": "loop"}, 1e-5),
        ({"attention": "eager"}, 1e-4),
        ({"dataloader_num_workers": 2}, 1e-6),
        ({"precision": "tf32"}, 2e-2),
        ({"precision": "bf16"}, 5e-2),
        ({"precision": "fp16"}, 2e-2),
        ({"precision": "bf16", "attention": "flash"}, 5e-2),
        ({"torch_compile": True}, 1e-3),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_techniques_keep_the_losses(driver: Driver, changes: dict[str, Any], tolerance: float) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.testing.assert_close(losses(driver, **changes), losses(driver), rtol=0, atol=tolerance)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_checkpointing_saves_memory_and_fp16_scales_its_loss(driver: Driver) -> None:
    plain = run(driver, BASE)
    checkpointed = run(driver, BASE.with_values(gradient_checkpointing="on"))
    assert (checkpointed.peak_allocated or 0) < 0.7 * (plain.peak_allocated or 0)
    halves = run(driver, BASE.with_values(precision="fp16"))
    assert all(update.loss_scale for update in updates(driver, halves))
    assert (halves.peak_allocated or 0) < 0.9 * (plain.peak_allocated or 0)


def test_out_of_memory_is_a_row_and_the_next_run_works(driver: Driver) -> None:
    """A card as small as the lecture's: batch 64 dies in its activations."""
    record = driver.run(BASE.with_values(batch_size=64, vram_limit=7611)).record
    assert record.outcome is Outcome.OUT_OF_MEMORY
    assert record.failed_phase in (Phase.FORWARD, Phase.BACKWARD)
    assert "Tried to allocate" in (record.message or "")
    assert record.peak_used
    assert record.peak_used <= 7611 * MIB
    assert torch.cuda.memory_reserved() == 0
    fits = run(driver, BASE.with_values(vram_limit=7611))
    assert fits.peak_used
    assert fits.peak_used <= 7611 * MIB
    run(driver, BASE.with_values(batch_size=16))  # and the limit is gone


def test_out_of_memory_in_the_optimizer(driver: Driver) -> None:
    """The lecture's unsolved case: bert-large at batch 1, which foreach AdamW's temporaries end and fused does not."""
    large = BASE.with_values(
        model="bert-large-uncased", batch_size=1, samples=3, gradient_checkpointing="on", vram_limit=6000
    )
    dead = driver.run(large.with_values(optimizer_implementation="foreach")).record
    assert dead.outcome is Outcome.OUT_OF_MEMORY
    assert dead.failed_phase is Phase.OPTIMIZER
    run(driver, large.with_values(vram_limit=7611))


def test_a_limit_below_the_context_is_refused(driver: Driver) -> None:
    driver.session.start(SMALL.with_values(vram_limit=64))
    refused = driver.until(RunRefused)
    assert isinstance(refused, RunRefused)
    assert refused.knob == "vram_limit"
    assert "use --vram-limit" in refused.message


MEASURE = """
import torch
from engine.devices.cuda import CudaDevice, own_bytes
from engine.telemetry.nvml import Nvml
from engine.gpus.units import MIB
nvml = Nvml()
device = CudaDevice(0, nvml)
assert not device.has_context()
measured = device.measure_outside()
others_now = nvml.memory_used(device.uuid) - own_bytes(0, measured)
print(measured.context // MIB, measured.libraries // MIB, measured.others // MIB, others_now // MIB)
print(device.measure_outside(), torch.cuda.memory_reserved())
print(device.info.memory_total - torch.cuda.get_device_properties(0).total_memory)
"""


def test_what_a_context_and_the_libraries_take(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    first, again, driver = done.stdout.splitlines()
    context, libraries, others, others_now = map(int, first.split())
    assert 200 <= context <= 900
    assert 20 <= libraries <= 400
    assert abs(others_now - others) < 20  # nobody came meanwhile
    assert again == "None 0"
    assert int(driver) >= 0


def test_the_forecast_is_what_the_run_measures(driver: Driver) -> None:
    """What a finished run taught is in the forecast: the allocator's part is exact to fragmentation."""
    config = BASE.with_values(batch_size=4, samples=48)
    record = run(driver, config)
    driver.session.forecast(config)
    told = driver.until(Forecasted)
    assert isinstance(told, Forecasted)
    assert told.forecast is not None
    assert record.peak_reserved == pytest.approx(told.forecast.peak_reserved, rel=0.02)
    assert record.peak_allocated == pytest.approx(told.forecast.peak_allocated, rel=0.01)
    assert record.peak_used == pytest.approx(told.forecast.peak_used, rel=0.02)
    assert record.steady_samples_per_s == pytest.approx(told.forecast.samples_per_s, rel=0.25)
