"""A training step on meta tensors, recorded: no memory for tensors and no arithmetic, only sizes.

The step is the trainer's own code. What meta tensors cannot do (a fused optimizer, reading a number) is done here in
the way that has the same allocations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer

from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import ForecastError
from engine.contract.records import Phase
from engine.contract.tasks import TASKS
from engine.contract.text import first_line
from engine.devices.precision import TracedPrecision
from engine.forecast import quantised
from engine.forecast.loops import LOOPS, Loop
from engine.forecast.optimizers import optimizer_on_meta
from engine.forecast.parallel.whole_again import as_it_was
from engine.forecast.parallel.zero import OneRanks
from engine.forecast.recording import (
    AGAIN,
    FIRST,
    LAST,
    LAST_AGAIN,
    LEAVE,
    LOAD,
    NEXT,
    SCORE,
    SCORE_NEXT,
    SCORED,
    SCORING,
    STEP,
    STEP_AGAIN,
    Recording,
)
from engine.forecast.work import Work
from engine.gpus.catalogue import Gpu
from engine.process import gate
from engine.techniques import lora, offloading
from engine.techniques.decay import Group, groups_of
from engine.techniques.parallel.several import several
from engine.techniques.parallel.together import Together
from engine.techniques.schedules import build_schedule
from engine.tracing.fsdp_private import absent_ranks
from engine.tracing.host import TracedHost
from engine.tracing.kernels import CudaKernels
from engine.tracing.meta_kernels import KERNELS
from engine.tracing.quantised import as_on_cuda
from engine.tracing.stack import Stack
from engine.tracing.tracer import Tracer
from engine.training.evaluation import Scores
from engine.training.trainer import micro_step, take_step
from engine.workloads.data_shape import BatchShape

aten = torch.ops.aten

_KERNELS = {id(func): kernel for func, kernel in KERNELS.items()}
"""An operator's own hash is slow."""


_ASK_WHETHER_HIDING = {
    "_ignore_causal_mask_sdpa",
    "_ignore_bidirectional_mask_sdpa",
    "find_packed_sequence_indices",  # "is every row one document?"
}
"""Functions of transformers; True lets them do without a mask."""
_WARNS = "warn_if_padding_and_no_attention_mask"
"""Another; False here means no warning."""


class MetaTracer(Tracer):  # type: ignore[no-untyped-call]
    """The tracer for meta tensors, on which nothing can be read.

    Transformers asks a mask whether it hides anything, and positions whether several documents share a row: the
    batch's shape tells. The gradient scaler asks for overflows and its scale: there are none. Any other question
    would decide what is computed: `ForecastError`.
    """

    hides = False
    """What the batch's shape says."""
    was_asked = False
    """Whether that made a difference."""

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is aten._local_scalar_dense.default and args[0].is_meta:
            return self._answer(args[0])
        if func is aten._amp_foreach_non_finite_check_and_unscale_.default:
            return None
        if func is aten._amp_update_scale_.default:
            return args[0]
        kernel = _KERNELS.get(id(func))
        if kernel is not None:
            result = kernel(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return func(*args, **kwargs)

    def _answer(self, asked: torch.Tensor) -> float | bool:
        if self.phase in (Phase.CLIP, Phase.OPTIMIZER):
            return 0.0
        if asked.dtype is torch.bool:
            asking = set(callers())
            if _WARNS in asking:
                return False
            if asking & _ASK_WHETHER_HIDING:
                self.was_asked = True
                return not self.hides
        raise ForecastError(
            "This model decides by the values of its tensors what it computes, so its memory cannot be forecast: "
            "run it on a GPU to measure."
        )


def callers() -> Iterator[str]:
    """Names of the functions on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What is traced: a model on the meta device and everything that shapes a step but the batch's size."""

    config: RunConfig
    model: torch.nn.Module
    gpu: Gpu
    stack: Stack
    loop: Loop = LOOPS["trainer"]
    fields: tuple[tuple[str, bool], ...]
    """Of a batch, as in `DataShape`."""


def record_step(plan: StepPlan, batch: BatchShape, *, accumulates: bool = False, work: Work | None = None) -> Recording:
    """Loading, two updates and the end of an epoch, divided as `engine.forecast.recording` says.

    `accumulates`: whether windows have more than one micro-step. `work` counts the second update's, for which the
    optimizer has its states. Raises `ForecastError` when the step cannot be traced.
    """
    return _record(plan, batch, lambda player: player.train(accumulates, work), plan.stack)


def record_steps(plan: StepPlan, reached: Collection[torch.nn.Parameter], own: list[Group], work: Work) -> Recording:
    """The parts `STEP` and `STEP_AGAIN` of a rank that keeps the states of its `own` groups; `reached` have gradients.

    `work` counts those of the second. Raises `ForecastError`.
    """
    nothing = BatchShape(0, 0, False, 0)
    return _record(plan, nothing, lambda player: player.steps(reached, own, work), None)


def arrivals(plan: StepPlan, batch: BatchShape) -> list[torch.nn.Parameter]:
    """What is trained, in the order in which a backward gives it gradients. Raises `ForecastError`."""
    found: list[torch.nn.Parameter] = []
    _record(plan, batch, lambda player: player.arrivals(found), None)
    return found


def record_scoring(plan: StepPlan, batch: BatchShape) -> Recording:
    """An evaluation, for a run under way: its cuBLAS workspaces are there. Raises `ForecastError`."""
    return _record(plan, batch, lambda player: player.score(), None)


def _record(plan: StepPlan, batch: BatchShape, play: Callable[[_Player], None], stack: Stack | None) -> Recording:
    recording = Recording()
    workspaces = stack.workspaces(plan.gpu.compute_capability) if stack else (0, 0)
    tracer = MetaTracer(recording, "meta", workspaces=workspaces)
    tracer.hides = batch.hides
    precision = TracedPrecision(plan.config.precision)
    kernels = CudaKernels(tracer, plan.gpu, precision.policy)
    kernels.saves_softmax_inputs = plan.stack.saves_softmax_inputs
    try:
        with ExitStack() as stack_of_modes:
            # a model that another thread builds would have a say in what is made
            stack_of_modes.enter_context(gate.building())
            for parameter in plan.model.parameters():
                parameter.grad = None
            together = Together()
            if plan.config.is_divided:
                stack_of_modes.enter_context(absent_ranks(plan.config.gpus or 1))
                stack_of_modes.enter_context(as_it_was(plan.model))
                stack_of_modes.enter_context(tracer.dividing())
                together = several(plan.config, torch.device("meta"))
            stack_of_modes.enter_context(kernels)
            stack_of_modes.enter_context(tracer)
            play(_Player(plan, batch, recording, tracer, precision, kernels, together))
    except (ForecastError, ConfigError):
        raise
    except Exception as error:  # a model's own code may raise anything
        reason = first_line(error)[:200]
        if lora.wraps_experts(plan.model):
            reason = "LoRA computes the weights of its experts anew in every forward"
        raise ForecastError(
            f"The training step of {plan.config.model} cannot be traced without a GPU ({reason}): "
            "run it to measure its memory."
        ) from None
    finally:
        tracer.forget()
        for parameter in plan.model.parameters():
            parameter.grad = None
    recording.depends_on_hiding = tracer.was_asked
    return recording


class _Player:
    """One traced run: the parts of the recording, from the trainer's own functions."""

    def __init__(
        self,
        plan: StepPlan,
        shape: BatchShape,
        recording: Recording,
        tracer: Tracer,
        precision: TracedPrecision,
        kernels: CudaKernels,
        together: Together,
    ) -> None:
        self._plan = plan
        self._shape = shape
        self._recording = recording
        self._tracer = tracer
        self._precision = precision
        self._kernels = kernels
        self._together = together
        self._part = LOAD
        self._batch: dict[str, torch.Tensor] = {}
        self._window_loss: torch.Tensor | None = None
        self._kept: dict[str, object] = {}
        """What the trainer's loop holds until it has the next one of its kind."""
        self._micro_steps = 1
        self._work: Work | None = None

    def train(self, accumulates: bool, work: Work | None) -> None:
        plan, self._work, kernels = self._plan, work, self._kernels
        self._micro_steps += accumulates
        self._begin(LOAD, Phase.LOAD)
        with self._tracer.suspended():
            quantised.begin(plan.model)
        hooks = self._load()
        moved = offloading.apply(plan.model, plan.config, self._host, None)
        hooks += [] if moved is None else [moved]
        if plan.loop.holds_outputs:
            hooks.append(plan.model.register_forward_hook(self._hold))
        try:
            groups = groups_of(plan.config, plan.model)
            optimizer = optimizer_on_meta(plan.config, plan.stack, plan.loop, groups, self._enter)
            schedule = build_schedule(plan.config, optimizer, updates=1)
            plan.model.train()
            self._micro_step(FIRST)
            if accumulates:
                self._micro_step(NEXT)
            if self._ends_apart:
                self._micro_step(LAST)
            self._step(STEP, optimizer, schedule)
            if work is not None:
                self._tracer.observe = work.operator
                kernels.on_attention, kernels.on_loss = work.attention, work.losses
                hooks.append(register_module_forward_pre_hook(work.module))
            self._micro_step(AGAIN)
            kernels.on_attention = kernels.on_loss = None
            if self._ends_apart:
                self._tracer.observe = work.last_micro_step if work is not None else None
                self._micro_step(LAST_AGAIN)
            if work is not None:
                self._tracer.observe = work.optimizer_operator
                work.optimizer(optimizer)
                work.host_bytes = 0 if moved is None else moved.most_held
            self._step(STEP_AGAIN, optimizer, schedule)
            self._tracer.observe = None
            self._begin(LEAVE, Phase.DATA)
            self._batch = {}
            self._kept.clear()
            if getattr(optimizer, "grad_scale", None) is not None:
                optimizer.grad_scale = None  # type: ignore[attr-defined]
            self._tracer.drain()
        finally:
            for hook in hooks:
                hook.remove()

    def steps(self, reached: Collection[torch.nn.Parameter], own: list[Group], work: Work) -> None:
        plan = self._plan
        groups = groups_of(plan.config, plan.model)
        self._begin(LOAD, Phase.LOAD)
        self._tracer.account_model(plan.model)
        filled = [group for group in own if group["params"]]
        inner = optimizer_on_meta(plan.config, plan.stack, plan.loop, filled, self._enter) if filled else None
        optimizer = OneRanks(groups, inner)
        schedule = build_schedule(plan.config, optimizer, updates=1)
        for part, step in ((FIRST, STEP), (AGAIN, STEP_AGAIN)):
            self._begin(part, Phase.BACKWARD)
            with self._tracer.suspended():  # they come and go with the micro-steps that this is played among
                self._precision.scaler.scale(torch.empty((), device="meta"))  # as of a loss: it begins with the first
                for parameter in reached:
                    parameter.grad = torch.empty_like(parameter)
            if part == AGAIN:
                self._tracer.observe = work.optimizer_operator
                work.optimizer(optimizer)
            self._step(step, optimizer, schedule)
        self._tracer.observe = None
        self._begin(LEAVE, Phase.DATA)

    def arrivals(self, found: list[torch.nn.Parameter]) -> None:
        plan, trained = self._plan, [p for p in self._plan.model.parameters() if p.requires_grad]
        with self._tracer.suspended():
            quantised.begin(plan.model)
            hooks = [p.register_post_accumulate_grad_hook(found.append) for p in trained]  # type: ignore[no-untyped-call]
            hooks += as_on_cuda(plan.model, self._precision.policy)
            try:
                plan.model.train()
                self._micro_step(FIRST)
            finally:
                for hook in hooks:
                    hook.remove()
                self._batch = {}

    def score(self) -> None:
        model = self._plan.model
        self._begin(LOAD, Phase.LOAD)
        hooks = self._load()
        model.eval()
        try:
            with torch.no_grad():
                self._begin(SCORING, Phase.EVALUATE)
                scores = Scores.begin(model, TASKS[self._plan.config.task], torch.device("meta"))
                for part in (SCORE, SCORE_NEXT):
                    self._begin(part, Phase.EVALUATE)
                    self._batch = self._new_batch()
                    scores.add(model, self._batch, 1, self._precision)
                self._begin(SCORED, Phase.EVALUATE)
                self._batch = {}
                self._together.scored(model)
                del scores
                self._tracer.drain()
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def _ends_apart(self) -> bool:
        """Whether a window's last micro-step does what the others do not."""
        return self._plan.config.is_divided and self._micro_steps > 1

    def _load(self) -> list[Any]:
        """Account for the model, or for this rank's part of it; hooks, to be removed."""
        model = self._plan.model
        self._together.divide(model, self._plan.config, {}, torch.device("cpu"), self._tracer.visit)
        return [*self._tracer.account_model(model), *as_on_cuda(model, self._precision.policy)]

    def _host(self) -> TracedHost:
        return TracedHost(self._tracer, on_move=self._note_move)

    def _note_move(self, n_bytes: int) -> None:
        if self._work is not None and self._tracer.observe is not None:
            self._work.move(n_bytes)

    def _begin(self, part: str, phase: Phase) -> None:
        self._part = part
        self._enter(phase)

    def _hold(self, model: torch.nn.Module, arguments: object, outputs: object) -> None:
        self._kept["outputs"] = outputs

    def _enter(self, phase: Phase) -> None:
        if phase is Phase.BACKWARD and self._part in (FIRST, AGAIN) and not self._plan.stack.keeps_gradients:
            for parameter in self._plan.model.parameters():
                parameter.grad = None  # those that were left until now
        if phase is Phase.BACKWARD and self._work is not None:
            self._work.begin_backward()
        self._tracer.enter(phase)
        self._recording.mark(self._part, phase)

    def _micro_step(self, part: str) -> None:
        self._begin(part, Phase.DATA)
        self._batch = self._new_batch()
        is_last = self._micro_steps == 1 or part in (LAST, LAST_AGAIN)
        with self._together.window(self._plan.model, is_last=is_last):
            loss = micro_step(self._plan.model, self._batch, self._precision, self._micro_steps, self._enter)
        self._window_loss = loss if self._window_loss is None else self._window_loss + loss
        self._kept["loss"] = loss

    def _step(self, part: str, optimizer: Optimizer, schedule: Any) -> None:
        self._part = part
        stays = self._plan.stack.keeps_gradients or self._plan.loop.forgets_late
        gradients = [(p, p.grad) for p in self._plan.model.parameters()] if stays else []
        self._kept["step"] = take_step(
            optimizer, schedule, self._precision, self._plan.config, self._enter, self._together.clip
        )
        for parameter, gradient in gradients:
            parameter.grad = gradient
        del gradients
        self._enter(Phase.DATA)
        self._window_loss = None

    def _new_batch(self) -> dict[str, torch.Tensor]:
        """In the way of the workload's collator."""
        shapes = {name: self._shape.shape_of(name, per_token) for name, per_token in self._plan.fields}
        return {name: torch.empty(shape, dtype=torch.int64, device="meta") for name, shape in shapes.items()}
