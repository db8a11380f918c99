"""The virtual GPU: the same training, another memory; and a real out-of-memory error from inside the operation."""

from __future__ import annotations

import gc
from contextlib import ExitStack

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event, UpdateDone
from engine.contract.records import Outcome, Phase, RunRecord
from engine.devices.open import open_device
from engine.devices.virtual import VirtualDevice
from engine.gpus.units import MIB
from engine.training.attempt import refuse_early
from engine.training.hub import Hub
from engine.training.run import Run
from engine.training.trainer import train
from tests.engine.jobs import Recorded, make_job, tiny_model
from tests.engine.training.test_parity import CONFIG

VIRTUAL = CONFIG.with_values(device="virtual:tesla-p4")


def _train(config: RunConfig) -> tuple[Recorded, VirtualDevice]:
    device = VirtualDevice("tesla-p4", config)
    model = tiny_model(dropout=0.1)
    torch.manual_seed(5)
    recorded = make_job(config, model, device=device)
    recorded.job.precision = device.precision(config)
    with ExitStack() as stack:
        stack.enter_context(device.tracking())
        device.create_context()
        device.adopt(model)
        train(recorded.job)
    return recorded, device


def _run(config: RunConfig) -> tuple[RunRecord, list[UpdateDone]]:
    device = open_device(config)
    refuse_early(config, device)
    hub = Hub()
    hub.probe()
    events: list[object] = []
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    done = Run(record=record, device=device, hub=hub, emit=events.append, should_stop=lambda: False).execute()
    return done, [event for event in events if isinstance(event, UpdateDone)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_checkpointing": "on"},
        {"gradient_accumulation_steps": 4},
        {"attention": "eager"},
        {"optimizer_implementation": "foreach"},
        {"optimizer": "sgd"},
        {"optimizer": "adafactor"},
    ],
)
def test_training_is_bit_equal_to_the_cpu(changes: dict[str, str | int]) -> None:
    torch.manual_seed(5)
    plain_model = tiny_model(dropout=0.1)
    torch.manual_seed(5)
    plain = make_job(CONFIG.with_values(**changes), plain_model)
    train(plain.job)
    virtual, _ = _train(VIRTUAL.with_values(**changes))
    assert virtual.losses == plain.losses
    for mine, other in zip(virtual.job.model.parameters(), plain.job.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_weights_gradients_and_optimizer_are_the_parameter_arithmetic() -> None:
    recorded, device = _train(VIRTUAL)
    n_bytes = 4 * sum(parameter.numel() for parameter in recorded.job.model.parameters())
    buffers = sum(buffer.nbytes for buffer in recorded.job.model.buffers())
    n_tensors = sum(1 for _ in recorded.job.model.parameters())
    held = device.memory().by_category
    assert held is not None
    assert held["weights"] == n_bytes + buffers
    assert held["optimizer"] == 2 * n_bytes + 4 * n_tensors
    assert held["gradients"] <= n_bytes


def test_tracing_ends_when_updates_repeat_and_resumes_for_new_shapes() -> None:
    device = VirtualDevice("tesla-p4", VIRTUAL)
    config = VIRTUAL.with_values(samples=40)
    model = tiny_model(dropout=0.1)
    recorded = make_job(config, model, device=device)
    seen: list[bool] = []
    recorded.job.emit = lambda event: seen.append(device.is_tracing)
    with device.tracking():
        device.create_context()
        device.adopt(model)
        train(recorded.job)
        assert seen[0]
        assert not any(seen[5:])
        device.enter(Phase.DATA)
        device.place({"input_ids": torch.zeros(4, 8, dtype=torch.long)})
        assert device.is_tracing
    assert not device.is_tracing


def test_tracing_goes_on_while_the_allocator_asks_again() -> None:
    """Its counter would stand still else, and a run that thrashes look like one that does not."""
    device = VirtualDevice("tesla-p4", VIRTUAL)
    model = tiny_model(dropout=0.1)
    recorded = make_job(VIRTUAL.with_values(samples=40), model, device=device)
    seen: list[tuple[bool, int | None]] = []

    def emit(event: Event) -> None:
        if len(seen) < 6:
            device._allocator._allocator.alloc_retries += 1  # in every update
        seen.append((device.is_tracing, device.memory().alloc_retries))

    recorded.job.emit = emit
    with device.tracking():
        device.create_context()
        device.adopt(model)
        train(recorded.job)
    assert seen[:6] == [(True, number) for number in range(1, 7)]
    assert seen[-1] == (False, 6)


def test_peaks_do_not_depend_on_when_tracing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    config = VIRTUAL.with_values(samples=40)
    _, stopping = _train(config)
    monkeypatch.setattr("engine.tracing.live.RepeatingWindows.add", lambda self, window: None)
    _, tracing = _train(config)
    assert stopping.memory().peak_reserved == tracing.memory().peak_reserved
    assert stopping.memory().peak_allocated == tracing.memory().peak_allocated


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_too_small_a_card_runs_out_of_memory_and_the_next_run_works(precision: str) -> None:
    config = RunConfig(
        device="virtual:tesla-p4", vram_limit=640, samples=16, batch_size=8, seq_len=512, precision=precision
    )
    record, _ = _run(config)
    assert record.outcome is Outcome.OUT_OF_MEMORY
    assert record.failed_phase in (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)
    message = record.message or ""
    assert "CUDA out of memory. Tried to allocate" in message
    assert "GPU 0 has a total capacity of 640.00 MiB of which" in message
    assert record.memory_total == 640 * MIB
    assert record.peak_used is not None
    assert record.peak_used <= 640 * MIB
    again, updates = _run(config.with_values(batch_size=1))
    assert again.outcome is Outcome.COMPLETED
    assert len(updates) == 16


def test_optimizer_temporaries_can_be_what_does_not_fit() -> None:
    """The lecture's bert-large in small: foreach holds a copy of all parameters, fused none."""
    config = RunConfig(model="bert-mini", device="virtual:tesla-p4", samples=2, batch_size=1, seq_len=8, vram_limit=750)
    foreach, _ = _run(config.with_values(optimizer_implementation="foreach"))
    assert foreach.outcome is Outcome.OUT_OF_MEMORY
    assert foreach.failed_phase is Phase.OPTIMIZER
    fused, _ = _run(config)
    assert fused.outcome is Outcome.COMPLETED


def test_everything_is_given_back() -> None:
    record, _ = _run(RunConfig(device="virtual:tesla-p4", samples=8, seq_len=16))
    assert record.outcome is Outcome.COMPLETED
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o).__name__ == "BertForSequenceClassification"]


def test_a_limit_below_the_context_is_refused() -> None:
    config = RunConfig(device="virtual:tesla-p4", vram_limit=400)
    with pytest.raises(ConfigError, match="use --vram-limit 6") as refused:
        open_device(config).refuse(config)
    assert refused.value.knob == "vram_limit"


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_precision_that_the_card_lacks_is_refused(precision: str) -> None:
    config = RunConfig(device="virtual:tesla-p4", precision=precision)
    with pytest.raises(ConfigError, match=r"compute capability 8\.0"):
        open_device(config).refuse(config)
    newer = RunConfig(device="virtual:a100-40gb", precision=precision)
    open_device(newer).refuse(newer)


def test_auto_is_a_virtual_p4_without_cuda() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    device = open_device(RunConfig())
    assert device.info.kind == "virtual"
    assert device.info.name == "Tesla P4"
    assert device.memory().used == 0
