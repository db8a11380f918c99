"""Whole runs on this machine's CPU, without a session: what each told, and what it left on the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.contract.config import RunConfig, Value
from engine.contract.events import Event, Saved, UpdateDone
from engine.contract.records import RunRecord
from engine.contract.run_figures import new_record
from engine.devices.cpu import CpuDevice
from engine.devices.open import open_device
from engine.telemetry.nvml import door
from engine.training.hub import Hub
from engine.training.run import Run
from engine.training.saving.model_folder import Trained
from engine.training.saving.places import Checkpoint, checkpoints_in
from tests.engine.heard import Heard
from tests.engine.make_reviews import write_reviews
from tests.engine.model_folders import model_folder

__all__ = ["Whole", "do", "newest", "small"]


@dataclass(kw_only=True)
class Whole(Heard):
    """A run that is over."""

    record: RunRecord
    trained: Trained

    @property
    def scores(self) -> list[tuple[int, float]]:
        return [(event.update, event.loss) for event in self.evaluations]

    @property
    def saved(self) -> list[Saved]:
        return [event for event in self.events if isinstance(event, Saved)]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return dict(self.trained.model.state_dict())


def small(root: Path, family: str = "bert", **knobs: Value) -> RunConfig:
    """A training of a second on 60 reviews: two epochs, accumulation, dropout, a checkpoint every 3 updates."""
    data = root / "reviews.csv"
    if not data.exists():
        write_reviews(data, 60, seed=1)
    values: dict[str, Value] = {
        "model": model_folder(root, family),
        "data": str(data),
        "workload": "reviews",
        "device": "cpu",
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "seq_len": 24,
        "samples": 22,
        "eval_samples": 12,
        "epochs": 2,
        "save_steps": 3,
        "learning_rate": 1e-3,
        "output_dir": str(root / "out"),
    }
    return RunConfig.from_dict({**values, **knobs})


def do(
    config: RunConfig,
    run_id: int = 1,
    goes_on: Checkpoint | None = None,
    stop_after: int | None = None,
    see: Callable[[Event], None] = lambda event: None,
) -> Whole:
    """Run to the end, or until it has been asked to stop after an update. Raises `ConfigError` as a run does."""
    events: list[Event] = []
    stopping: list[bool] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, UpdateDone) and event.update == stop_after:
            stopping.append(True)
        see(event)

    device = CpuDevice() if config.device == "cpu" else open_device(config, door())
    device.reset_peaks()
    run = Run(
        record=new_record(run_id, config, device.info, 1_700_000_000.0 + run_id),
        device=device,
        hub=Hub(),
        emit=emit,
        should_stop=lambda: bool(stopping),
        goes_on=goes_on,
        keeps_model=True,
    )
    run.hub._answered.set()
    record = run.execute()
    assert run.kept is not None, record.message
    return Whole(record=record, trained=run.kept, events=events)


def newest(folder: Path) -> Checkpoint:
    """The newest whole checkpoint in a folder."""
    return checkpoints_in(folder)[-1]
