"""The forecast against this machine's GPU: memory, samples/s, and the verdict at the largest batch. Needs CUDA.

Each configuration is forecast with the context and the libraries that were measured on the card, then run in a process
of its own history; nothing that the runs teach is used. A card limited to the lecture's 7,611 MiB tells its story.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from engine.contract.config import RunConfig
from engine.contract.events import RunFinished, RunRefused
from engine.contract.forecast_types import Forecast
from engine.contract.records import Outcome, RunRecord
from engine.forecast.forecast import Assumptions, Forecaster
from engine.gpus.catalogue import Gpu
from engine.gpus.units import MIB
from engine.history.history import History
from engine.session.forecasts import gpu_of
from engine.session.session import Session
from engine.telemetry.nvml import Nvml
from tests.benchmarks.figures import Figure

BASE = RunConfig(device="cuda", model="bert-base-uncased")
UPDATES = 24
GPT2 = {"model": "gpt2", "task": "causal-lm"}
REVIEWS = {"workload": "reviews", "batch_size": 16, "eval_samples": 64, "epochs": 1}
TEXT = {**GPT2, "workload": "text", "batch_size": 4, "eval_samples": 32}
ROWS: tuple[dict[str, Any], ...] = (
    {"batch_size": 1},
    {"batch_size": 2},
    {"batch_size": 4},
    {"batch_size": 8},
    {"batch_size": 16},
    {"batch_size": 32},
    {"gradient_accumulation_steps": 4},
    {"gradient_checkpointing": "on"},
    {"gradient_checkpointing": "on", "batch_size": 16},
    {"gradient_checkpointing": "every-second"},
    {"attention": "eager"},
    {"precision": "tf32"},
    {"precision": "fp16"},
    {"precision": "bf16"},
    {"precision": "bf16", "batch_size": 32},
    {"precision": "bf16", "attention": "flash"},
    {"optimizer_implementation": "foreach", "batch_size": 1},
    {"optimizer_implementation": "loop", "batch_size": 1},
    {"optimizer": "sgd"},
    {"optimizer": "adafactor"},
    {"optimizer_in_backward": True, "max_grad_norm": 0.0, "batch_size": 1},
    {"model": "distilbert-base-uncased", "batch_size": 16},
    {"model": "bert-large-uncased", "batch_size": 4},
    {"model": "bert-large-uncased", "batch_size": 4, "gradient_checkpointing": "on"},
    {**GPT2, "batch_size": 4},
    {**GPT2, "batch_size": 4, "precision": "bf16"},
    {**REVIEWS, "padding": "longest"},
    {**REVIEWS, "padding": "bucketed"},
    {**REVIEWS, "padding": "max_length"},
    {**REVIEWS, "padding": "bucketed", "precision": "bf16", "gradient_checkpointing": "on"},
    {**TEXT, "padding": "packed"},
    {**TEXT, "padding": "longest"},
    {**TEXT, "padding": "packed", "precision": "bf16"},
)
LIMIT = 7611
VERDICTS = (8, 16, 24, 32)
"""Batch sizes of bert-base in `LIMIT` MiB, of which some fit and some do not."""


@dataclass(frozen=True)
class Row:
    """A configuration, what was said, and what was."""

    label: str
    told: Forecast
    measured: RunRecord

    @property
    def error(self) -> float:
        """Of used memory, in percent."""
        return (self.told.peak_used / (self.measured.peak_used or 1) - 1) * 100

    @property
    def speed(self) -> float | None:
        """Forecast by measured samples/s."""
        rate = self.measured.steady_samples_per_s
        return self.told.samples_per_s / rate if self.told.samples_per_s and rate else None

    def __str__(self) -> str:
        sizes = []
        for name in ("used", "reserved", "allocated"):
            ours, theirs = getattr(self.told, f"peak_{name}") / MIB, (getattr(self.measured, f"peak_{name}") or 0) / MIB
            sizes.append(f"{theirs:8.0f} {ours:8.0f} {100 * (ours / theirs - 1) if theirs else 0:+6.1f} %")
        rate, ours_rate = self.measured.steady_samples_per_s or 0, self.told.samples_per_s or 0
        return f"{self.label:<46} {'  '.join(sizes)}  {rate:8.1f} {ours_rate:8.1f}"


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Errors of memory and speed, and how many verdicts are right. Nothing where there is no GPU."""
    if not torch.cuda.is_available():
        print("gpu: no CUDA GPU here, nothing measured", file=sys.stderr)
        return
    logging.getLogger("traintop").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder, History(Path(folder) / "history.sqlite3") as history:
        session = Session(history)
        session.open()
        try:
            yield from _figures(session)
        finally:
            session.close(60.0)


def _figures(session: Session) -> Iterator[Figure]:
    gpu, _ = gpu_of(BASE, Nvml())
    given = _outside(session)
    forecaster = Forecaster()
    heads = "  ".join(f"{name:>8} forecast  error" for name in ("used", "reserved", "alloc."))
    print(f"{gpu.name}; PyTorch {torch.__version__}\n{'MiB':<46} {heads}  samples/s forecast", file=sys.stderr)
    rows = []
    for changes in ROWS:
        row = _row(session, forecaster, gpu, given, changes)
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    errors = [abs(row.error) for row in rows]
    yield Figure(
        name="forecast ÷ this GPU's memory, mean |error|", value=mean(errors), unit="%", goal=2.5, at_most=True
    )
    yield Figure(name="forecast ÷ this GPU's memory, worst", value=max(errors), unit="%", goal=5.0, at_most=True)
    speeds = [row.speed for row in rows if row.speed is not None]
    yield Figure(name="forecast ÷ this GPU's samples/s, before any run", value=median(speeds), rounds=speeds)
    right = 0
    for batch_size in VERDICTS:
        row = _row(session, forecaster, gpu, given, {"batch_size": batch_size, "vram_limit": LIMIT})
        print(
            f"{row}  {row.told.verdict}{' near' if row.told.near_limit else ''}: {row.measured.outcome.value}",
            file=sys.stderr,
        )
        right += row.told.fits == (row.measured.outcome is Outcome.COMPLETED) or row.told.near_limit
    yield Figure(name=f"verdicts right within {LIMIT} MiB", value=right, goal=len(VERDICTS), note=f"of {len(VERDICTS)}")


def _outside(session: Session) -> Assumptions:
    """Context, libraries and what else is on the card, from a first small run."""
    small = _run(session, BASE.with_values(samples=16))
    assert small.peak_used is not None
    assert small.peak_reserved is not None
    outside = small.peak_used - small.peak_reserved
    print(f"outside the allocator: {outside / MIB:.0f} MiB", file=sys.stderr)
    return Assumptions(context_bytes=outside, library_bytes=0)


def _row(session: Session, forecaster: Forecaster, gpu: Gpu, given: Assumptions, changes: dict[str, Any]) -> Row:
    config = BASE.with_values(**changes)
    config = config.with_values(samples=UPDATES * config.effective_batch_size)
    label = " ".join(str(value) for name, value in {"batch_size": 8, **changes}.items() if name != "task")
    return Row(label, forecaster.forecast(config, gpu, given), _run(session, config))


def _run(session: Session, config: RunConfig) -> RunRecord:
    session.start(config)
    while True:
        for event in session.wait(600):
            if isinstance(event, RunRefused):
                raise RuntimeError(event.message)
            if isinstance(event, RunFinished):
                if event.record.outcome not in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY):
                    raise RuntimeError(event.record.message)
                return event.record
