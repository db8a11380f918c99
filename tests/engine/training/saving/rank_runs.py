"""What a rank does in a test of saving: a run that goes on with the newest checkpoint of its folder, if any."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from engine.contract.config import RunConfig
from engine.contract.events import EvalDone, Event, Saved, UpdateDone
from engine.contract.records import Outcome
from engine.contract.run_figures import new_record
from engine.devices.cpu import CpuDevice
from engine.techniques.parallel.several import several
from engine.tracing.own_part import own_part
from engine.training.hub import Hub
from engine.training.run import Run, quiet_libraries
from engine.training.saving.places import checkpoints_in


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A rank's run, over."""

    outcome: Outcome
    message: str | None
    losses: list[float]
    scores: list[float]
    problems: dict[tuple[str, int], str | None]
    """By what was written, and after which update."""
    weights: str
    """A digest of what this rank holds of all of them."""
    whole: dict[str, torch.Tensor]
    """All of them, as PyTorch itself gathers them."""
    resumed_at: int | None


def go(
    config: RunConfig, run_id: int = 1, *, dies: tuple[int, str, int] | None = None, full: int | None = None
) -> Ended:
    """One run. `dies`: a rank, what it meets, and the how manieth time it is killed: `update`, or one of `_arm`'s.

    `full`: a rank whose disk takes no more after the first checkpoint.
    """
    quiet_libraries()
    device, rank = CpuDevice(), dist.get_rank()
    device.reset_peaks()
    found = checkpoints_in(Path(config.output_dir or ""))
    goes_on = found[-1] if found else None
    events: list[Event] = []
    armed = dies is not None and dies[0] in (rank, -1)
    put_back = _arm(*dies[1:]) if armed and dies is not None else lambda: None

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, UpdateDone) and armed and dies is not None and dies[1:] == ("update", event.update):
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(event, Saved) and event.what == "checkpoint" and full == rank:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    run = Run(
        record=new_record(run_id, config, device.info, 1_700_000_000.0 + run_id),
        device=device,
        hub=Hub(),
        emit=emit,
        should_stop=lambda: False,
        goes_on=goes_on,
        together=several(config, device.torch_device),
        keeps_model=True,
    )
    run.hub._answered.set()
    try:
        record = run.execute()
    finally:
        put_back()
        soft = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, soft))
    return Ended(
        outcome=record.outcome,
        message=record.message,
        losses=[event.loss for event in events if isinstance(event, UpdateDone)],
        scores=[event.loss for event in events if isinstance(event, EvalDone)],
        problems={(e.what, e.update): e.problem for e in events if isinstance(e, Saved)},
        weights="" if run.kept is None else _digest(run.kept.model),
        whole={} if run.kept is None else {n: _whole(p) for n, p in run.kept.model.named_parameters()},
        resumed_at=record.resumed_at,
    )


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    whole = tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach()
    return whole.clone()


def _digest(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + own_part(tensor).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _arm(what: str, number: int) -> Any:
    """Have this process killed before it does `what` for the `number`th time."""
    from engine.training.saving import keeper, parts, whole

    owners: dict[str, tuple[Any, str]] = {
        "write_state": (keeper, "write_state"),
        "parts": (parts, "save"),
        "meta": (keeper.places, "write_meta"),
        "rename": (whole.Path, "rename"),
    }
    if what not in owners:
        return lambda: None
    owner, name = owners[what]
    called, n = getattr(owner, name), 0

    def call(*values: Any, **more: Any) -> Any:
        nonlocal n
        n += 1
        if n == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return called(*values, **more)

    setattr(owner, name, call)
    return lambda: setattr(owner, name, called)
