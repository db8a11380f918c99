"""A decoder's forecasts and its runs, side by side on one device: what training sets of knobs with it is said to take,
and what it takes.

The forecast is the one that users get before they have run anything; the run is three updates of the engine's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import Forecast
from engine.contract.records import Outcome, RunRecord
from engine.devices.open import open_device
from engine.gpus.units import MIB
from engine.models.catalogue import ARCHITECTURES
from engine.session.forecasts import Forecasts
from engine.session.outside import OutsideMemory
from engine.telemetry.nvml import Nvml
from engine.training.attempt import refuse_early
from engine.training.hub import Hub
from engine.training.run import Run

UPDATES = 3
"""The allocator's peak still grows in the second."""
MODEL = "llama-3.2-1b"
USED_WITHIN = 0.01
EXACT = 0.85
"""Of the runs, those whose reserved memory is to be the forecast one to the byte."""

_LORA = {"lora_rank": 16, "lora_targets": "all-linear"}
KNOBS: tuple[dict[str, Any], ...] = (
    {},
    {"batch_size": 1},
    {"batch_size": 8},
    {"batch_size": 8, "seq_len": 512},
    {"batch_size": 2, "seq_len": 2048},
    {"gradient_accumulation_steps": 4},
    {"weights": "fp16"},
    {"weights": "fp32", "batch_size": 2},
    {"weights": "fp32", "precision": "bf16"},
    {"weights": "fp32", "precision": "fp16"},
    {"weights": "fp32", "precision": "bf16", "optimizer_implementation": "foreach"},
    {"gradient_checkpointing": "on"},
    {"gradient_checkpointing": "on", "batch_size": 16},
    {"gradient_checkpointing": "every-second"},
    {"gradient_checkpointing": "selective"},
    {"cross_entropy": "chunked"},
    {"cross_entropy": "chunked", "gradient_checkpointing": "on", "batch_size": 16},
    {"cross_entropy": "liger"},
    {"activation_offloading": True},
    {"optimizer_in_backward": True, "max_grad_norm": 0.0},
    {"optimizer": "sgd", "momentum": 0.9},
    {"lora_rank": 16},
    {**_LORA},
    {**_LORA, "gradient_checkpointing": "on", "seq_len": 2048},
    {**_LORA, "weights": "nf4"},
    {**_LORA, "weights": "nf4", "gradient_checkpointing": "on", "batch_size": 8},
    {**_LORA, "weights": "int8"},
    {"optimizer": "paged-adamw-8bit"},
    {"torch_compile": True},
)
"""What differs from `base`. The one that is compiled takes longest and comes last."""


def base(model: str, device: str) -> RunConfig:
    """Weights in bf16, trained whole."""
    return RunConfig(model=model, device=device, task="causal-lm", weights="bf16", batch_size=4, seq_len=1024)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A set of knobs, what was said, and what was; without a run, why there is none."""

    knobs: dict[str, Any]
    told: Forecast | None = None
    measured: RunRecord | None = None
    refused: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether as much was reserved as was said, to the byte."""
        return self.told is not None and self.measured is not None and self._sizes("reserved")[0] == 1

    @property
    def used_error(self) -> float:
        """Forecast ÷ measured - 1."""
        return self._sizes("used")[0] - 1

    def _sizes(self, kind: str) -> tuple[float, int, int]:
        """Forecast ÷ measured, and the two in bytes."""
        told, measured = getattr(self.told, f"peak_{kind}"), getattr(self.measured, f"peak_{kind}") or 0
        return told / (measured or 1), told, measured

    def __str__(self) -> str:
        label = " ".join(f"{name}={value}" for name, value in self.knobs.items()) or "–"
        if self.told is None or self.measured is None:
            return f"{label:<72} {self.refused}"
        if self.measured.outcome is not Outcome.COMPLETED:
            return f"{label:<72} {self.measured.outcome.value}: {self.measured.message}"
        cells = []
        for kind in ("used", "reserved", "allocated"):
            ratio, told, measured = self._sizes(kind)
            cells.append(f"{measured / MIB:9,.0f} {told / MIB:9,.0f} {(ratio - 1) * 100:+6.2f} %")
        rate, said = self.measured.steady_samples_per_s or 0, self.told.samples_per_s or 0
        return f"{label:<72} {'  '.join(cells)}  {rate:7.2f} {said:7.2f}"

    def figures(self) -> dict[str, Any]:
        """For the record: MiB and samples/s, measured and forecast; why there are none, where there are none."""
        if self.told is None or self.measured is None or self.measured.outcome is not Outcome.COMPLETED:
            why = self.refused or (self.measured and self.measured.message)
            return {"knobs": self.knobs, "without": why}
        sizes = {}
        for kind in ("used", "reserved", "allocated"):
            _, told, measured = self._sizes(kind)
            sizes |= {f"{kind}_mib": measured / MIB, f"forecast_{kind}_mib": told / MIB}
        outside = self.told.peak_used - self.told.peak_reserved
        rates = {"samples_per_s": self.measured.steady_samples_per_s, "forecast_samples_per_s": self.told.samples_per_s}
        return {"knobs": self.knobs, **sizes, "outside_mib": outside / MIB, **rates}


def write_model(folder: Path, device: str, **changes: Any) -> None:
    """The decoder with random weights in bf16, made on `device`: runs read it faster than they could draw their own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    architecture = ARCHITECTURES[MODEL]
    config = AutoConfig.for_model(architecture.model_type, **{**architecture.settings, **changes})
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)


class Bench:
    """Forecasts and runs on the device of `start`, one after the other."""

    def __init__(self, start: RunConfig) -> None:
        self._start, self._nvml, self._hub = start, Nvml(), Hub()
        self._hub.probe()
        outside = OutsideMemory(self._nvml)
        outside.measure(open_device(start, self._nvml))
        self._forecasts = Forecasts(self._hub, lambda: (), self._nvml, outside)

    def rows(self, knobs: Iterable[dict[str, Any]]) -> Iterator[Row]:
        """A row for each; knobs whose package or whose kind of device is not there are refused in it."""
        for changes in knobs:
            config = self._start.with_values(**changes)
            config = config.with_values(samples=UPDATES * config.effective_batch_size)
            device = open_device(config, self._nvml)
            try:
                refuse_early(config, device)
            except ConfigError as error:
                yield Row(knobs=changes, refused=error.message)
                continue
            told = self._forecasts.forecast(config)
            device.reset_peaks()
            record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING, device=device.info)
            run = Run(record=record, device=device, hub=self._hub, emit=lambda event: None, should_stop=lambda: False)
            yield Row(knobs=changes, told=told, measured=run.execute())


def save(rows: Iterable[Row], device: str, path: Path) -> None:
    """Write what was measured as JSON, with the card and the software."""
    info = open_device(RunConfig(device=device)).info
    lines = ",\n".join(json.dumps(row.figures()) for row in rows)
    head = {"gpu": info.name, "software": info.software, "torch": torch.__version__, "model": MODEL, "updates": UPDATES}
    path.write_text(f'{json.dumps(head)[:-1]}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


def judge(rows: Iterable[Row]) -> None:
    """Every run completed, used is forecast closely, and reserved almost always exactly."""
    ran = [row for row in rows if row.measured is not None]
    assert ran
    for row in ran:
        assert row.measured is not None
        assert row.measured.outcome is Outcome.COMPLETED, f"{row}"
    far = [str(row) for row in ran if abs(row.used_error) > USED_WITHIN]
    assert not far, "\n".join(far)
    exact = [row for row in ran if row.is_exact]
    assert len(exact) >= EXACT * len(ran), "\n".join(str(row) for row in ran if not row.is_exact)
