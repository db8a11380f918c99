"""The forecast: VRAM and speed of a configuration on a GPU that need not be there.

A training step is traced on meta tensors, once per model and technique, and played through the caching allocator at
the wanted batch size. Used = CUDA context + library images + reserved segments.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.allocator.allocator import CachingAllocator
from engine.allocator.options import AllocatorOptionError, AllocatorOptions
from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.forecast_types import (
    ACTIVATIONS,
    BREAKDOWN,
    CACHED,
    CONTEXT,
    FITS,
    INPUTS,
    LIBRARIES,
    NEAR_LIMIT,
    OUT_OF_MEMORY,
    Forecast,
    ForecastError,
    TimelinePoint,
)
from engine.contract.presets import PRESETS
from engine.forecast.prepare import build_on_meta
from engine.forecast.recording import schedule
from engine.forecast.replay import Player, Replay
from engine.forecast.speed import Work
from engine.forecast.step import StepPlan
from engine.forecast.traces import Traces
from engine.gpus.catalogue import Gpu
from engine.gpus.units import MIB
from engine.tracing.stack import STACKS, Stack
from engine.training import models
from engine.training.hub import Hub
from engine.training.trainer import planned_updates

_REVIEW_STARS = 5
_NOT_IN_A_TRACE: dict[str, Value] = {
    "batch_size": 1,
    "gradient_accumulation_steps": 1,
    "samples": 1,
    "eval_samples": 1,
    "epochs": 1,
    "learning_rate": 5e-5,
    "lr_scheduler": "linear",
    "non_finite_loss": "continue",
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": True,
    "dataloader_prefetch_factor": 2,
    "seed": 42,
    "device": "auto",
    "vram_limit": None,
    "data": None,
    "text_column": None,
    "label_column": None,
    "torch_compile": False,
}
"""Knobs that change no allocation of a step (the batch size only their sizes), with the value that traces share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What a forecast takes for granted, in bytes; None takes the stack's or the GPU's own."""

    stack: str = "current"
    context_bytes: int | None = None
    """The CUDA context."""
    library_bytes: int | None = None
    """Library images outside the allocator."""
    limit_bytes: int | None = None
    """Memory to judge by, where that is less than the GPU's."""
    n_labels: int | None = None
    """Classes; None: 2, and 5 for reviews."""
    vocab_size: int | None = None
    """Of a vocabulary trained on the data; None: the model's own."""


class Forecaster:
    """Makes forecasts and keeps its traces: one more batch size of a traced model takes milliseconds.

    Not thread-safe: one thread at a time.
    """

    def __init__(self, hub: Hub | None = None) -> None:
        self._hub = hub
        self._sources: dict[tuple[str, float], models.ModelSource] = {}
        self._traces: dict[tuple[object, ...], Traces] = {}

    def forecast(self, config: RunConfig, gpu: Gpu, assumptions: Assumptions | None = None) -> Forecast:
        """What `config` needs on `gpu`, and about how fast it would be.

        Raises `ConfigError` where a run would be refused, and `ForecastError` where a step cannot be traced.
        """
        began = time.perf_counter()
        given = assumptions or Assumptions()
        stack = _stack(given.stack)
        _refuse(config, gpu)
        traces = self._traces_of(stack.adapt(config), gpu, stack, given)
        context, libraries = _outside(gpu, stack, given)
        limit = _limit(config, gpu, given)
        played = _play(traces, config, limit - context - libraries, stack)
        free, failed = played.free, played.limited
        used = context + libraries + free.peak_reserved
        work = traces.work(config.batch_size)
        return Forecast(
            gpu=gpu.name,
            total=gpu.memory_total,
            limit=limit,
            verdict=FITS if failed is None or failed.failed_phase is None else OUT_OF_MEMORY,
            near_limit=abs(used - limit) <= NEAR_LIMIT * limit,
            peak_used=used,
            peak_reserved=free.peak_reserved,
            peak_allocated=free.peak_allocated,
            loaded_used=context + free.loaded_reserved,
            breakdown=_breakdown(free, context, libraries),
            failing_phase=failed.failed_phase.value if failed and failed.failed_phase else None,
            failing_request=failed.failed_request if failed else None,
            timeline=played.timeline,
            samples_per_s=_samples_per_s(work, config, gpu),
            flops_per_sample=work.flops // config.batch_size,
            model_flops_per_sample=work.model_flops // config.batch_size,
            n_parameters=traces.n_parameters,
            forecast_s=time.perf_counter() - began,
            notes=(*_notes(config, gpu, stack, given), *traces.notes),
        )

    def _traces_of(self, config: RunConfig, gpu: Gpu, stack: Stack, given: Assumptions) -> Traces:
        n_labels = given.n_labels or (_REVIEW_STARS if config.workload == "reviews" else 2)
        shared = config.with_values(**_NOT_IN_A_TRACE)
        stamp = _stamp(config.model)
        key = (shared, gpu.compute_capability, gpu.multiprocessors, stack.name, n_labels, given.vocab_size, stamp)
        traces = self._traces.get(key)
        if traces is None:
            source = self._source(config.model, stamp)
            models.check_length(source, config)
            model = build_on_meta(source, shared, stack, n_labels=n_labels, vocab_size=given.vocab_size)
            plan = StepPlan(config=shared, model=model, gpu=gpu, stack=stack)
            traces = self._traces[key] = Traces(plan)
        return traces

    def _source(self, name: str, stamp: float) -> models.ModelSource:
        source = self._sources.get((name, stamp))
        if source is None:
            if self._hub is None and name not in PRESETS:
                self._hub = Hub()
                self._hub.probe()
            source = self._sources[name, stamp] = _resolve(name, self._hub)
        return source


def _resolve(name: str, hub: Hub | None) -> models.ModelSource:
    """A preset needs no hub: its shape is known."""
    if hub is not None and (name not in PRESETS or Path(name).expanduser().is_dir()):
        return models.resolve(name, hub)
    from transformers import AutoConfig

    preset = PRESETS[name]
    config = AutoConfig.for_model(preset.model_type, **preset.settings)
    return models.ModelSource(name=name, config=config, location=None, tokenizer=None, local_only=True, note="")


@dataclass(frozen=True, slots=True)
class _Played:
    """A run without a limit, and one within it where that may fail."""

    free: Replay
    limited: Replay | None
    timeline: tuple[TimelinePoint, ...]


def _play(traces: Traces, config: RunConfig, capacity: int, stack: Stack) -> _Played:
    micro_steps = -(-config.samples // config.batch_size)
    updates = planned_updates(config, micro_steps)
    accumulates = min(config.gradient_accumulation_steps, micro_steps) > 1
    script = traces.script(config.batch_size, accumulates=accumulates)
    first, later = schedule(micro_steps, config.gradient_accumulation_steps, updates)
    options = _options(stack)
    player = Player(script, CachingAllocator(None, options, grows_down=stack.grows_down))
    free = player.run(first, later, updates)
    timeline = player.record_update(later or first[1:])
    limited = None
    if free.peak_reserved > capacity:  # giving back what is cached may save it
        card = CachingAllocator(max(0, capacity), options, grows_down=stack.grows_down)
        limited = Player(script, card).run(first, later, updates)
    return _Played(free, limited, timeline)


def _refuse(config: RunConfig, gpu: Gpu) -> None:
    if gpu.supports(config.precision):
        return
    major, minor = gpu.compute_capability
    raise ConfigError(
        "precision",
        f"--precision {config.precision} needs compute capability 8.0 or newer; {gpu.name} has {major}.{minor}: "
        "use --precision fp16 or fp32.",
    )


def _stack(name: str) -> Stack:
    if name not in STACKS:
        raise ForecastError(f"--stack {name!r} is not known: use {' or '.join(STACKS)}.")
    return STACKS[name]


def _options(stack: Stack) -> AllocatorOptions:
    """The allocator's settings of this environment; the lecture's are the defaults."""
    if stack.is_of_2023:
        return AllocatorOptions()
    try:
        return AllocatorOptions.from_environment(os.environ)
    except AllocatorOptionError as error:
        raise ForecastError(f"The allocator's settings cannot be followed: {error}") from None


def _outside(gpu: Gpu, stack: Stack, given: Assumptions) -> tuple[int, int]:
    """Bytes of the context and of the libraries: given, or what the stack knows of the card."""
    context, libraries = stack.outside(gpu)
    return (
        context if given.context_bytes is None else given.context_bytes,
        libraries if given.library_bytes is None else given.library_bytes,
    )


def _limit(config: RunConfig, gpu: Gpu, given: Assumptions) -> int:
    limits = [gpu.memory_total]
    if given.limit_bytes is not None:
        limits.append(given.limit_bytes)
    if config.vram_limit is not None:
        limits.append(config.vram_limit * MIB)
    return min(limits)


def _breakdown(free: Replay, context: int, libraries: int) -> dict[str, int]:
    held = dict.fromkeys(BREAKDOWN, 0) | free.by_category
    held[ACTIVATIONS] += held.pop(INPUTS, 0)
    held[CACHED] = free.peak_reserved - sum(held.values())
    held[CONTEXT] = context
    held[LIBRARIES] += libraries
    return held


def _samples_per_s(work: Work, config: RunConfig, gpu: Gpu) -> float | None:
    peak = gpu.peak(config.precision)
    if not peak:
        return None
    micro_steps = min(config.gradient_accumulation_steps, -(-config.samples // config.batch_size))
    return micro_steps * config.batch_size / work.seconds(micro_steps, peak, gpu.memory_bandwidth)


def _stamp(name: str) -> float:
    """When a local model's configuration was written: what is known of an older one is out of date."""
    try:
        return (Path(name).expanduser() / "config.json").stat().st_mtime
    except OSError:
        return 0.0


def _notes(config: RunConfig, gpu: Gpu, stack: Stack, given: Assumptions) -> Iterator[str]:
    context, libraries = _outside(gpu, stack, given)
    if given.library_bytes is None or given.context_bytes is None:
        is_known = gpu.context_bytes is not None and gpu.library_bytes is not None
        yield (
            f"{'As measured on another such card' if is_known else 'Assumed, not measured'}: a CUDA context of "
            f"{context // MIB} MiB and {libraries // MIB} MiB of libraries; they depend on driver and CUDA version "
            "(--context-mib, --library-mib)."
        )
    if config.workload != "dummy":
        yield f"Every text is taken to have the full {config.seq_len} tokens, some of them padding."
    if config.torch_compile:
        yield "Forecast without torch.compile, which as a rule needs less memory and time."
    yield f"{stack.description}. Fragmentation moves some peaks by 4 %; the speed is rough."
