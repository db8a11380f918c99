"""The forecast: VRAM and speed of a configuration on a GPU that need not be there.

A training step is traced on meta tensors, once per model and technique, and played through the caching allocator for
the batches that the run will have, in its order. Used = CUDA context + library images + reserved segments.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.forecast_types import (
    FITS,
    NEAR_LIMIT,
    OUT_OF_MEMORY,
    Forecast,
)
from engine.contract.idle import idle
from engine.contract.own_models import is_own
from engine.devices.precision import refuse_types
from engine.forecast.answering.forecast import AnswerForecaster, asked_of
from engine.forecast.answering.record import AnswerPlan
from engine.forecast.answering.traces import AnswerTraces
from engine.forecast.breakdown import breakdown
from engine.forecast.compiled import Kept, least_allocated
from engine.forecast.loops import LOOPS, Loop
from engine.forecast.notes import about_compiling, about_host, about_ranks, general, on_unified
from engine.forecast.outside import Outside, outside_memory
from engine.forecast.parallel.everybody import fullest, largest
from engine.forecast.parallel.pace import joined, pace
from engine.forecast.played import Played, accumulates, expect
from engine.forecast.prepare import build_on_meta
from engine.forecast.sequence import sequence
from engine.forecast.sources import Source, find_source
from engine.forecast.step import StepPlan
from engine.forecast.traces import Traces
from engine.forecast.work import Work
from engine.gpus.catalogue import Gpu
from engine.gpus.units import MIB
from engine.models.catalogue import known
from engine.techniques import attention
from engine.techniques.generation import caches
from engine.techniques.generation.settings import own_settings
from engine.techniques.refusals import refuse_missing_packages
from engine.tracing.stack import STACKS, Stack
from engine.tracing.unified import with_unified
from engine.training import answerers, models
from engine.training.adapters import ADAPTER
from engine.training.hub import Hub
from engine.training.own_models import Find
from engine.workloads.data_shape import BatchShape, DataShape
from engine.workloads.facts import NotReadError, assumed_shape, known_shape

_NOT_IN_A_TRACE: dict[str, Value] = {
    "batch_size": 1,
    "gradient_accumulation_steps": 1,
    "samples": 1,
    "eval_samples": 1,
    "eval_steps": None,
    "metric_for_best_model": "loss",
    "early_stopping_patience": 0,
    "early_stopping_threshold": 0.0,
    "epochs": 1,
    "learning_rate": 5e-5,
    "lr_scheduler": "linear",
    "warmup_steps": 0.0,
    "non_finite_loss": "continue",
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": True,
    "dataloader_prefetch_factor": 2,
    "seed": 42,
    "gpus": 1,
    "parallel": "ddp",
    "reshard_after_forward": True,
    "bucket_mib": 25,
    "device": "auto",
    "vram_limit": None,
    "output_dir": None,
    "save_steps": 0,
    "save_total_limit": 2,
    "data": None,
    "text_column": None,
    "label_column": None,
    "target_column": None,
    "completion_only_loss": True,
    "workload": "dummy",
    "padding": "longest",
    "torch_compile": False,
}
"""Knobs that change no allocation of a step, or only their sizes, with the value that traces share."""
_OF_DIVIDING = ("gpus", "parallel", "reshard_after_forward")
"""Of these, the knobs that do so where each GPU holds a part of the weights."""

_NOT_IN_ANSWERS: dict[str, Value] = {
    "batch_size": 1,
    "prompts": "dummy",
    "prompt": None,
    "requests": None,
    "prompt_len": None,
    "prefix_len": 0,
    "repeats": 0.0,
    "max_new_tokens": 128,
    "ignore_eos": True,
    "chat_template": True,
    "prefix_cache": False,
    "response_cache": False,
    "speculate": "off",
    "speculate_tokens": 4,
    "draft_model": None,
    "batching": "static",
    "held_out_tokens": 1024,
    "torch_compile": False,
    "padding": "longest",
    "seed": 42,
    "device": "auto",
    "vram_limit": None,
}
"""The same for answers."""
_N_LABELS = 2
"""Of a classifier that answers: as few as one that learned has."""

MOST_KEPT = 32
"""Models with their techniques whose traces are kept, and sources likewise; the traces of one take up to 50 MB."""
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What a forecast takes for granted, in bytes; None takes the stack's or the GPU's own."""

    stack: str = "current"
    """The software, by its name in `STACKS`."""
    loop: str = "trainer"
    """Whose loop trains, by its name in `LOOPS`."""
    given: frozenset[str] = frozenset()
    """Knobs that the user set himself, which a stack leaves as they are."""
    context_bytes: int | None = None
    """The CUDA context."""
    library_bytes: int | None = None
    """Library images outside the allocator."""
    beside_bytes: int = 0
    """What other processes have on the card."""
    has_nccl: bool = False
    """Whether those have NCCL's buffers too, of a run on several GPUs."""
    limit_bytes: int | None = None
    """Memory to judge by, where that is less than the GPU's."""
    acceptance: float | None = None
    """Of guessed tokens, the share that is accepted."""
    link: str | None = None
    """What joins several GPUs, `nvlink` or `pcie`; None takes what such cards have as a rule."""
    link_rate: float | None = None
    """The bus bandwidth of an all-reduce among them in bytes/s, where measured."""


class Forecaster:
    """Makes forecasts and keeps its traces: one more batch size of a traced model takes milliseconds.

    Not thread-safe: one thread at a time.
    """

    def __init__(self, hub: Hub | None = None, own_model: Find | None = None) -> None:
        self._hub = hub
        self._own_model = own_model
        self._sources: dict[tuple[str, float, bool], Source] = {}
        self._traces: dict[tuple[object, ...], Traces] = {}
        self._answering: dict[tuple[object, ...], AnswerTraces] = {}
        self._answers: dict[tuple[AnswerTraces, AnswerTraces | None], AnswerForecaster] = {}

    def forecast(
        self,
        config: RunConfig,
        gpu: Gpu,
        assumptions: Assumptions | None = None,
        reading: Callable[[], None] = lambda: None,
    ) -> Forecast:
        """What `config` needs on `gpu`, and about how fast it would be; `reading` is told before data is read for it.

        Raises `ConfigError` where a run would be refused, and `ForecastError` where a step cannot be traced.
        """
        began = time.perf_counter()
        given = assumptions or Assumptions()
        stack, loop = _named(STACKS, "stack", given.stack), _named(LOOPS, "loop", given.loop)
        _refuse(config, gpu)
        if config.answers:
            made = self._forecast_answers(config, gpu, given, stack)
            return replace(made, forecast_s=time.perf_counter() - began)
        link, about_link = joined(config, gpu, given.link, given.link_rate)
        config = stack.adapt(config, given.given)
        source = self._source(config)
        models.check_head(source.model.config, config)
        models.check_length(source.model, config)
        data, about_data = _data(source, config, reading)
        traces = self._traces_of(source, config, gpu, stack, loop, data)
        outside = outside_memory(
            gpu,
            stack,
            given.context_bytes,
            given.library_bytes,
            given.beside_bytes,
            gpus=config.gpus or 1,
            has_nccl=given.has_nccl,
        )
        limit = _limit(config, gpu, given)
        most = fullest(config, data, traces, stack)
        order, played = most.order, most.course.within(limit, outside)
        free, failed = played.free, played.limited
        held = outside.total + free.peak_reserved
        unified = traces.unified if most.rank.unified is None else most.rank.unified
        used = with_unified(held, unified, limit)
        work = most.slowest.work(traces.work(order.samples, order.width, order.target))
        batch = largest(order)
        alone = self._alone(source, config, gpu, stack, loop, data) if config.is_parallel else work
        speed = pace(config, gpu, order, work, alone, traces.ranks, batch, link)
        kept = traces.compiled(batch) if config.torch_compile else None
        saved = _saved_by_compiling(kept, batch, played) if config.torch_compile else 0
        span = _range(free.peak_reserved + used - held, outside, saved)
        return Forecast(
            gpu=gpu.name,
            total=gpu.memory_total,
            limit=limit,
            verdict=FITS if failed is None or failed.failed_phase is None else OUT_OF_MEMORY,
            near_limit=played.is_unsure
            or abs(held - limit) <= NEAR_LIMIT * limit
            or (span is not None and span[0] <= limit < held),
            peak_used=used,
            peak_reserved=free.peak_reserved,
            peak_allocated=free.peak_allocated,
            used_range=span,
            loaded_used=outside.context + free.loaded_reserved,
            breakdown=breakdown(free, outside.context, outside.libraries, used - held),
            failing_phase=failed.failed_phase.value if failed and failed.failed_phase else None,
            failing_request=failed.failed_request if failed else None,
            failing_segment=failed.failed_segment if failed else None,
            failing_free=failed.failed_free if failed else None,
            timeline=played.timeline,
            samples_per_s=speed.samples_per_s,
            flops_per_sample=work.flops // order.samples,
            model_flops_per_sample=work.model_flops // order.samples,
            tokens_per_sample=order.width,
            n_parameters=traces.n_parameters,
            gpus=config.gpus or 1,
            parallel=config.parallel if config.is_parallel else None,
            peak_used_by_rank=tuple(outside.total + each + used - held for each in most.reserved),
            wait_share=speed.wait_share,
            speedup=speed.speedup,
            forecast_s=time.perf_counter() - began,
            notes=(
                *idle(config),
                *general(config, gpu, stack, loop, outside, played, limit, about_data),
                *about_ranks(config, most.reserved, about_link),
                *about_compiling(config, span, is_traced=kept is not None),
                *about_host(work, gpu),
                *traces.notes,
                *on_unified(unified, used - held),
            ),
        )

    def _forecast_answers(self, config: RunConfig, gpu: Gpu, given: Assumptions, stack: Stack) -> Forecast:
        if not stack.is_of_today:
            raise ConfigError("", "--stack: answers are forecast for today's software: leave it out.")
        attention.refuse_on(config, gpu.name, gpu.compute_capability)
        traces = self._answers_of(config, gpu, stack)
        plain, draft = traces, None
        if config.speculate != "off":
            plain = self._answers_of(config.with_values(speculate="off", draft_model=None), gpu, stack)
        if config.speculate == "draft" and config.draft_model is not None:
            alone = config.with_values(model=config.draft_model, speculate="off", draft_model=None)
            draft = self._answers_of(alone, gpu, stack)
        key = traces, draft
        made = _kept(self._answers, key, self._answers.get(key) or AnswerForecaster(traces, plain, draft, stack))
        outside = outside_memory(gpu, stack, given.context_bytes, given.library_bytes, given.beside_bytes)
        notes = *idle(config), *outside.notes, f"{stack.description}. The speed is rough."
        return made.forecast(config, gpu, _limit(config, gpu, given), outside, notes, given.acceptance)

    def _answers_of(self, config: RunConfig, gpu: Gpu, stack: Stack) -> AnswerTraces:
        source, asked = self._source(config), asked_of(config)
        answerers.refuse_masked(source.model, config)
        models.check_head(source.model.config, config)
        answerers.check_length(source.model, config, asked.width)
        shared = config.with_values(**_NOT_IN_ANSWERS)
        guesses = config.speculate_tokens if config.speculate != "off" else 0
        scores = config.speculate == "draft"
        key = (
            shared,
            guesses,
            scores,
            gpu.compute_capability,
            gpu.multiprocessors,
            source.stamp,
            source.model.location is None,
        )
        traces = self._answering.get(key)
        if traces is None:
            model: Any = build_on_meta(source.model, shared, stack, n_labels=_N_LABELS, vocab_size=None)
            model.eval()
            if config.task != "classification":
                caches.refuse(config, model)
                model.generation_config = own_settings(model)
            plan = AnswerPlan(config=shared, model=model, gpu=gpu, stack=stack, guesses=guesses, scores=scores)
            traces = AnswerTraces(plan, (asked.width, asked.new))
        return _kept(self._answering, key, traces)

    def _alone(self, source: Source, config: RunConfig, gpu: Gpu, stack: Stack, loop: Loop, data: DataShape) -> Work:
        """One GPU's work with the same batch."""
        one = config.with_values(gpus=1, parallel="ddp")
        traces, order = self._traces_of(source, one, gpu, stack, loop, data), sequence(one, data)
        expect(traces, [order])
        for batch in order.trained:
            traces.step(batch, accumulates=accumulates(order))
        return traces.work(order.samples, order.width, order.target)

    def _traces_of(
        self, source: Source, config: RunConfig, gpu: Gpu, stack: Stack, loop: Loop, data: DataShape
    ) -> Traces:
        shared = config.with_values(**_not_in_a_trace(config))
        facts = data.n_labels, data.vocab_size, data.fields
        card = gpu.compute_capability, gpu.multiprocessors
        key = shared, *card, stack.name, loop.name, *facts, source.stamp, source.model.location is None
        traces = self._traces.get(key)
        if traces is None:
            model = build_on_meta(source.model, shared, stack, n_labels=data.n_labels, vocab_size=data.vocab_size)
            plan = StepPlan(config=shared, model=model, gpu=gpu, stack=stack, loop=loop, fields=data.fields)
            traces = Traces(plan)
        return _kept(self._traces, key, traces)

    def _source(self, config: RunConfig) -> Source:
        stamp = _stamp(config.model)
        key = config.model, stamp, config.workload == "dummy"
        source = self._sources.get(key)
        if source is None or source.is_to_come:
            if self._hub is None and known(config.model) is None and not is_own(config.model):
                self._hub = Hub()
                self._hub.probe()
            source = find_source(config, self._hub, stamp, self._own_model)
        return _kept(self._sources, key, source)


def _not_in_a_trace(config: RunConfig) -> dict[str, Value]:
    """Knobs whose values traces of such a configuration share, with these."""
    return {name: value for name, value in _NOT_IN_A_TRACE.items() if not (config.is_divided and name in _OF_DIVIDING)}


def _kept(cache: dict[K, V], key: K, value: V) -> V:
    """`value`, remembered as the one asked for last; the one not asked for longest goes when there are too many."""
    cache.pop(key, None)
    cache[key] = value
    if len(cache) > MOST_KEPT:
        del cache[next(iter(cache))]
    return value


def _data(source: Source, config: RunConfig, reading: Callable[[], None]) -> tuple[DataShape, str | None]:
    """The shape of the run's data and a sentence on it: known, or what it is taken for.

    Raises `ConfigError` where the data cannot be trained on.
    """
    wanted = models.wants(source.model)
    why = "its tokenizer is not here yet"
    if not source.is_to_come:
        try:
            data = known_shape(config, **wanted, reading=reading)
        except NotReadError as error:
            why = str(error)
        else:
            return data, None if config.workload == "dummy" else _about(data)
    has_tokenizer = source.is_to_come or wanted["tokenizer"] is not None
    data, told = assumed_shape(config, has_tokenizer=has_tokenizer, model_vocab_size=wanted["model_vocab_size"])
    return data, f"Assumed of the data ({why}): {told}."


def _about(data: DataShape) -> str:
    longest, mean = int(data.train.tokens.max()), float(data.train.tokens.mean())
    vocabulary = "" if data.vocab_size is None else f", a vocabulary of {data.vocab_size:,} entries trained on them"
    samples = f"{data.train.n:,} samples of {mean:,.0f} tokens on average, at most {longest:,}"
    return f"Read from the data: {samples}{vocabulary}."


def _refuse(config: RunConfig, gpu: Gpu) -> None:
    if config.gpus is None:
        raise ConfigError("gpus", "--gpus all: say how many GPUs to forecast for, such as --gpus 8.")
    refuse_missing_packages(config)
    refuse_types(config, gpu.compute_capability, gpu.name)


def _named(known: Mapping[str, V], what: str, name: str) -> V:
    if name not in known:
        *most, last = known
        raise ConfigError("", f"--{what} {name!r} is not known: use {', '.join(most)} or {last}.")
    return known[name]


def _limit(config: RunConfig, gpu: Gpu, given: Assumptions) -> int:
    limits = [gpu.memory_total]
    if given.limit_bytes is not None:
        limits.append(given.limit_bytes)
    if config.vram_limit is not None:
        limits.append(config.vram_limit * MIB)
    return min(limits)


def _stamp(name: str) -> float:
    """When a local model's or adapter's configuration was written: what is known of an older one is out of date."""
    folder = Path(name).expanduser()
    written = [file.stat().st_mtime for file in (folder / "config.json", folder / ADAPTER) if file.is_file()]
    return max(written, default=0.0)


def _range(reserved: int, outside: Outside, saved: int) -> tuple[int, int] | None:
    """`saved`: bytes that may be less reserved."""
    if outside.range is None and not saved:
        return None
    least, most = outside.range or (outside.total, outside.total)
    return reserved - saved + least, reserved + most


def _saved_by_compiling(kept: Kept | None, batch: BatchShape, played: Played) -> int:
    """Bytes at most that torch.compile takes off the peak."""
    return max(0, played.free.peak_reserved - least_allocated(played.timeline, kept, batch.tokens))
