"""Readings, and a run as the history and the results table hold it. Standard library only.

Memory is in bytes, time in seconds, utilization in percent; None means unknown (shown as a dash, never as 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from engine.contract.answers import AnswerFigures
from engine.contract.conditions import Conditions
from engine.contract.config import RunConfig
from engine.contract.confusion import Confusion
from engine.contract.script_figures import ScriptFigures


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
    PREFILL = "prefill"
    DECODE = "decode"
    DRAFT = "draft"
    SAMPLE = "sampling"
    SCORE = "scoring"

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
    """CUDA ordinal: it counts what this process is shown."""
    memory_total: int | None = None  # in bytes: VRAM, or RAM on cpu
    memory_label: str = "VRAM"
    """What the memory pane measures: `VRAM`, or `RAM` (the process's memory) on cpu."""
    gpu_index: int | None = None
    """The number that nvidia-smi gives a CUDA GPU; None where the driver shows no other one."""
    uuid: str | None = None
    """Of a CUDA GPU or MIG instance, as `nvidia-smi -L` prints it."""
    software: str | None = None
    """Of a CUDA GPU: driver, CUDA and PyTorch with their versions, which what a run takes depends on."""

    @property
    def card(self) -> tuple[str, str, str | None, int | None]:
        """What tells one device from another: not its numbers, which depend on who is shown what, nor the software."""
        return self.kind, self.name, self.uuid, self.memory_total

    @property
    def is_of_several(self) -> bool:
        """Whether it is a CUDA GPU beside others, so that its name alone does not tell which."""
        return bool(self.index) or self.gpu_index is not None

    @property
    def numbers(self) -> str:
        """A CUDA GPU's numbers, `cuda:1 = gpu 3` where CUDA and nvidia-smi count differently; empty for another."""
        if self.kind != "cuda" or self.index is None:
            return ""
        same = self.gpu_index is None or self.gpu_index == self.index
        return f"cuda:{self.index}" if same else f"cuda:{self.index} = gpu {self.gpu_index}"

    @property
    def sixteen_bits(self) -> str:
        """The 16-bit precision to advise here: `bf16`, or `fp16` for a GPU that has no bf16."""
        from engine.gpus.catalogue import sixteen_bits  # the first paint does without

        return "bf16" if self.kind == "cpu" else sixteen_bits(self.name)

    @property
    def is_virtual(self) -> bool:
        """Whether this machine's CPU computes in the card's place: then all that is timed is the CPU's."""
        return self.kind == "virtual"


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
    waiting: float = 0.0
    """For other ranks, and for what is sent between them while nothing else is computed: in none of the others."""
    other: float = 0.0
    """Of a user's own script: what it does between an optimizer's step and the next batch, such as logging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInfo:
    """One rank of a run on several GPUs: a process with a card of its own."""

    rank: int
    device: DeviceInfo
    host: str
    """The machine's name."""
    pid: int
    log_path: str | None = None
    """Where what it prints goes; None where it has no file of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShare:
    """What one rank did in an update, and what it holds."""

    rank: int
    n_samples: int | None
    """None, as the tokens, where a user's own script does not show it."""
    n_tokens: int | None
    update_s: float
    shares: Shares
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run is within a step that takes long."""

    phase: Phase
    layer: int | None = None
    """From 1 to `layers`; 0 for what comes before the first, `layers + 1` for what comes after the last."""
    layers: int | None = None
    """None, with `layer`, where a model's layers cannot be counted."""
    micro_step: int = 1
    """Of its update, counted from 1."""
    micro_steps: int = 1
    request: int | None = None
    """Of a run that answers: the first of those being answered, counted from 1; 0 while it warms up."""
    requests: int = 0
    token: int = 0
    """Of its answer, counted from 1: the one being written."""
    tokens: int = 0
    """The most that it can have."""

    @property
    def words(self) -> str:
        """As people read it: `layer 7 of 12, backward`, or `request 3 of 8, token 57 of 128, decode`."""
        parts = [self.phase.noun]
        if self.layer is not None and self.layers is not None:
            inner = f"layer {self.layer} of {self.layers}" if self.layer <= self.layers else "head"
            parts.insert(0, inner if self.layer else "embeddings")
        if self.micro_steps > 1:
            parts.insert(0, f"micro-step {self.micro_step} of {self.micro_steps}")
        if self.request is not None:
            if self.token:
                parts.insert(0, f"token {self.token:,} of {self.tokens:,}")
            parts.insert(0, f"request {self.request:,} of {self.requests:,}" if self.request else "warm-up")
        return ", ".join(parts)


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
    lost: bool = False
    """True while the GPU does not answer at all: then nothing else is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """One psutil reading of the host and of this process."""

    cpu: float | None = None  # in percent of all cores
    process_cpu: float | None = None  # in percent of one core
    memory_used: int | None = None  # in bytes
    memory_total: int | None = None  # in bytes
    process_memory: int | None = None  # in bytes, resident
    cores: float | None = None
    """That this process may use: logical processors, less what affinity and quotas withhold."""
    free_cores: float | None = None
    """Of them, since the reading before: not taken by other programs or the hypervisor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as the history and the results table hold it: known in part while it runs, whole at its end."""

    run_id: int
    config: RunConfig
    outcome: Outcome
    device: DeviceInfo | None = None
    started_at: float | None = None  # Unix time
    host: str | None = None
    """The machine's name."""
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
    """Of the steady updates, padding included. Of answers: read, without padding, and written, over their time."""
    forecast_samples_per_s: float | None = None
    """Of a virtual GPU: the card's samples/s by forecast. What is measured there is the speed of this machine's CPU."""
    mfu: float | None = None
    """Model FLOPs utilization: the model's FLOP/s in steady updates ÷ the GPU's peak (0 to 1); None where unknown."""
    train_loss: float | None = None
    """Mean over updates, as the Trainer reports it."""
    last_loss: float | None = None
    eval_accuracy: float | None = None
    """Of the last evaluation, as are the figures that follow."""
    eval_loss: float | None = None
    eval_macro_f1: float | None = None
    eval_confusion: Confusion | None = None
    label_names: tuple[str, ...] | None = None
    """The classes of the confusion, by index."""
    best_update: int | None = None
    """After which the best evaluation was, by the knob `metric_for_best_model`; its figures are those that follow."""
    best_epoch: float | None = None
    best_accuracy: float | None = None
    best_loss: float | None = None
    best_macro_f1: float | None = None
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
    conditions: Conditions | None = None
    """What it met on its card that is none of its own doing."""
    energy: float | None = None
    """Joules that the card took while it trained, as long as `train_runtime_s`; its neighbours' are in there too."""
    energy_source: str | None = None
    """`counter`: the card's own; `power`: readings of its power added up over time, at least for a part."""
    threads: int | None = None
    """That computed at once in this process."""
    host_cores: float | None = None
    """That the process could use while it trained."""
    host_free_cores: float | None = None
    """Of them, on average: not taken by other programs or the hypervisor."""
    resumed_from: int | None = None
    """The run whose checkpoint it went on with; its figures are those of the whole training."""
    resumed_at: int | None = None
    """The last update of that checkpoint."""
    peak_used_by_rank: tuple[int | None, ...] = ()
    """Bytes, in the order of the ranks; empty with one GPU. `peak_used` and its like are those of the fullest."""
    wait_share: float | None = None
    """Of the steady updates' time, the mean of all ranks: what was waited for others (0 to 1)."""
    answer: AnswerFigures | None = None
    """Of a run that answers; then what above is said of updates and losses is unknown."""
    script: ScriptFigures | None = None
    """Of a user's own script; what above was not seen in it is unknown."""
    failed_rank: int | None = None
    """Which of several ranks it was that failed, or ran out of memory."""
    failed_phase: Phase | None = None
    message: str | None = None
    """One sentence on how it ended, where there is something to say."""
