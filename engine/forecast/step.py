"""A training step on meta tensors, recorded: no memory for tensors and no arithmetic, only sizes.

The step is the trainer's own code. What meta tensors cannot do (a fused optimizer, reading a number) is done here in
the way that has the same allocations.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch.optim import Optimizer

from engine.contract.config import RunConfig
from engine.contract.forecast_types import ForecastError
from engine.contract.records import Phase
from engine.devices.precision import TracedPrecision
from engine.forecast.optimizers import optimizer_on_meta
from engine.forecast.recording import AGAIN, END, FIRST, LOAD, NEXT, STEP, STEP_AGAIN, Recording
from engine.forecast.speed import Work
from engine.gpus.catalogue import Gpu
from engine.process import gate
from engine.techniques import lora
from engine.techniques.optimizers import build_schedule
from engine.tracing.kernels import CudaKernels
from engine.tracing.meta_kernels import KERNELS
from engine.tracing.stack import Stack
from engine.tracing.tracer import Tracer
from engine.training.trainer import micro_step, take_step

aten = torch.ops.aten

_KERNELS = {id(func): kernel for func, kernel in KERNELS.items()}
"""An operator's own hash is slow."""


_ASK_WHETHER_PADDED = {
    "_ignore_causal_mask_sdpa",
    "_ignore_bidirectional_mask_sdpa",
    "warn_if_padding_and_no_attention_mask",  # False here means no warning
}
"""Functions of transformers; False makes them keep the mask."""


class MetaTracer(Tracer):  # type: ignore[no-untyped-call]
    """The tracer for meta tensors, on which nothing can be read.

    Transformers asks a mask whether it hides anything: the answer is yes, as padding is what masks are for. It asks
    positions whether several documents share a row: yes where `packed`. The gradient scaler asks for overflows and
    its scale: there are none. Any other question would decide what is computed: `ForecastError`.
    """

    packed = False

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
            asking = set(_callers())
            if "find_packed_sequence_indices" in asking:
                return not self.packed  # "is the row one document?"
            if asking & _ASK_WHETHER_PADDED:
                return False
        raise ForecastError(
            "This model decides by the values of its tensors what it computes, so its memory cannot be forecast: "
            "run it on a GPU to measure."
        )


def _callers() -> Iterator[str]:
    """Names of the functions on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What is traced: a model on the meta device and everything that shapes a step but the batch size."""

    config: RunConfig
    model: torch.nn.Module
    gpu: Gpu
    stack: Stack
    accumulates: bool = False
    """Whether windows have more than one micro-step."""


def record_step(plan: StepPlan, batch_size: int, work: Work | None = None) -> Recording:
    """Loading and two updates, divided as `engine.forecast.recording` says.

    `work` counts the first micro-step and step. Raises `ForecastError` when the step cannot be traced.
    """
    recording = Recording()
    tracer = MetaTracer(recording, "meta", workspaces=plan.stack.workspaces(plan.gpu.compute_capability))
    tracer.packed = plan.config.padding == "packed"
    precision = TracedPrecision(plan.config.precision)
    kernels = CudaKernels(tracer, plan.gpu, precision.policy)
    try:
        with ExitStack() as stack:
            stack.enter_context(gate.building())  # a model that another thread builds would have a say in what is made
            for parameter in plan.model.parameters():
                parameter.grad = None
            stack.enter_context(kernels)
            stack.enter_context(tracer)
            _Player(plan, batch_size, recording, tracer, precision).play(work, kernels)
    except ForecastError:
        raise
    except Exception as error:  # a model's own code may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
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
    return recording


class _Player:
    """One traced run: the parts of the recording, from the trainer's own functions."""

    def __init__(
        self, plan: StepPlan, batch_size: int, recording: Recording, tracer: Tracer, precision: TracedPrecision
    ) -> None:
        self._plan = plan
        self._batch_size = batch_size
        self._recording = recording
        self._tracer = tracer
        self._precision = precision
        self._part = LOAD
        self._batch: dict[str, torch.Tensor] = {}
        self._window_loss: torch.Tensor | None = None
        self._work: Work | None = None

    def play(self, work: Work | None, kernels: CudaKernels) -> None:
        plan, self._work = self._plan, work
        self._begin(LOAD, Phase.LOAD)
        hooks = self._tracer.account_model(plan.model)
        try:
            optimizer = optimizer_on_meta(plan.config, plan.stack, plan.model.parameters(), self._enter)
            schedule = build_schedule(plan.config, optimizer, updates=1)
            plan.model.train()
            if work is not None:
                self._tracer.observe, kernels.on_attention = work.operator, work.attention
            self._micro_step(FIRST)
            self._tracer.observe = kernels.on_attention = None
            if plan.accumulates:
                self._micro_step(NEXT)
            if work is not None:
                self._tracer.observe = work.optimizer_operator
                work.step_bytes += getattr(optimizer, "traffic", 0)
            self._step(STEP, optimizer, schedule)
            self._tracer.observe = None
            self._micro_step(AGAIN)
            self._step(STEP_AGAIN, optimizer, schedule)
            self._begin(END, Phase.DATA)  # what would die in a third update
            self._batch = {}
            if getattr(optimizer, "grad_scale", None) is not None:
                optimizer.grad_scale = None  # type: ignore[attr-defined]
            self._tracer.drain()
        finally:
            for hook in hooks:
                hook.remove()

    def _begin(self, part: str, phase: Phase) -> None:
        self._part = part
        self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        if phase is Phase.BACKWARD and self._work is not None and not self._work.forward_flops:
            self._work.forward_flops = self._work.flops
        self._tracer.enter(phase)
        self._recording.mark(self._part, phase)

    def _micro_step(self, part: str) -> None:
        self._begin(part, Phase.DATA)
        self._batch = self._new_batch()
        loss = micro_step(self._plan.model, self._batch, self._precision, 1 + self._plan.accumulates, self._enter)
        self._window_loss = loss if self._window_loss is None else self._window_loss + loss

    def _step(self, part: str, optimizer: Optimizer, schedule: Any) -> None:
        self._part = part
        take_step(optimizer, schedule, self._precision, self._plan.config, self._enter)
        self._enter(Phase.DATA)
        self._window_loss = None

    def _new_batch(self) -> dict[str, torch.Tensor]:
        """The shapes of `engine.workloads`, every sequence at full length."""
        config = self._plan.config
        tokens = (self._batch_size, config.seq_len)
        shapes: dict[str, tuple[int, ...]] = {}
        if config.workload != "dummy":
            shapes["position_ids" if config.padding == "packed" else "attention_mask"] = tokens
        shapes["input_ids"] = tokens
        shapes["labels"] = (self._batch_size,) if config.task == "classification" else tokens
        return {name: torch.empty(shape, dtype=torch.int64, device="meta") for name, shape in shapes.items()}
