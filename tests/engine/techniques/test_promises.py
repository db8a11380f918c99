"""What every technique promises: the same loss and gradients as the plain run, and less memory where it saves any.

Memory is held to both: the forecast, and what a run on a virtual GPU measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.records import Outcome, RunRecord
from engine.devices.open import open_device
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.techniques.bucketing import epoch_order
from engine.techniques.preloading import build_loader
from engine.training.hub import Hub
from engine.training.run import Run
from engine.training.trainer import micro_step
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData
from tests.engine.jobs import Recorded, make_job, tiny_model
from tests.engine.make_reviews import write_reviews
from tests.engine.model_folders import model_folder

PLAIN = RunConfig(device="cpu", batch_size=8, samples=16, seq_len=16, dropout=False, seed=3)
READS_TEXT = PLAIN.with_values(workload="reviews", samples=32, eval_samples=10, seq_len=48)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# the same result


def _window(config: RunConfig, data: PreparedData | None = None) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of one update's window, from the same weights."""
    recorded = make_job(config, tiny_model(dropout=0.0, seed=7).train(), data=data)
    steps = config.gradient_accumulation_steps
    loss, batches = 0.0, iter(recorded.job.loader)
    for _ in range(steps):
        loss += micro_step(recorded.job.model, next(batches), recorded.job.precision, steps, lambda phase: None).item()
    return loss, _gradients(recorded)


def _gradients(recorded: Recorded) -> list[torch.Tensor]:
    return [parameter.grad for parameter in recorded.job.model.parameters() if parameter.grad is not None]


SAME: dict[str, dict[str, Any]] = {
    "accumulation": {"batch_size": 2, "gradient_accumulation_steps": 4},
    "checkpointing": {"gradient_checkpointing": "on"},
    "checkpointing every second": {"gradient_checkpointing": "every-second"},
    "prefetch": {"dataloader_prefetch_factor": 4, "dataloader_pin_memory": False},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_loss_and_gradients_are_the_plain_runs(changes: dict[str, Any]) -> None:
    loss, gradients = _window(PLAIN)
    other_loss, others = _window(PLAIN.with_values(**changes))
    assert other_loss == pytest.approx(loss, abs=1e-6)
    torch.testing.assert_close(others, gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_attention_computes_the_same(kind: str) -> None:
    """With padding, whose positions must not be seen; eager is the plain one."""
    data = _texts("longest")
    results = []
    for implementation in ("eager", kind):
        model = tiny_model(dropout=0.0, seed=7)
        model.set_attn_implementation(implementation)
        recorded = make_job(READS_TEXT, model.train(), data=data)
        batch = next(iter(recorded.job.loader))
        loss = micro_step(recorded.job.model, batch, recorded.job.precision, 1, lambda phase: None)
        results.append((loss, _gradients(recorded)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding", ["longest", "bucketed"])
def test_a_text_weighs_the_same_however_it_is_padded(padding: str) -> None:
    """The mean over an epoch of the loss, and its gradient, without updates in between."""
    results = []
    for how in ("max_length", padding):
        config, data = READS_TEXT.with_values(padding=how), _texts(how)
        model = tiny_model(dropout=0.0, seed=7).train()
        recorded = make_job(config, model, data=data)
        order = epoch_order(config, data.train.lengths())  # type: ignore[arg-type]
        loader = build_loader(config, data.train, data.collate, order=order, pin=False)
        loss = sum(
            micro_step(model, batch, recorded.job.precision, len(loader), lambda phase: None) for batch in loader
        )
        results.append((loss, _gradients(recorded)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)


def _texts(padding: str) -> PreparedData:
    data = prepare(READS_TEXT.with_values(padding=padding), model_vocab_size=512)
    for part in (data.train, data.evaluation):
        assert part is not None
        part.scalars["labels"] %= 2  # the tiny model has two
    return replace(data, n_labels=2)


# less memory


SAVES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "a smaller batch, accumulated": ({}, {"batch_size": 2, "gradient_accumulation_steps": 4}),
    "checkpointing every second layer": ({}, {"gradient_checkpointing": "every-second"}),
    "checkpointing": ({"gradient_checkpointing": "every-second"}, {"gradient_checkpointing": "on"}),
    "fp16": ({}, {"precision": "fp16"}),
    "bf16": ({}, {"precision": "bf16"}),
    "no foreach": ({"optimizer_implementation": "foreach"}, {"optimizer_implementation": "fused"}),
    "SGD": ({}, {"optimizer": "sgd"}),
    "Adafactor": ({}, {"optimizer": "adafactor"}),
    "8-bit AdamW": ({}, {"optimizer": "adamw-8bit"}),
    "in backward": ({"max_grad_norm": 0.0}, {"max_grad_norm": 0.0, "optimizer_in_backward": True}),
    "LoRA": ({}, {"lora_rank": 4}),
    "no matrix of attention": ({"attention": "eager"}, {"attention": "sdpa"}),
    "flash": ({"precision": "bf16", "attention": "eager"}, {"precision": "bf16", "attention": "flash"}),
    "a shorter sequence": ({}, {"seq_len": 32}),
}
_QUICK = {"a smaller batch, accumulated", "checkpointing", "bf16", "SGD", "LoRA", "no matrix of attention"}
"""One of batch, layers, precision, optimizer, weights and attention."""
_OF_THE_OPTIMIZER = {"no foreach", "SGD", "Adafactor", "8-bit AdamW", "in backward", "LoRA"}
"""They show where weights, not activations, are what is large."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in _QUICK else pytest.mark.slow) for n in SAVES])
def test_the_forecast_and_the_virtual_gpu_show_the_saving(name: str, tmp_path: Path) -> None:
    before, after = SAVES[name]
    small: dict[str, Any] = {"batch_size": 2, "samples": 4, "seq_len": 16} if name in _OF_THE_OPTIMIZER else {}
    config = RunConfig(model=_folder(tmp_path), samples=16, seq_len=64, device="virtual:a100-40gb", dropout=False)
    config = config.with_values(**small)
    measured, told = zip(*(_peaks(config.with_values(**changes)) for changes in (before, after)), strict=True)
    assert measured[1] < measured[0]
    assert told[1] < told[0]
    # and by as much
    assert measured[0] - measured[1] == pytest.approx(told[0] - told[1], rel=0.05, abs=50_000)


def _folder(tmp_path: Path) -> str:
    import json

    folder = Path(model_folder(tmp_path, "bert"))
    file = folder / "config.json"
    settings = json.loads(file.read_text())
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "vocab_size": 1000}
    file.write_text(json.dumps(settings | sizes))
    return str(folder)


def _peaks(config: RunConfig) -> tuple[int, int]:
    """Bytes allocated at the peak: measured on the virtual GPU, and forecast."""
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    device = open_device(config)
    run = Run(record=record, device=device, hub=Hub(), emit=lambda event: None, should_stop=lambda: False)
    done = run.execute()
    assert done.outcome is Outcome.COMPLETED, done.message
    assert done.peak_allocated is not None
    return done.peak_allocated, Forecaster().forecast(config, find("a100-40gb")).peak_allocated


@pytest.mark.slow
def test_less_padding_takes_less_memory(tmp_path: Path) -> None:
    peaks, file = [], write_reviews(tmp_path / "reviews.csv", 20)
    for padding in ("max_length", "longest"):
        config = RunConfig(
            model="bert-tiny",
            workload="reviews",
            data=str(file),
            padding=padding,
            samples=8,
            eval_samples=2,
            batch_size=4,
            seq_len=256,
            device="virtual:tesla-p4",
        )
        peaks.append(_peaks(config)[0])
    assert peaks[1] < 0.9 * peaks[0]
