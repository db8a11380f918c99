"""The forecast: VRAM and speed of a configuration on a GPU that need not be there.

A training step is traced on meta tensors, once per model and technique, and played through the caching allocator for
the batches that the run will have, in its order. Used = CUDA context + library images + reserved segments.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

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
    OPTIMIZER,
    OUT_OF_MEMORY,
    Forecast,
    ForecastError,
    TimelinePoint,
)
from engine.contract.idle import idle
from engine.devices.precision import refuse_types
from engine.forecast.compiled import Kept, least_allocated
from engine.forecast.loops import LOOPS, Loop
from engine.forecast.outside import Outside, outside_memory
from engine.forecast.prepare import build_on_meta
from engine.forecast.replay import Player, Replay
from engine.forecast.sequence import Kind, Sequence, sequence
from engine.forecast.sources import Source, find_source
from engine.forecast.speed import Rates, seconds
from engine.forecast.step import StepPlan
from engine.forecast.traces import Traces
from engine.forecast.work import Work
from engine.gpus.catalogue import Gpu
from engine.gpus.host_link import host_bandwidth
from engine.gpus.units import MIB
from engine.models.catalogue import known
from engine.techniques.refusals import refuse_missing_packages
from engine.tracing.stack import STACKS, Stack
from engine.tracing.unified import with_unified
from engine.training import models
from engine.training.hub import Hub
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
    limit_bytes: int | None = None
    """Memory to judge by, where that is less than the GPU's."""


class Forecaster:
    """Makes forecasts and keeps its traces: one more batch size of a traced model takes milliseconds.

    Not thread-safe: one thread at a time.
    """

    def __init__(self, hub: Hub | None = None) -> None:
        self._hub = hub
        self._sources: dict[tuple[str, float, bool], Source] = {}
        self._traces: dict[tuple[object, ...], Traces] = {}

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
        config = stack.adapt(config, given.given)
        source = self._source(config)
        models.check_head(source.model.config, config)
        models.check_length(source.model, config)
        data, about_data = _data(source, config, reading)
        order = sequence(config, data)
        traces = self._traces_of(source, config, gpu, stack, loop, data)
        outside = outside_memory(gpu, stack, given.context_bytes, given.library_bytes, given.beside_bytes)
        limit = _limit(config, gpu, given)
        played = _play(traces, order, limit, outside, stack)
        free, failed = played.free, played.limited
        held = outside.total + free.peak_reserved
        used = with_unified(held, traces.unified, limit)
        work = traces.work(order.samples, order.width, order.target)
        batch = _largest(order)
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
            breakdown=_breakdown(free, outside.context, outside.libraries, used - held),
            failing_phase=failed.failed_phase.value if failed and failed.failed_phase else None,
            failing_request=failed.failed_request if failed else None,
            failing_segment=failed.failed_segment if failed else None,
            failing_free=failed.failed_free if failed else None,
            timeline=played.timeline,
            samples_per_s=_samples_per_s(work, config, gpu, order),
            flops_per_sample=work.flops // order.samples,
            model_flops_per_sample=work.model_flops // order.samples,
            tokens_per_sample=order.width,
            n_parameters=traces.n_parameters,
            forecast_s=time.perf_counter() - began,
            notes=(
                *idle(config),
                *_notes(config, gpu, stack, loop, outside, played, limit, about_data),
                *_about_compiling(config, span, is_traced=kept is not None),
                *_about_host(work, gpu),
                *traces.notes,
                *_on_unified(traces.unified, used - held),
            ),
        )

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
            if self._hub is None and known(config.model) is None:
                self._hub = Hub()
                self._hub.probe()
            source = find_source(config, self._hub, stamp)
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


@dataclass(frozen=True, slots=True)
class _Played:
    """A run without a limit, and one within it where that may fail."""

    free: Replay
    limited: Replay | None
    timeline: tuple[TimelinePoint, ...]
    is_unsure: bool
    """Whether the verdict would be the other one at an end of the range of what is outside the allocator."""
    retries: float = 0.0
    """How often in an update cached memory has to be given back, where it fits only so."""


def _play(traces: Traces, order: Sequence, limit: int, outside: Outside, stack: Stack) -> _Played:
    windows = [act for act in order.acts if act.kind is Kind.WINDOW]
    accumulates = max(sum(times for _, times in window.runs) for window in windows) > 1
    traces.expect(order.trained, order.scored, accumulates=accumulates)
    options = _options(stack)
    largest = max(windows, key=lambda act: act.largest)

    def player(capacity: int | None, watched: int | None = None) -> Player:
        allocator = CachingAllocator(
            None if capacity is None else max(0, capacity), options, grows_down=stack.grows_down
        )
        step = partial(traces.step, accumulates=accumulates)
        return Player(allocator, step, traces.scoring, watched=watched)

    def fits(capacity: int) -> bool:
        return free.peak_reserved <= capacity or player(capacity).run(order.acts).failed_phase is None

    unlimited = player(None)
    free = unlimited.run(order.acts)
    capacity = limit - outside.total
    least, most = outside.range or (outside.total, outside.total)
    if free.peak_reserved <= capacity:
        return _Played(free, None, unlimited.record(largest), is_unsure=not fits(limit - most))
    within = player(capacity)
    limited = within.run(order.acts)  # giving back what is cached may save it
    if limited.failed_phase is None:
        retries = within.retries(largest)
        return _Played(free, limited, unlimited.record(largest), is_unsure=not fits(limit - most), retries=retries)
    again = player(capacity, limited.failed_play)
    again.run(order.acts)
    return _Played(free, limited, again.course, is_unsure=least < outside.total and fits(limit - least))


def _refuse(config: RunConfig, gpu: Gpu) -> None:
    refuse_missing_packages(config)
    refuse_types(config, gpu.compute_capability, gpu.name)


def _named(known: Mapping[str, V], what: str, name: str) -> V:
    if name not in known:
        *most, last = known
        raise ConfigError("", f"--{what} {name!r} is not known: use {', '.join(most)} or {last}.")
    return known[name]


def _options(stack: Stack) -> AllocatorOptions:
    """The allocator's settings of this environment; those of another day are the defaults."""
    if not stack.is_of_today:
        return AllocatorOptions()
    try:
        return AllocatorOptions.from_environment(os.environ)
    except AllocatorOptionError as error:
        raise ForecastError(f"The allocator's settings cannot be followed: {error}") from None


def _limit(config: RunConfig, gpu: Gpu, given: Assumptions) -> int:
    limits = [gpu.memory_total]
    if given.limit_bytes is not None:
        limits.append(given.limit_bytes)
    if config.vram_limit is not None:
        limits.append(config.vram_limit * MIB)
    return min(limits)


def _breakdown(free: Replay, context: int, libraries: int, unified: int) -> dict[str, int]:
    held = dict.fromkeys(BREAKDOWN, 0) | free.by_category
    held[ACTIVATIONS] += held.pop(INPUTS, 0)
    held[CACHED] = free.peak_reserved - sum(held.values())
    held[CONTEXT] = context
    held[LIBRARIES] += libraries
    held[OPTIMIZER] += unified
    return held


def _samples_per_s(work: Work, config: RunConfig, gpu: Gpu, order: Sequence) -> float | None:
    rates = Rates.of(gpu, config)
    if rates is None:
        return None
    micro_steps = min(config.gradient_accumulation_steps, order.micro_steps)
    return micro_steps * order.samples / seconds(work, micro_steps, rates)


def _about_host(work: Work, gpu: Gpu) -> Iterator[str]:
    if work.host_bytes:
        yield (
            f"Activation offloading keeps {work.host_bytes / MIB:,.0f} MiB in the host's memory and copies "
            f"{work.moved_bytes / MIB:,.0f} MiB a micro-step, at an assumed {host_bandwidth(gpu) / 1e9:,.0f} GB/s."
        )


def _stamp(name: str) -> float:
    """When a local model's configuration was written: what is known of an older one is out of date."""
    try:
        return (Path(name).expanduser() / "config.json").stat().st_mtime
    except OSError:
        return 0.0


def _range(reserved: int, outside: Outside, saved: int) -> tuple[int, int] | None:
    """`saved`: bytes that may be less reserved."""
    if outside.range is None and not saved:
        return None
    least, most = outside.range or (outside.total, outside.total)
    return reserved - saved + least, reserved + most


def _saved_by_compiling(kept: Kept | None, batch: BatchShape, played: _Played) -> int:
    """Bytes at most that torch.compile takes off the peak."""
    return max(0, played.free.peak_reserved - least_allocated(played.timeline, kept, batch.tokens))


def _largest(order: Sequence) -> BatchShape:
    largest = max((act for act in order.acts if act.kind is Kind.WINDOW), key=lambda act: act.largest)
    return max((batch for batch, _ in largest.runs), key=lambda batch: batch.tokens)


def _about_compiling(config: RunConfig, span: tuple[int, int] | None, *, is_traced: bool) -> Iterator[str]:
    if not config.torch_compile or span is None:
        return
    keeps = "what Inductor keeps for backward and no temporaries" if is_traced else "no temporaries"
    yield (
        f"With torch.compile between {span[0] // MIB:,} MiB ({keeps}) and {span[1] // MIB:,} MiB (as without it); the "
        "speed is that without it."
    )


def _on_unified(unified: int, on_card: int) -> Iterator[str]:
    if unified:
        where = (
            "all on the card" if on_card == unified else f"{on_card / MIB:,.0f} of them on the card and the rest not"
        )
        yield (
            f"{unified / MIB:,.0f} MiB of optimizer states are in unified memory, which the driver moves to the host "
            f"where the card is full, at the price of time: {where}. They decide no verdict."
        )


def _notes(
    config: RunConfig,
    gpu: Gpu,
    stack: Stack,
    loop: Loop,
    outside: Outside,
    played: _Played,
    limit: int,
    about_data: str | None,
) -> Iterator[str]:
    if gpu.compute_capability < stack.oldest_capability:
        (major, minor), oldest = gpu.compute_capability, ".".join(map(str, stack.oldest_capability))
        yield (
            f"{stack.description.partition(',')[0]} has no code for {gpu.name}, of compute capability {major}.{minor} "
            f"(the oldest is {oldest}): this is what it would take if it had."
        )
    if gpu.fp32 is None:
        yield f"{gpu.name} is not in the catalogue: CUDA says what it has; how fast it would be is not known."
    if outside.note is not None:
        yield outside.note
    if played.limited is not None and played.limited.failed_phase is None:
        more = outside.total + played.free.peak_reserved - limit
        yield (
            f"It fits although it would take {more // MIB:,} MiB more if they were there: the allocator gives cached "
            f"memory back when the card is full, {_how_often(played.retries)}"
        )
    if about_data is not None:
        yield about_data
    if played.free.passed_over:
        n = played.free.passed_over
        yield f"The run is long: of {n:,} later updates and evaluations only the largest were followed."
    if loop.description:
        yield loop.description
    yield f"{stack.description}. Fragmentation moves some peaks by 4 %; the speed is rough."


def _how_often(retries: float) -> str:
    """What giving cached memory back costs, by how often a later update does it."""
    if not retries:
        return "in the first updates only, which are slower for it."
    return (
        f"about {retries:,.3g} times in an update; each time the GPU has to finish all that it was given, and takes "
        "the memory anew, so it is slower than said."
    )
