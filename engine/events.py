"""Every type that crosses the thread boundary, both directions. Standard library only; no tensor, no exception.

Screen to engine: `RunConfig` through `Session`. Engine to screen: the `Event` union below, read from the mailbox.
Memory is in bytes, time in seconds, utilization in percent; None means unknown (shown as a dash, never as 0).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from engine.config import RunConfig
from engine.memory.forecast_types import Forecast, Proposal
from engine.units import to_mib


class Outcome(str, Enum):
    """How a run ended. `RUNNING` is in the history only, while the run is under way."""

    RUNNING = "running"
    COMPLETED = "completed"
    OUT_OF_MEMORY = "out_of_memory"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Phase(str, Enum):
    """What a run is doing; an out-of-memory names the phase it died in."""

    DATA = "data"
    LOAD = "load"
    FORWARD = "forward"
    BACKWARD = "backward"
    CLIP = "clip"
    OPTIMIZER = "optimizer"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """The device that runs are placed on."""

    name: str
    """As NVML or the operating system calls it: `Tesla P4`, `Intel Xeon`."""
    kind: str
    """`cuda`, `cpu` or `virtual`."""
    index: int | None = None
    """CUDA ordinal."""
    memory_total: int | None = None  # in bytes: VRAM, or RAM on cpu
    memory_label: str = "VRAM"
    """What the memory pane measures: `VRAM`, or `RAM` (the process's memory) on cpu."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One reading of the device's memory, in bytes. On cpu only `used` (the process's RSS) is known."""

    used: int | None = None
    """The whole device as NVML says, all processes; the process's resident memory on cpu."""
    reserved: int | None = None
    """The caching allocator's segments."""
    allocated: int | None = None
    """Live tensors."""
    peak_used: int | None = None
    peak_reserved: int | None = None
    peak_allocated: int | None = None
    total: int | None = None
    alloc_retries: int | None = None
    """Times, so far, that the caching allocator gave memory back and asked the device again: a count, not bytes."""
    by_category: dict[str, int] | None = None
    """Allocated bytes by category (weights, gradients, optimizer, activations, ...), where it is tracked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Seconds of one update by what they were spent on; they sum to the update's wall time."""

    data: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    optimizer: float = 0.0
    """Clipping, the optimizer's step and zero_grad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One NVML reading of one GPU; each field None where the driver or the card does not say."""

    name: str | None = None
    utilization: float | None = None  # in percent of the sample period a kernel was running
    memory_utilization: float | None = None  # in percent of the period memory was read or written
    memory_used: int | None = None  # in bytes, all processes
    memory_total: int | None = None  # in bytes
    power: float | None = None  # in watts
    power_limit: float | None = None  # in watts
    temperature: int | None = None  # in degrees Celsius
    sm_clock: int | None = None  # in MHz
    memory_clock: int | None = None  # in MHz


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """One psutil reading of the host and of this process."""

    cpu: float | None = None  # in percent of all cores
    process_cpu: float | None = None  # in percent of one core
    memory_used: int | None = None  # in bytes
    memory_total: int | None = None  # in bytes
    process_memory: int | None = None  # in bytes, resident


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as the history and the results table hold it: known in part while it runs, whole at its end."""

    run_id: int
    config: RunConfig
    outcome: Outcome
    device: DeviceInfo | None = None
    started_at: float | None = None  # Unix time
    updates: int = 0
    planned_updates: int | None = None
    train_runtime_s: float | None = None
    """From the first micro-step to the last update, evaluation after epochs included, as the Trainer counts."""
    samples_per_s: float | None = None
    """Samples of the whole training / train_runtime_s: the lecture's figure."""
    steady_samples_per_s: float | None = None
    """Median over updates after warm-up."""
    steady_spread: float | None = None
    """Half the distance between the 16th and the 84th percentile of the updates' samples/s."""
    tokens_per_s: float | None = None
    """Of the steady updates, padding included."""
    mfu: float | None = None
    """Model FLOPs utilization: the model's FLOP/s in steady updates ÷ the GPU's peak (0 to 1); None where unknown."""
    train_loss: float | None = None
    """Mean over updates, as the Trainer reports it."""
    last_loss: float | None = None
    eval_accuracy: float | None = None
    eval_loss: float | None = None
    n_eval: int | None = None
    """Held-out samples that the accuracy counts."""
    n_parameters: int | None = None
    peak_used: int | None = None  # bytes
    peak_reserved: int | None = None  # bytes
    peak_allocated: int | None = None  # bytes
    memory_total: int | None = None  # bytes
    failed_phase: Phase | None = None
    message: str | None = None
    """One sentence on how it ended, where there is something to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoading:
    """The engine thread is importing or opening something; `what` is shown with an ellipsis."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReady:
    """The engine can run. `device` is what `auto` resolves to."""

    device: DeviceInfo
    torch_version: str
    import_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFailed:
    """The engine cannot run at all: one sentence with the fix."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRefused:
    """A configuration that this device, model or data cannot run. It keeps no row; `knob` is at fault."""

    run_id: int | None
    """The row that it had while it loaded, and that is gone; None when it was refused before that."""
    config: RunConfig
    knob: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The run has its row in the history; loading begins."""

    run_id: int
    config: RunConfig
    device: DeviceInfo
    started_at: float  # Unix time


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """The run entered a phase that takes time, in words: `loading bert-tiny`, `training a vocabulary`."""

    run_id: int
    phase: Phase
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMoment:
    """The lecture's transcript: memory at `start`, `context`, `model` and `trained`."""

    run_id: int
    moment: str
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStarted:
    """Model and data are on the device."""

    run_id: int
    n_parameters: int
    n_train: int
    n_eval: int
    planned_updates: int
    micro_steps_per_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCounted:
    """What a run on a real GPU computes, counted on a trace, and the most that the GPU can: together they give MFU."""

    run_id: int
    flops_per_token: float
    """Forward and backward of the model, without what checkpointing computes again."""
    peak_flops_per_s: float
    """Of the run's precision, dense."""

    def mfu(self, tokens_per_s: float) -> float:
        """Model FLOPs utilization at this speed, 0 to 1."""
        return tokens_per_s * self.flops_per_token / self.peak_flops_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroStepDone:
    """One forward and backward. Carries no loss: reading it would make the host wait for the device."""

    run_id: int
    micro_step: int
    """Counted from 1 over the whole run."""
    micro_steps: int
    t: float  # seconds since training started


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateDone:
    """One optimizer step."""

    run_id: int
    update: int
    """Counted from 1."""
    epoch: float
    loss: float
    """Mean over the update's window."""
    learning_rate: float
    grad_norm: float | None
    """Before clipping; None when clipping is off."""
    loss_scale: float | None
    skipped: bool
    """fp16 only: gradients overflowed and the step was not taken."""
    n_samples: int
    n_tokens: int
    update_s: float
    warmup: bool
    """True for the first updates, which pay for allocation and compilation and are left out of steady figures."""
    t: float  # seconds since training started
    shares: Shares
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalDone:
    """The held-out part was scored at the end of an epoch."""

    run_id: int
    epoch: float
    update: int
    accuracy: float | None
    loss: float
    n_samples: int
    eval_s: float
    t: float  # seconds since training started


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The sampler's reading, twice a second, also when nothing trains."""

    run_id: int | None
    t: float | None
    """Seconds since the run's training started; None outside training."""
    gpu: GpuSample | None
    host: HostSample
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A line of the log pane: what the engine says, or what its libraries printed or warned."""

    source: str
    """`engine`, `stdout`, `stderr`, `warning` or a logger's name."""
    text: str
    level: str = "info"
    """`info`, `warning` or `error`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """The run's row is complete and saved."""

    record: RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStarted:
    """A plan has its row in the history; its runs follow."""

    plan_id: int
    name: str
    title: str
    total: int | None
    """How many runs it has; None where a search decides."""
    done: int = 0
    """How many of them an earlier process did, where the plan goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProgress:
    """A plan came to its next run, passed one over, or was paused or continued."""

    plan_id: int
    position: int
    """Of the run that begins, is passed over, or was the last one; counted from 1."""
    total: int | None
    label: str
    repeat: int = 1
    skipped: str | None = None
    """Why the run at this position is not run."""
    finding: str | None = None
    """What a search that is over found."""
    paused: bool = False
    """True while the plan waits: no run begins until it is continued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFinished:
    """A plan is over, or was stopped and can go on later."""

    plan_id: int
    name: str
    completed: bool
    """False when it was stopped before its end."""
    done: int
    """Runs that are over, those of an earlier process included."""
    total: int | None
    findings: tuple[str, ...] = ()
    """What its searches found, a sentence each."""
    failed: bool = False
    """True when it could not go on; False when it was stopped or came to its end."""
    message: str | None = None
    """One sentence on why it ended early, where there is something to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasted:
    """What was asked with `Session.forecast`."""

    config: RunConfig
    forecast: Forecast | None
    """None where there is none to make; `message` says why."""
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What was asked with `Session.propose`: what would fit instead of a run that was out of memory."""

    run_id: int
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsDropped:
    """The mailbox was full: this many frequent readings were dropped. The history still has them."""

    count: int


Event = (
    EngineLoading
    | EngineReady
    | EngineFailed
    | RunRefused
    | RunStarted
    | RunProgress
    | MemoryMoment
    | TrainingStarted
    | WorkCounted
    | MicroStepDone
    | UpdateDone
    | EvalDone
    | Sampled
    | Logged
    | RunFinished
    | PlanStarted
    | PlanProgress
    | PlanFinished
    | Forecasted
    | Proposed
    | EventsDropped
)

FREQUENT = (MicroStepDone, UpdateDone, Sampled, Logged)
"""Kinds that a full mailbox may drop, oldest first; everything else is always delivered."""

_BYTES = {f.name for f in fields(Memory)} - {"by_category", "alloc_retries"} | {
    "process_memory",
    "memory_used",
    "memory_total",
}


def event_name(event: object) -> str:
    """`run_finished` for `RunFinished`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def to_json(event: Event) -> dict[str, Any]:
    """An event as the JSON object that `run --json` prints: sizes in MiB under names ending in `_mib`."""
    if isinstance(event, RunFinished):
        return {"event": "run_finished", **record_to_json(event.record)}
    return {"event": event_name(event), **_plain(event)}


def record_to_json(record: RunRecord) -> dict[str, Any]:
    """The fields of a finished run that other programs rely on, null where unknown."""
    return {
        "run_id": record.run_id,
        "outcome": record.outcome.value,
        "config": record.config.to_dict(),
        "device": record.device.name if record.device else None,
        "device_kind": record.device.kind if record.device else None,
        "started_at": record.started_at,
        "train_runtime_s": record.train_runtime_s,
        "samples_per_s": record.samples_per_s,
        "steady_samples_per_s": record.steady_samples_per_s,
        "steady_spread": record.steady_spread,
        "tokens_per_s": record.tokens_per_s,
        "mfu": record.mfu,
        "updates": record.updates,
        "planned_updates": record.planned_updates,
        "train_loss": record.train_loss,
        "last_loss": record.last_loss,
        "eval_accuracy": record.eval_accuracy,
        "eval_loss": record.eval_loss,
        "n_eval": record.n_eval,
        "n_parameters": record.n_parameters,
        "peak_used_mib": to_mib(record.peak_used),
        "peak_reserved_mib": to_mib(record.peak_reserved),
        "peak_allocated_mib": to_mib(record.peak_allocated),
        "vram_total_mib": to_mib(record.memory_total),
        "failed_phase": record.failed_phase.value if record.failed_phase else None,
        "message": record.message,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, RunConfig):
        return value.to_dict()
    if not is_dataclass(value):
        return value.value if isinstance(value, Enum) else value
    plain: dict[str, Any] = {}
    for f in fields(value):
        inner = getattr(value, f.name)
        if f.name in _BYTES and not is_dataclass(inner):
            plain[f"{f.name}_mib"] = to_mib(inner)
        elif f.name == "by_category":
            plain["by_category_mib"] = inner and {name: to_mib(size) for name, size in inner.items()}
        else:
            plain[f.name] = _plain(inner)
    return plain
