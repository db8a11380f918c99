"""The forecast of a run that answers: `generate` traced on meta tensors, and its steps played through the allocator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.allocator.allocator import CachingAllocator
from engine.contract import speculation
from engine.contract.answering_knobs import DEFAULT_PROMPT_LEN, LEAST_PREFIX
from engine.contract.config import RunConfig
from engine.contract.forecast_types import FITS, KV_CACHE, NEAR_LIMIT, OUT_OF_MEMORY, AnswerForecast, Forecast
from engine.devices.precision import DTYPES
from engine.forecast.answering.course import MOST_EVENTS, Answered, Course
from engine.forecast.answering.pace import Pace, pace
from engine.forecast.answering.room import largest
from engine.forecast.answering.template import OWN, Part, Template
from engine.forecast.answering.traces import AnswerTraces
from engine.forecast.breakdown import breakdown
from engine.forecast.outside import Outside
from engine.forecast.played import allocator_options
from engine.gpus.catalogue import Gpu
from engine.gpus.units import MIB
from engine.techniques import attention, quantised
from engine.techniques.generation import caches
from engine.techniques.generation.settings import WARMUP_TOKENS
from engine.tracing.stack import Stack
from engine.training import models

FEW_EVENTS = 4_000
"""Births and deaths that decoding is followed for in a search."""
LONGEST = 1_048_576
"""Tokens of a text that a search goes up to, where a model has no limit of its own: the most that knobs take."""
MOST_BATCH = 65_536
ROOMIER = (1.02, 1.1, 1.25, 1.5, 2.0)
"""Times the memory that is allocated at the most: room that is tried for a run that does not fit."""
ACCEPTANCES = (0.2, 0.4, 0.6, 0.8, 0.9)
"""That speculation is told for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run is asked, as memory sees it."""

    batch: int
    width: int
    """Tokens of the longest prompt."""
    new: int
    """Of an answer, at the most; a classifier's is 1."""


def asked_of(config: RunConfig) -> Asked:
    """Prompts that are not made up here are taken for as long as they may be."""
    new = 1 if config.task == "classification" else config.max_new_tokens
    return Asked(batch=config.batch_size, width=config.prompt_len or DEFAULT_PROMPT_LEN, new=new)


@dataclass(frozen=True, slots=True)
class _Verdict:
    shown: Answered
    """The run as it would go."""
    failed: Answered | None
    saved: int
    """Bytes less than without a limit, as cached memory is given back; 0 where nothing is."""


class AnswerForecaster:
    """Forecasts of one model and technique on one card's kernels.

    `plain` are its traces without speculation, the same where there is none; `draft` those of who guesses for it.
    """

    def __init__(self, traces: AnswerTraces, plain: AnswerTraces, draft: AnswerTraces | None, stack: Stack) -> None:
        self._traces, self._plain, self._draft, self._stack = traces, plain, draft, stack
        self._found: dict[tuple[object, ...], int | None] = {}
        """Of searches."""

    def forecast(
        self,
        config: RunConfig,
        gpu: Gpu,
        limit: int,
        outside: Outside,
        notes: tuple[str, ...],
        acceptance: float | None,
    ) -> Forecast:
        """`acceptance`: of guessed tokens, where that is known. Raises `ForecastError`."""
        asked, capacity = asked_of(config), limit - outside.total
        plan = self._template(config, asked)
        verdict = self._play(plan, asked, capacity)
        shown, failed = verdict.shown, verdict.failed
        self._plain.template(asked.batch, asked.width, asked.new)
        speed = pace(config, gpu, self._plain, asked.width, asked.new)
        used = outside.total + shown.peak_reserved
        needed = outside.total + (shown.peak_allocated if verdict.saved else shown.peak_reserved)
        span = None
        if outside.range is not None:
            span = outside.range[0] + shown.peak_reserved, outside.range[1] + shown.peak_reserved
        answer = self._answer(config, gpu, asked, capacity, plan, speed, acceptance)
        seconds = speed.prefill_s
        if seconds is not None and answer.generation_tokens_per_s:
            seconds += (asked.new - 1) * asked.batch / answer.generation_tokens_per_s
        flops = self._flops(asked)
        return Forecast(
            gpu=gpu.name,
            total=gpu.memory_total,
            limit=limit,
            verdict=FITS if failed is None else OUT_OF_MEMORY,
            near_limit=abs(needed - limit) <= NEAR_LIMIT * limit
            or (span is not None and (used <= limit) is not (span[failed is None] <= limit)),
            peak_used=used,
            peak_reserved=shown.peak_reserved,
            peak_allocated=shown.peak_allocated,
            used_range=span,
            loaded_used=outside.context + shown.loaded_reserved,
            breakdown=breakdown(shown, outside.context, outside.libraries),
            failing_phase=failed.failed_phase.value if failed and failed.failed_phase else None,
            failing_request=failed.failed_request if failed else None,
            failing_segment=failed.failed_segment if failed else None,
            failing_free=failed.failed_free if failed else None,
            timeline=(failed or shown).timeline,
            samples_per_s=None if not seconds else asked.batch / seconds,
            flops_per_sample=flops,
            model_flops_per_sample=flops,
            tokens_per_sample=float(asked.width + asked.new),
            n_parameters=self._traces.n_parameters,
            forecast_s=0.0,
            answer=answer,
            notes=(*self._notes(config, asked, verdict), *notes),
        )

    def _template(self, config: RunConfig, asked: Asked) -> Template:
        """With what is there beside the model and its batch: a draft model with its keys and values, a kept prefix."""
        plan = self._traces.template(asked.batch, asked.width, asked.new)
        beside = Part(
            events=list(plan.load.events),
            homes=list(plan.load.homes),
            phases=list(plan.load.phases),
            sizes=list(plan.load.sizes),
            categories=list(plan.load.categories),
        )
        if self._draft is not None:
            guesses = self._draft.template(1, asked.width, asked.new)
            for size, category in zip(guesses.load.sizes, guesses.load.categories, strict=True):
                _bear(beside, size, category)
        _bear(beside, self._kept_by_draft(asked), KV_CACHE)
        if config.prefix_cache and config.keeps_keys and config.prefix_len >= LEAST_PREFIX:
            kept = min(config.prefix_len, asked.width - 1)  # one token at least is left to compute
            for size in caches.kept_per_token(*_kept_as(self._traces, config)):
                _bear(beside, kept * size, KV_CACHE)
        return replace(plan, load=beside)

    def _course(self, plan: Template, capacity: int | None, most_events: int, *, is_told: bool = True) -> Course:
        room = None if capacity is None else max(0, capacity)
        allocator = CachingAllocator(room, allocator_options(self._stack), grows_down=self._stack.grows_down)
        return Course(allocator, plan, most_events=most_events, is_told=is_told)

    def _play(self, plan: Template, asked: Asked, capacity: int) -> _Verdict:
        batches = min(WARMUP_TOKENS, self._written(asked)), self._written(asked)
        free = self._course(plan, None, MOST_EVENTS).answer(*batches)
        if free.peak_reserved <= capacity:
            return _Verdict(free, None, 0)
        within = self._course(plan, capacity, MOST_EVENTS).answer(*batches)
        if within.failed_phase is None:
            return _Verdict(within, None, free.peak_reserved - within.peak_reserved)
        # with no limit it would never give back what is left of smaller caches: what it could do with is told
        for share in ROOMIER:
            least = self._course(plan, int(share * free.peak_allocated), FEW_EVENTS).answer(*batches)
            if least.failed_phase is None and least.peak_reserved > capacity:
                return _Verdict(least, within, free.peak_reserved - least.peak_reserved)
        return _Verdict(free, within, 0)

    def _answer(
        self,
        config: RunConfig,
        gpu: Gpu,
        asked: Asked,
        capacity: int,
        plan: Template,
        speed: Pace,
        acceptance: float | None,
    ) -> AnswerForecast:
        speed_up = self._speed_up(config, gpu, asked, speed)
        gain = 1.0 if speed_up is None or acceptance is None else speed_up(acceptance)
        return AnswerForecast(
            kv_per_token=kv_per_token(self._traces, config),
            kv_cache=plan.kept(self._written(asked) - 1) + self._kept_by_draft(asked),
            most_tokens=self._most_tokens(config, asked, capacity),
            largest_batch=self._largest_batch(config, asked, capacity),
            ttft_s=speed.prefill_s,
            tpot_s=speed.step_s,
            prompt_tokens_per_s=None if not speed.prefill_s else asked.batch * asked.width / speed.prefill_s,
            generation_tokens_per_s=None if not speed.step_s else gain * asked.batch / speed.step_s,
            bound=speed.bound,
            acceptance=acceptance,
            speedups=() if speed_up is None else tuple((each, speed_up(each)) for each in ACCEPTANCES),
        )

    def _kept_by_draft(self, asked: Asked) -> int:
        """Bytes of a draft model's keys and values at the end of the longest answer; 0 where there is none."""
        if self._draft is None:
            return 0
        return self._draft.template(1, asked.width, asked.new).kept(max(0, asked.new - 2))

    def _written(self, asked: Asked) -> int:
        """Tokens of an answer as they are played: the last guesses go no further than the answer."""
        return max(1, asked.new - self._traces.plan.guesses)

    def _fits(self, config: RunConfig, asked: Asked, capacity: int) -> bool:
        plan = self._template(config, asked)
        return plan.least <= capacity and self._tried(plan, asked, capacity).failed_phase is None

    def _tried(self, plan: Template, asked: Asked, capacity: int | None) -> Answered:
        return self._course(plan, capacity, FEW_EVENTS, is_told=False).answer(self._written(asked))

    def _most_tokens(self, config: RunConfig, asked: Asked, capacity: int) -> int | None:
        """Of a prompt and its answer, of which the latter stays as long as it is."""
        positions = models.max_positions(self._traces.plan.model.config)
        new = 0 if config.task == "classification" else asked.new
        apart = self._traces.is_seq2seq or not new
        most = LONGEST if positions is None else positions - (0 if apart else new)
        width = self._largest(config, asked, capacity, "width", max(1, most))
        return None if width is None else width + new

    def _largest_batch(self, config: RunConfig, asked: Asked, capacity: int) -> int | None:
        if config.speculate != "off":
            return 1 if self._fits(config, asked, capacity) else None
        return self._largest(config, asked, capacity, "batch", MOST_BATCH)

    def _largest(self, config: RunConfig, asked: Asked, capacity: int, name: str, most: int) -> int | None:
        """The largest number by that name in `Asked` that fits, with the others as they are."""

        def with_(number: int) -> Asked:
            return replace(asked, **{name: number})

        key = name, with_(1), capacity, config.prefix_len, config.prefix_cache
        if key not in self._found:
            free: dict[int, Answered] = {}

            def freely(number: int) -> Answered:
                if number not in free:
                    free[number] = self._tried(self._template(config, with_(number)), with_(number), None)
                return free[number]

            def fits(number: int) -> bool:
                # what never finds the card full goes as it does without a limit
                least = number == 1 and freely(number).peak_reserved <= capacity
                return least or self._fits(config, with_(number), capacity)

            self._found[key] = largest(lambda number: freely(number).peak_allocated, fits, 1, most, capacity)
        return self._found[key]

    def _flops(self, asked: Asked) -> int:
        prefill = self._plain.work(asked.batch, asked.width, asked.new, "prefill").flops
        if asked.new == 1:
            return prefill // asked.batch
        middle = asked.width if self._plain.is_seq2seq else asked.width + asked.new / 2
        step = self._plain.work(asked.batch, middle, asked.new, "decode").flops
        return (prefill + (asked.new - 1) * step) // asked.batch

    def _speed_up(self, config: RunConfig, gpu: Gpu, asked: Asked, speed: Pace) -> Callable[[float], float] | None:
        """How many times as fast speculation is, by the acceptance; None where there is none, or it is not known."""
        if config.speculate == "off" or not speed.step_s:
            return None
        cost = 0.0
        if self._draft is not None:
            guesses = pace(config, gpu, self._draft, asked.width, asked.new)
            if not guesses.step_s:
                return None
            cost = guesses.step_s / speed.step_s
        n, checked = config.speculate_tokens, pace(config, gpu, self._traces, asked.width, asked.new)
        if not checked.step_s:
            return None
        check = checked.step_s / speed.step_s
        return lambda acceptance: speculation.speed_up(speculation.rate_of(acceptance, n), n, cost, check)

    def _notes(self, config: RunConfig, asked: Asked, verdict: _Verdict) -> Iterator[str]:
        if not config.has_dummy_prompts:
            yield f"Assumed of the prompts, which are read when they are asked: {asked.width:,} tokens each."
        model = self._traces.plan.model
        yield from (note for note in (attention.note(model, config), quantised.note(model, config)) if note)
        if verdict.failed is not None and verdict.failed.failed_token is not None and asked.new > 1:
            yield f"It runs out of memory before token {verdict.failed.failed_token:,} of {asked.new:,}."
        if verdict.saved > MIB and verdict.failed is None:
            yield (
                f"It fits although it would take {verdict.saved // MIB:,} MiB more if they were there: a cache that "
                "grows is made anew at every token, and what is left of the smaller ones is given back when the card "
                "is full, which takes time that is not told (--kv-cache static takes its room once)."
            )
        if config.is_quantised:
            yield (
                f"The speed of {config.weights} weights is not told: how long bitsandbytes takes to widen them again "
                "for each token has not been measured here."
            )
        if config.batching == "continuous":
            yield (
                "The forecast is that of static batching: what continuous batching takes is set by its own cache. On a "
                "virtual GPU it does not run."
            )


def kv_per_token(traces: AnswerTraces, config: RunConfig) -> int:
    """Bytes of keys and values of one token of one sequence; 0 where none are kept."""
    if not config.keeps_keys:
        return 0
    return caches.kv_bytes_per_token(*_kept_as(traces, config))


def _kept_as(traces: AnswerTraces, config: RunConfig) -> tuple[Any, str, Any]:
    return traces.plan.model.config, config.kv_dtype, DTYPES[config.stored_in]


def _bear(part: Part, size: int, category: str) -> None:
    """Something more that the part leaves behind."""
    if size:
        part.events.append(len(part.sizes))
        part.homes.append(OWN)
        part.sizes.append(size)
        part.categories.append(category)
