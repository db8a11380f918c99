"""Runs on the lecture's Tesla P4, and text that means harm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.gpus.units import MIB

P4 = DeviceInfo(name="Tesla P4", kind="cuda", index=0, memory_total=7611 * MIB)
V100 = DeviceInfo(name="Tesla V100", kind="cuda", index=0, memory_total=16160 * MIB)
VIRTUAL = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=7611 * MIB)
CPU = DeviceInfo(name="Intel Xeon", kind="cpu", memory_total=16_000 * MIB, memory_label="RAM")
BASE = RunConfig(model="bert-base-uncased")
CHECKPOINTED = BASE.with_values(gradient_checkpointing="on")
HOSTILE = "[bold]|\\|`x`*_%$#&{}~^<b>\x1b[31m\x00\r\n@team https://x.y \u202eü 中 \ud800"


def run(run_id: int = 1, config: RunConfig = BASE, rate: float | None = 7.68, **values: Any) -> RunRecord:
    """A completed run of 64 updates at `rate` samples/s."""
    record = RunRecord(
        run_id=run_id,
        config=config,
        outcome=Outcome.COMPLETED,
        device=P4,
        started_at=1_700_000_000.25,
        updates=64,
        planned_updates=64,
        train_runtime_s=512 / rate if rate else None,
        samples_per_s=rate,
        steady_samples_per_s=rate,
        steady_spread=0.03 if rate else None,
        train_loss=0.029,
        peak_used=7069 * MIB,
        memory_total=7611 * MIB,
    )
    return replace(record, **values)


def lecture() -> list[RunRecord]:
    """Three rows of the lecture: the baseline, checkpointing, and a batch that is too large."""
    broken = run(
        3, BASE.with_values(batch_size=9), None, outcome=Outcome.OUT_OF_MEMORY, train_loss=None, peak_used=None
    )
    return [run(), run(2, CHECKPOINTED, 512 / 93.07, peak_used=3619 * MIB), broken]


def virtual() -> list[RunRecord]:
    """The lecture's trade on a virtual P4: the CPU's own rates, and the card's by forecast."""
    base = run(rate=2.0, device=VIRTUAL, forecast_samples_per_s=7.5)
    dear = run(2, CHECKPOINTED, 0.8, device=VIRTUAL, forecast_samples_per_s=5.0, peak_used=3619 * MIB)
    return [base, dear]
