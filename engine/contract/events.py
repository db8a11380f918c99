"""What the engine tells: the `Event` union, read from the mailbox. No tensor and no exception crosses.

Standard library only. Memory is in bytes, time in seconds, utilization in percent; None means unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.answers import AnswerShares
from engine.contract.cards import CardProcess
from engine.contract.changes import Change
from engine.contract.choices import CardChoice
from engine.contract.config import RunConfig
from engine.contract.confusion import Confusion
from engine.contract.forecast_types import Forecast, Foretold, Proposal
from engine.contract.job import BatchJob
from engine.contract.records import (
    DeviceInfo,
    GpuSample,
    HostSample,
    Memory,
    Phase,
    Place,
    RankInfo,
    RankShare,
    RunRecord,
    Shares,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoading:
    """The engine thread is importing or opening something; `what` is shown with an ellipsis."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReady:
    """The engine can run. `device` is the one that was asked for; where that is not there, what `auto` stands for."""

    device: DeviceInfo
    torch_version: str
    import_s: float
    note: str | None = None
    """A sentence that should be known about the device, such as why the machine's GPU is not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChosen:
    """The device that the next run would be placed on, and that is read until then. Told while nothing runs."""

    device: DeviceInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFailed:
    """The engine cannot run at all: one sentence with the fix."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Who else computes on the card that is read, told when it changes; empty: nobody any more."""

    device: DeviceInfo
    processes: tuple[CardProcess, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKnown:
    """The batch job that the engine runs in: at the start, and again when its time limit is known."""

    job: BatchJob


@dataclass(frozen=True, slots=True, kw_only=True)
class WontEnd:
    """What begins now will not end before the batch job does, in a sentence."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRefused:
    """A configuration that this device, model or data cannot run. It keeps no row; `knob` is at fault."""

    run_id: int | None
    """The row that it had while it loaded, and that is gone; None when it was refused before that."""
    config: RunConfig
    knob: str
    message: str
    no_history: bool = False
    """True when nothing is wrong with the configuration, but the history could not give the run its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The run has its row in the history; loading begins."""

    run_id: int
    config: RunConfig
    device: DeviceInfo
    started_at: float  # Unix time


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksStarted:
    """The processes of a run on several GPUs are there, each on its card; loading begins in them."""

    run_id: int
    ranks: tuple[RankInfo, ...]
    """In their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBeat:
    """A rank is alive, and this is where it stands: once a second from each."""

    run_id: int
    rank: int
    phase: Phase
    update: int
    """The one that it works on, counted from 1; 0 while it loads."""
    since_s: float
    """Seconds that it has been there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """The run entered a phase that takes time, in words: `loading bert-tiny`, `training a vocabulary`."""

    run_id: int
    phase: Phase
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMoment:
    """The lecture's transcript: memory at `start`, `context`, `model` and `trained` (`end` where loading failed)."""

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
    threads: int | None = None
    """That compute at once in this process."""
    majority: float | None = None
    """The share of the held-out samples' largest class, 0 to 1: what always answering it scores."""
    label_names: tuple[str, ...] = ()
    """The classes' names by index; empty where there are no classes, or too many for a table."""
    resumed_from: int | None = None
    """The run whose checkpoint this one goes on with: what that one told up to there follows, as told by this one."""
    resumed_at: int | None = None
    """The last update of that checkpoint."""
    resumed_s: float = 0.0
    """Seconds of training in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCounted:
    """What a run on a real GPU computes, counted on a trace, and the most that the GPU can: together they give MFU."""

    run_id: int
    flops_per_token: float
    """Forward and backward of the model, without what checkpointing computes again."""
    peak_flops_per_s: float
    """Of the run's precision, dense, all GPUs together."""

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
    """One optimizer step. Of a user's own script what is not seen is None."""

    run_id: int
    update: int
    """Counted from 1."""
    epoch: float | None
    loss: float | None
    """Mean over the update's window."""
    learning_rate: float | None
    grad_norm: float | None
    """Before clipping; None when nothing is clipped."""
    loss_scale: float | None
    skipped: bool
    """fp16 only: gradients overflowed and the step was not taken."""
    n_samples: int | None
    n_tokens: int | None
    update_s: float
    warmup: bool
    """True for the first updates, which pay for allocation and compilation and are left out of steady figures."""
    t: float  # seconds since training started
    shares: Shares
    """Of several ranks the mean."""
    memory: Memory
    """Of several ranks that of the fullest."""
    ranks: tuple[RankShare, ...] = ()
    """In their order; empty with one GPU. Samples and tokens are those of all, `update_s` the longest."""
    n_updates: int = 1
    """That it is told for, up to `update`: of a script's that come too fast to be told one by one several. Seconds,
    samples and tokens are then of all of them, and the loss is their mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptKnown:
    """What is known of the training that a user's own script does: told when it trains, and again as more is known."""

    run_id: int
    n_parameters: int | None = None
    """Of the model that holds what is trained; None where it is not found."""
    n_trained: int | None = None
    """Elements of what the optimizer steps."""
    planned_updates: int | None = None
    """By the trainer that the script uses; None where it has none, or none that tells."""
    planned_epochs: float | None = None
    gradient_accumulation_steps: int | None = None
    """Micro-steps of an update, as seen or as the trainer says."""
    model: str | None = None
    """The class of the model."""
    optimizer: str | None = None
    """The class of the optimizer."""
    told_by: str | None = None
    """`transformers` or `lightning`: the trainer whose logs are read; None: a plain loop."""
    torch_version: str | None = None
    batch_size: int | None = None
    """Samples of a micro-step of one process, the usual number."""
    frozen: int | None = None
    """Bytes of the model's parameters and buffers that are not trained; among the weights of `UpdateDone.memory`."""
    n_processes: int | None = None
    """That train together."""
    switched_off: str | None = None
    """Why the instrument was switched off, where it was."""
    log_path: str | None = None
    """What the script prints to stdout; what goes to stderr is beside it, in `run-N.err.log`."""
    t: float = 0.0  # seconds since training started


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureLogged:
    """Figures that a script's trainer logged by name, those of an evaluation among them."""

    run_id: int
    update: int
    figures: dict[str, float]
    t: float  # seconds since training started


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalDone:
    """The held-out part was scored: at the end of an epoch, or every so many updates."""

    run_id: int
    epoch: float
    update: int
    accuracy: float | None
    loss: float
    n_samples: int
    eval_s: float
    t: float  # seconds since training started
    macro_f1: float | None = None
    """The mean of the classes' F1; None where there are no classes, or too many."""
    confusion: Confusion | None = None
    """None where there are no classes, or too many for a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Something was written to the disk for the user, or could not be: then the run goes on."""

    run_id: int
    what: str
    """`checkpoint`; `best`, `last`: the model after its best evaluation, after its last update; `model`: asked for."""
    update: int
    path: str
    seconds: float
    """That the run waited for it."""
    problem: str | None = None
    """One sentence on why it is not there."""

    @property
    def words(self) -> str:
        """As people read it: `checkpoint at update 40 kept in 0.3 s: /home/me/out/checkpoint-40`."""
        if self.problem is not None:
            return self.problem
        what = self.what if self.what == "checkpoint" else "model" if self.what == "model" else f"{self.what} model"
        return f"{what} at update {self.update:,} kept in {self.seconds:.1f} s: {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringStarted:
    """Model and prompts are there; the first request begins."""

    run_id: int
    n_parameters: int
    n_requests: int
    """Without those that warm up."""
    n_warmup: int
    prompt_tokens: int
    """Of the longest prompt."""
    max_new_tokens: int
    weights: int  # bytes
    kv_per_token: int
    """Bytes of keys and values that one token of one sequence takes, a draft model's with them; 0 without a cache."""
    draft_parameters: int | None = None
    draft_weights: int | None = None  # bytes
    threads: int | None = None
    """That compute at once in this process."""
    compared: bool = False
    """Whether a sample of the answers is compared with plain `generate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled:
    """The first token of a batch of requests is there: `t` is when it came."""

    run_id: int
    requests: tuple[int, ...]
    """By their numbers, counted from 1; 0 and below warm up."""
    prompt_tokens: int
    """Of all of them, without padding."""
    computed_tokens: int
    """Of them with padding, and without what a cache had: what the forward computed."""
    cached_tokens: int
    """Prompt tokens whose keys and values were there already."""
    ttft_s: float
    prefill_s: float
    """Of it the forward alone."""
    kv_cache: int  # bytes
    shares: AnswerShares
    memory: Memory
    text: str
    """What the first of the requests begins its answer with."""
    warmup: bool
    t: float  # seconds since answering started


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensDone:
    """Tokens that came since the event before, of one batch: at most ten events a second."""

    run_id: int
    requests: tuple[int, ...]
    """That are being written."""
    gaps: tuple[float, ...]
    """Seconds from each arrival to the one before; their sum is the time that the event is told for."""
    arrived: tuple[int, ...]
    """Tokens of all requests that came at each arrival."""
    forwards: int
    """Of the model that answers, counted for every sequence in its batch."""
    proposed: int
    accepted: int
    kv_cache: int  # bytes
    shares: AnswerShares
    memory: Memory
    text: str
    """What the first of the requests went on with."""
    guessed: tuple[tuple[int, int], ...]
    """Where in `text` guesses are that were accepted: from, to."""
    warmup: bool
    t: float  # seconds since answering started, of the last arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDone:
    """A prompt is answered."""

    run_id: int
    request: int
    prompt: str
    """Its beginning, or empty of dummy prompts."""
    text: str
    """Its answer's beginning; token numbers where there is no tokenizer."""
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    ttft_s: float
    e2e_s: float
    reason: str
    """`length`: all tokens are written; `stop`: the answer ended; `stopped`: the run was."""
    hit: str | None
    """`prefix` or `response`: which cache had a part of it; None: it was computed."""
    warmup: bool
    compile_s: float | None
    """Of the warm-up: seconds that went to torch.compile; only the first request of each batch says so."""
    t: float  # seconds since answering started
    looped: float | None = None
    """See `AnswerFigures.looped`; None of an answer that is too short, or taken from a cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachesHold:
    """What the prefix and the response cache keep from now on; told when that has changed."""

    run_id: int
    held: int  # bytes
    t: float  # seconds since answering started


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchScored:
    """A classifier has scored a batch."""

    run_id: int
    batch: int
    """Counted from 1; 0 and below warm up."""
    n_samples: int
    n_tokens: int
    """Without padding."""
    computed_tokens: int
    seconds: float
    memory: Memory
    text: str
    """What the first of them is, and its class."""
    warmup: bool
    t: float  # seconds since answering started


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensCompared:
    """A sample of the answers beside those of plain `generate`, greedy and with the model's own weights."""

    run_id: int
    n_requests: int
    n_tokens: int
    n_same: int
    """Before the first that is not the same, of each request."""
    promised: bool
    """Whether all that was turned promises the same tokens."""
    detail: str
    """One sentence on what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMeasured:
    """What rounded weights or KV cost, on held-out text, read token by token as it is."""

    run_id: int
    text_name: str
    """What was read."""
    n_tokens: int
    agreement: float
    """Share of them at which the top token is that of the model's own weights and KV, 0 to 1."""
    perplexity: float
    own_perplexity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The sampler's reading, twice a second, also when nothing trains."""

    run_id: int | None
    t: float | None
    """Seconds since the run's training started; None outside training."""
    gpu: GpuSample | None
    host: HostSample
    memory: Memory
    place: Place | None = None
    """Where the run is within a step; None while steps are short, and where the host runs ahead of the device."""
    gpus: tuple[GpuSample | None, ...] = ()
    """Of a run on several GPUs, in the order of its ranks; then `gpu` is the first. Empty with one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A line of the log pane: what the engine says, or what its libraries printed or warned."""

    source: str
    """`engine`, `stdout`, `stderr`, `warning` or a logger's name; `left out`: how much a script printed besides."""
    text: str
    level: str = "info"
    """`info`, `warning` or `error`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """The run is over. Its row is saved, unless `HistoryState` says that nothing can be now."""

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
    by_forecast: bool = False
    """True where `foretold` stands for the run that is passed over."""
    foretold: Foretold | None = None
    """What a forecast says of this run, where the plan has forecasts."""
    finding: str | None = None
    """What a search that is over found."""
    paused: bool = False
    """True while the plan waits: no run begins until it is continued."""
    upcoming: RunConfig | None = None
    """The run after the one at this position; None where there is none, or where how that one ends decides."""
    upcoming_label: str = ""


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
    no_history: bool = False
    """True when it could not go on because the history could not be written."""
    message: str | None = None
    """One sentence on why it ended early, where there is something to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasted:
    """What was asked with `Session.forecast`."""

    config: RunConfig
    forecast: Forecast | None
    """None where there is none to make; `message` says why."""
    message: str | None = None
    pending: bool = False
    """Whether the answer is still to come: its data is being read first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What was asked with `Session.propose`: what would fit instead of a run that was out of memory."""

    run_id: int
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What was asked with `Session.survey`: the cards that a run may be placed on, by CUDA's ordinal."""

    config: RunConfig
    choices: tuple[CardChoice, ...]
    message: str | None = None
    """One sentence on why there are none, or on cards that are not among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptMade:
    """What was asked with `Session.hand_over`: a run as a script for the Hugging Face Trainer."""

    title: str
    """What it was called when it was asked for: `run 7`, `the next run`."""
    text: str | None = None
    """None where there is none to make; `message` says why."""
    data_name: str = ""
    """The file that belongs beside the script; empty where it reads what is there already."""
    data: str = ""
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryState:
    """The history cannot be written any more, can be again, or has moved."""

    problem: str | None
    """Why what happens is kept in memory only, in a sentence; None when it is written."""
    moved_to: str | None = None
    """The folder where it goes on, where the file was lost and could not be made again at its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryChanged:
    """What came of a `Session.keep`: it is written, or `problem` says in one sentence why it is not."""

    change: Change
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsDropped:
    """The mailbox was full: this many frequent readings were dropped. The history still has them."""

    count: int


Event = (
    EngineLoading
    | EngineReady
    | DeviceChosen
    | Neighbours
    | JobKnown
    | WontEnd
    | EngineFailed
    | RunRefused
    | RunStarted
    | RanksStarted
    | RankBeat
    | RunProgress
    | MemoryMoment
    | TrainingStarted
    | WorkCounted
    | MicroStepDone
    | UpdateDone
    | ScriptKnown
    | FigureLogged
    | EvalDone
    | AnsweringStarted
    | Prefilled
    | TokensDone
    | RequestDone
    | CachesHold
    | BatchScored
    | TokensCompared
    | QualityMeasured
    | Saved
    | Sampled
    | Logged
    | RunFinished
    | PlanStarted
    | PlanProgress
    | PlanFinished
    | Forecasted
    | Proposed
    | Surveyed
    | ScriptMade
    | HistoryState
    | HistoryChanged
    | EventsDropped
)

FREQUENT = (MicroStepDone, UpdateDone, TokensDone, BatchScored, RankBeat, Sampled, Logged)
"""Kinds that a full mailbox may drop, oldest first; everything else is always delivered."""
