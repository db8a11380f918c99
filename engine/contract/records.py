"""Readings, and a run as the history and the results table hold it. Standard library only.

Memory is in bytes, time in seconds, utilization in percent; None means unknown (shown as a dash, never as 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from engine.contract.config import RunConfig


class Outcome(str, Enum):
    """How a run ended. `RUNNING` is in the history only, while the run is under way."""

    RUNNING = "running"
    COMPLETED = "completed"
    OUT_OF_MEMORY = "out_of_memory"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def words(self) -> str:
        """As people read it: `out of memory`."""
        return self.value.replace("_", " ")


class Phase(str, Enum):
    """What a run is doing; an out-of-memory names the phase it died in."""

    DATA = "data"
    LOAD = "load"
    FORWARD = "forward"
    BACKWARD = "backward"
    CLIP = "clip"
    OPTIMIZER = "optimizer"
    EVALUATE = "evaluate"

    @property
    def noun(self) -> str:
        """As sentences say where a run is: in `forward`, in `evaluation`."""
        return "evaluation" if self is Phase.EVALUATE else self.value


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
    eval_majority: float | None = None
    """The share of the held-out samples' largest class, 0 to 1."""
    n_train: int | None = None
    """Samples of an epoch."""
    n_parameters: int | None = None
    peak_used: int | None = None  # bytes
    peak_reserved: int | None = None  # bytes
    peak_allocated: int | None = None  # bytes
    memory_total: int | None = None  # bytes
    failed_phase: Phase | None = None
    message: str | None = None
    """One sentence on how it ended, where there is something to say."""
