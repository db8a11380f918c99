"""Answering on meta tensors, recorded: transformers' own `generate`, with no memory for tensors and no arithmetic.

What `generate` asks of its tensors (is there padding, have all answers ended) is answered from the batch's shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import INPUTS, ForecastError
from engine.contract.records import Phase
from engine.contract.text import first_line
from engine.devices.precision import TracedPrecision
from engine.forecast import quantised
from engine.forecast.recording import LOAD, Recording
from engine.forecast.step import MetaTracer, callers
from engine.forecast.work import Work
from engine.gpus.catalogue import Gpu
from engine.process import gate
from engine.techniques.generation import caches
from engine.techniques.generation.guessing import MAKER
from engine.techniques.generation.settings import generation_config, is_seq2seq
from engine.tracing.kernels import CudaKernels
from engine.tracing.quantised import as_on_cuda
from engine.tracing.stack import Stack
from engine.workloads.data_shape import BatchShape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

aten = torch.ops.aten

PREFILL, LEFT = "prefill", "left"
"""Parts beside loading: to the first token; what is given back at the end. Those between are numbered from 1."""
STEPS = 2
"""Decode steps that are traced: the first gives back what prefill left, the second what the first did, as all later
ones do."""
UNCACHED_STEPS = 3
"""The same where all is computed anew, and sizes grow with the square of the length."""

GUESSED_STEPS = 4
"""The same where tokens are guessed: what a guess leaves behind lives a step longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPlan:
    """What is traced: a model on the meta device and everything that shapes its answers but a batch's sizes."""

    config: RunConfig
    model: PreTrainedModel
    gpu: Gpu
    stack: Stack
    guesses: int = 0
    """Tokens that are guessed before each forward, none of which is right: then there are most steps."""
    scores: bool = False
    """Whether a draft model guesses, which leaves its scores."""

    @property
    def steps(self) -> int:
        """Decode steps that are traced."""
        if self.guesses:
            return GUESSED_STEPS
        return UNCACHED_STEPS if self.config.kv_cache == "off" else STEPS

    @property
    def alike(self) -> int:
        """Of them, the last ones that growth is told from."""
        return UNCACHED_STEPS if self.config.kv_cache == "off" else STEPS


@dataclass(slots=True)
class AnswerWork:
    """What a batch's prefill and a decode step compute and move, each with the choosing of a token."""

    prefill: Work = field(default_factory=Work)
    decode: Work = field(default_factory=Work)
    forward: Work = field(default_factory=Work)
    """Of the decode step, the model's forward alone."""

    def deeper(self, shallow: AnswerWork, steps: int) -> AnswerWork:
        """As `Work.deeper`."""
        each = {f.name: getattr(self, f.name).deeper(getattr(shallow, f.name), steps) for f in fields(self)}
        return AnswerWork(**each)


class AnsweringTracer(MetaTracer):  # type: ignore[no-untyped-call]
    """Answers what `generate` asks; `chosen` is told of every token, and says whether it was the last one."""

    def __init__(self, recording: Recording, workspaces: tuple[int, int], chosen: Callable[[], bool]) -> None:
        super().__init__(recording, "meta", workspaces=workspaces)
        self._chosen = chosen
        self._last: Any = None
        """The operator before this one."""

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = super()._run(func, args, kwargs)
        self._last = func
        return result

    def _answer(self, asked: torch.Tensor) -> float | bool:
        asking = frozenset(callers())
        if "_assisted_decoding" in asking and asked.dtype is torch.int64:  # how many tokens come: the forward's own
            return 1
        if "forward" in asking or asked.dtype is not torch.bool or "generate" not in asking:
            return super()._answer(asked)
        if self._last is aten.any.default:  # is a special token odd, is there padding at a row's end?
            return False
        if self._last is aten.all.default:  # does the mask show all?
            self.was_asked = True
            return not self.hides
        if asking & {"_sample", "_assisted_decoding"}:  # have all answers ended?
            return self._chosen()
        return super()._answer(asked)


def record_answer(plan: AnswerPlan, shape: BatchShape, work: AnswerWork) -> Recording:
    """Loading, a batch's prefill, its first decode steps and its end.

    `shape.width` are the tokens of a prompt, `shape.target` those of an answer where a static cache has room for all of
    them, else 0. `work` counts
    prefill and the last of the steps. Raises `ForecastError` where they cannot be traced.
    """
    recording = Recording()
    workspaces = plan.stack.workspaces(plan.gpu.compute_capability)
    writer = _Writer(plan, shape, recording, workspaces, work)
    try:
        # a model that another thread builds would have a say in what is made
        with gate.building():
            writer.write()
    except (ForecastError, ConfigError):
        raise
    except Exception as error:  # a model's own code may raise anything
        raise ForecastError(
            f"The answers of {plan.config.model} cannot be traced without a GPU ({first_line(error)[:200]}): "
            "run it to measure its memory."
        ) from None
    finally:
        writer.tracer.forget()
    recording.depends_on_hiding = writer.tracer.was_asked
    return recording


class _Guesses:
    """Guesses as many tokens as asked for, of which nothing is known; see `transformers.CandidateGenerator`."""

    requires_model_outputs = False

    def __init__(self, plan: AnswerPlan) -> None:
        self._plan = plan

    def get_candidates(
        self, input_ids: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The text with the guesses, and the scores of each."""
        n, settings = self._plan.guesses, self._plan.model.config.get_text_config()
        text = torch.cat([input_ids, input_ids.new_empty((1, n))], dim=-1)
        if not self._plan.scores:
            return text, None
        scores = [torch.empty(1, settings.vocab_size, device="meta") for _ in range(n)]
        return text, torch.stack(scores, dim=1)

    def update_candidate_strategy(self, *_: object) -> None:
        """It has none."""


class _Writer:
    """One traced batch: the parts of the recording, from `generate` itself."""

    def __init__(
        self,
        plan: AnswerPlan,
        shape: BatchShape,
        recording: Recording,
        workspaces: tuple[int, int],
        work: AnswerWork,
    ) -> None:
        self._plan, self._shape, self._recording, self._work = plan, shape, recording, work
        self.tracer = AnsweringTracer(recording, workspaces, self._chosen)
        self.tracer.hides = shape.hides
        self._precision = TracedPrecision(plan.config.precision)
        self._kernels = CudaKernels(self.tracer, plan.gpu, self._precision.policy)
        self._part = LOAD
        self._tokens = 0
        """Chosen so far."""
        self._counting: Work | None = None

    def write(self) -> None:
        plan, model = self._plan, self._plan.model
        with ExitStack() as stack:
            stack.enter_context(self._kernels)
            stack.enter_context(self.tracer)
            stack.enter_context(torch.no_grad())
            self._enter(Phase.LOAD)
            with self.tracer.suspended():
                quantised.begin(model)
            for hook in (*self.tracer.account_model(model), *as_on_cuda(model, self._precision.policy)):
                stack.callback(hook.remove)
            stack.enter_context(self._listening())
            self._part = PREFILL
            self._count(self._work.prefill)
            if plan.config.task == "classification":
                self._score()
            else:
                self._answer()
            self.tracer.drain()

    def _answer(self) -> None:
        self._enter(Phase.SAMPLE)
        inputs = self._inputs()
        model: Any = self._plan.model
        if self._plan.guesses:
            vars(model)[MAKER] = lambda **_: _Guesses(self._plan)
        try:
            model.generate(**inputs, generation_config=self._settings(), **self._cache())
        finally:
            vars(model).pop(MAKER, None)

    def _score(self) -> None:
        """As `engine.answering.scoring` does."""
        self._enter(Phase.SCORE)
        logits = self._plan.model(**self._inputs()).logits.float()
        logits.softmax(-1).max(-1)

    def _inputs(self) -> dict[str, torch.Tensor]:
        shape = self._shape.samples, self._shape.width
        made: dict[str, torch.Tensor] = {}
        for name in ("input_ids", "attention_mask"):
            with self.tracer.suspended():
                made[name] = torch.empty(shape, dtype=torch.int64, device="meta")
            self.tracer.account(made[name], INPUTS)
        return made

    def _settings(self) -> Any:
        more = {"prompt_lookup_num_tokens": self._plan.guesses} if self._plan.guesses else {}
        return generation_config(
            self._plan.config,
            new_tokens=self._plan.steps + 1 + self._plan.guesses,
            eos_token_ids=frozenset(),
            pad_token_id=self._plan.model.config.get_text_config().pad_token_id or 0,
            disable_compile=True,
            **more,
        )

    def _cache(self) -> dict[str, Any]:
        """As a run has it."""
        plan, width = self._plan, self._shape.width
        new = self._shape.target or plan.steps + 1
        before = 1 if is_seq2seq(plan.model) else width  # an answer begins with a token that starts it
        cache = caches.cache_for(plan.config, plan.model, tokens=before + new, source_tokens=width)
        return caches.arguments(plan.model, cache)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        model = self._plan.model
        hooks: list[Any] = []
        if self._plan.config.task != "classification":
            hooks += [
                model.register_forward_pre_hook(self._before),
                model.register_forward_hook(self._after, with_kwargs=True),
            ]
        if is_seq2seq(model):
            encoder: Any = model.get_encoder()
            hooks += [encoder.register_forward_pre_hook(self._before), encoder.register_forward_hook(self._left)]
        hooks.append(register_module_forward_pre_hook(self._called))
        try:
            yield
        finally:
            self._count(None)
            for hook in hooks:
                hook.remove()

    def _count(self, work: Work | None) -> None:
        """From now on, to this."""
        self._counting = work
        self.tracer.observe = None if work is None else self._counted
        self._kernels.on_attention = None if work is None else self._attended

    def _counted(self, func: Any, args: tuple[Any, ...], result: Any) -> None:
        for work in self._counts():
            work.operator(func, args, result)

    def _attended(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, backward: bool) -> None:
        for work in self._counts():
            work.attention(query, key, value, backward)

    def _called(self, *_: Any) -> None:
        for work in self._counts():
            work.module()

    def _counts(self) -> Iterator[Work]:
        if self._counting is not None:
            yield self._counting
            if self._counting is self._work.decode and self.tracer.phase is Phase.DECODE:
                yield self._work.forward

    def _enter(self, phase: Phase) -> None:
        self.tracer.enter(phase)
        self._recording.mark(self._part, phase)

    def _before(self, *_: Any) -> None:
        self._enter(Phase.DECODE if self._tokens else Phase.PREFILL)

    def _left(self, *_: Any) -> None:
        self._enter(Phase.SAMPLE)

    def _after(self, model: torch.nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        self.tracer.keep(caches.tensors(kwargs.get("past_key_values", kwargs.get("cache_params"))))
        self._enter(Phase.SAMPLE)

    def _chosen(self) -> bool:
        """A token more is there: the next part begins."""
        self._tokens += 1
        is_last = self._tokens > self._plan.steps
        self._part = LEFT if is_last else f"decode {self._tokens}"
        self._enter(Phase.SAMPLE)
        self._count(self._work.decode if self._tokens == self._plan.steps else None)
        return is_last
