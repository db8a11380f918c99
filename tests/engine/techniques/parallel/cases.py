"""What a rank does in a test: a whole run of the engine, and what it came to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event, TrainingStarted, UpdateDone
from engine.contract.records import Outcome, RunRecord
from engine.devices.base import Device
from engine.devices.cpu import CpuDevice
from engine.devices.virtual import VirtualDevice
from engine.techniques.parallel.several import several
from engine.techniques.parallel.together import Together
from engine.training.hub import Hub
from engine.training.run import Run, quiet_libraries
from engine.training.trainer import micro_step
from tests.engine.heard import Heard


@dataclass(kw_only=True)
class Told(Heard):
    """A run as one rank told it, and what it left."""

    outcome: Outcome
    message: str | None
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """Whole, on the host."""

    @property
    def norms(self) -> list[float]:
        return [update.grad_norm for update in self.updates if update.grad_norm is not None]

    @property
    def began(self) -> TrainingStarted:
        return next(event for event in self.events if isinstance(event, TrainingStarted))


def train(config: RunConfig, stops_at: tuple[int, int] | None = None, card: str | None = None) -> Told:
    """Run `config` in this process, with the others where it names several GPUs.

    On this machine's CPU, or on a virtual `card`. `stops_at`: this rank, after this update, is asked to stop.
    """
    device: Device = CpuDevice() if card is None else VirtualDevice(card, config)
    together = several(config, device.torch_device) if config.gpus != 1 else Together()
    events: list[Event] = []

    def should_stop() -> bool:
        done = sum(isinstance(event, UpdateDone) for event in events)
        return stops_at is not None and stops_at[0] == together.rank and done >= stops_at[1]

    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING, device=device.info)
    hub = Hub()
    hub.probe()
    quiet_libraries()
    device.reset_peaks()
    run = Run(
        record=record,
        device=device,
        hub=hub,
        emit=events.append,
        should_stop=should_stop,
        together=together,
        keeps_model=True,
    )
    done = run.execute()
    kept = run.kept
    weights = {} if kept is None else {name: _whole(p) for name, p in kept.model.named_parameters()}
    return Told(outcome=done.outcome, message=done.message, events=events, weights=weights)


def train_scaled(config: RunConfig, scale: float) -> Told:
    """As `train`, on a virtual card, with a loss scale that begins so high that gradients overflow."""
    began = torch.amp.GradScaler

    def scaler(device: str, enabled: bool) -> torch.amp.GradScaler:
        return began(device, init_scale=scale, enabled=enabled)

    with patch("torch.amp.GradScaler", scaler):
        return train(config, card="tesla-p4")


def train_with_nan(config: RunConfig, rank: int) -> Told:
    """As `train`; in one rank the losses are nan."""

    def step(*args: Any) -> torch.Tensor:
        loss = micro_step(*args)
        return loss * math.nan if dist.get_rank() == rank else loss

    with patch("engine.training.trainer.micro_step", step):
        return train(config)


def refusal(config: RunConfig) -> str:
    """What the run of `config` is refused with."""
    try:
        train(config)
    except ConfigError as error:
        return error.message
    return ""


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """As numpy would have it: no storage is shared with another process."""
    whole = tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach()
    return whole.float().clone()
