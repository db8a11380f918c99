"""What the events of a run that answers add up to. Pure; standard library only.

`engine.contract.run_figures` has it for the part of a record that only such a run has.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from engine.contract.answers import AnswerFigures, AnswerShares, Percentiles
from engine.contract.config import RunConfig
from engine.contract.distribution import Distribution
from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    CachesHold,
    Event,
    Prefilled,
    QualityMeasured,
    RequestDone,
    TokensCompared,
    TokensDone,
)

STOPPED = "stopped"
"""The reason of a request whose run was stopped before its answer ended."""


class AnswerFold:
    """Folds one run's events into its `AnswerFigures`, without what warms up.

    All latencies are kept, 8 bytes each, so that percentiles are exact; an event costs the same at any length of the
    run. What a request that is not answered yet has shown so far is in the figures: a run that is stopped, or whose
    process dies, keeps it.
    """

    def __init__(self, config: RunConfig) -> None:
        self.started: AnsweringStarted | None = None
        self._speculates = config.speculate != "off"
        self._caches = config.prefix_cache or config.response_cache
        self._known = AnswerFigures()  # what is a sum, or is told as it is
        self._ttft, self._tpot, self._itl, self._e2e = (Distribution() for _ in range(4))
        self._prompt_rates, self._generation_rates, self._sample_rates = (Distribution() for _ in range(3))
        self._open: dict[int, float] = {}  # by request that is being written: its time to first token
        self._overlap = False  # whether requests begin while others are being written
        self._batch_tokens, self._batch_s = 0, 0.0  # after the first ones, of the batch under way
        self._later_tokens, self._later_s = 0, 0.0  # of all batches
        self._looped, self._n_looped = 0.0, 0  # over the answers that are long enough to tell
        self._tokens = 0  # that forwards of the model brought, or confirmed
        self._computed = self._unpadded = 0
        self._n_hits = self._n_samples = self._scored_tokens = 0
        self._first_t: float | None = None
        self._last_t = 0.0

    def copy(self) -> AnswerFold:
        """The same figures, apart from this object's."""
        other = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, (Distribution, dict)):
                setattr(other, name, value.copy())
        return other

    def add(self, event: Event) -> None:
        """Take one event in; most kinds say nothing about answers."""
        if isinstance(event, TokensDone):
            if not event.warmup:
                self._take_tokens(event)
        elif isinstance(event, Prefilled):
            if not event.warmup:
                self._take_prefill(event)
        elif isinstance(event, RequestDone):
            self._take_request(event)
        elif isinstance(event, CachesHold):
            self._known = replace(self._known, held=max(self._known.held or 0, event.held))
        elif isinstance(event, BatchScored):
            if not event.warmup:
                self._take_batch(event)
        elif isinstance(event, AnsweringStarted):
            self.started = event
            self._known = replace(
                self._known,
                planned_requests=event.n_requests,
                weights=event.weights,
                draft_weights=event.draft_weights,
            )
        elif isinstance(event, TokensCompared):
            self._known = replace(self._known, same_tokens=event.n_same, compared_tokens=event.n_tokens)
        elif isinstance(event, QualityMeasured):
            self._known = replace(
                self._known,
                agreement=event.agreement,
                perplexity=event.perplexity,
                own_perplexity=event.own_perplexity,
            )

    @property
    def seconds(self) -> float | None:
        """From the start of the first request to the last token so far; None before there is any."""
        return None if self._first_t is None else self._last_t - self._first_t

    @property
    def samples_per_s(self) -> float | None:
        """Of a classifier, in all its seconds."""
        return self._n_samples / self.seconds if self._n_samples and self.seconds else None

    @property
    def steady_samples_per_s(self) -> tuple[float, float] | None:
        """Of a classifier: median and spread of its batches; None where there are too few."""
        rates = self._sample_rates
        return (rates.percentile(50), rates.spread()) if len(rates) > 2 else None

    @property
    def tokens_per_s(self) -> float | None:
        """That were read (padding left out) and written, in all the seconds."""
        tokens = self._scored_tokens or self._known.prompt_tokens + self._known.new_tokens
        return tokens / self.seconds if tokens and self.seconds else None

    def figures(self) -> AnswerFigures | None:
        """As far as they are known; None before answering started."""
        if self.started is None:
            return None
        known, ttft = self._known, self._ttft
        if self._open:
            ttft = ttft.copy()
            for seconds in self._open.values():
                ttft.add(seconds)
        prompt, generation = self._prompt_rates, self._of_batches()
        tg, tg_spread = _median(generation)
        if self._overlap:  # then no token belongs to one batch alone
            tg, tg_spread = (self._later_tokens / self._later_s if self._later_s else None), None
        pp, pp_spread = _median(prompt)
        n_ended = known.n_requests
        return replace(
            known,
            ttft=_percentiles(ttft),
            tpot=_percentiles(self._tpot),
            itl=_percentiles(self._itl),
            e2e=_percentiles(self._e2e),
            prompt_tokens_per_s=pp,
            prompt_spread=pp_spread,
            generation_tokens_per_s=tg,
            generation_spread=tg_spread,
            requests_per_s=n_ended / self.seconds if n_ended and self.seconds else None,
            tokens_per_forward=self._tokens / known.forwards if known.forwards else None,
            proposed=known.proposed or 0 if self._speculates else None,
            accepted=known.accepted or 0 if self._speculates else None,
            acceptance=(known.accepted or 0) / known.proposed if known.proposed else None,
            held=known.held or 0 if self._caches else None,
            looped=self._looped / self._n_looped if self._n_looped else None,
            hits=self._n_hits if self._caches else None,
            hit_rate=self._n_hits / n_ended if self._caches and n_ended else None,
            padding_share=1 - self._unpadded / self._computed if self._computed else None,
        )

    def _of_batches(self) -> Distribution:
        """Tokens/s after the first of every batch, that under way included."""
        if not self._batch_s:
            return self._generation_rates
        rates = self._generation_rates.copy()
        rates.add(self._batch_tokens / self._batch_s)
        return rates

    def _until(self, t: float, seconds: float) -> None:
        """What ended at `t` took `seconds`."""
        if self._first_t is None:
            self._first_t = t - seconds
        self._last_t = max(self._last_t, t)

    def _take_prefill(self, event: Prefilled) -> None:
        self._until(event.t, event.ttft_s)
        known, n = self._known, len(event.requests)
        self._overlap = self._overlap or bool(self._open)
        if self._batch_s:
            self._generation_rates.add(self._batch_tokens / self._batch_s)
        self._batch_tokens, self._batch_s = 0, 0.0
        self._open.update(dict.fromkeys(event.requests, event.ttft_s))
        if event.prefill_s > 0:
            self._prompt_rates.add(event.prompt_tokens / event.prefill_s)
        self._tokens += n
        self._computed += event.computed_tokens
        self._unpadded += min(event.computed_tokens, event.prompt_tokens - event.cached_tokens)
        self._known = replace(
            known,
            n_prompts=known.n_prompts + n,
            prompt_tokens=known.prompt_tokens + event.prompt_tokens,
            cached_tokens=known.cached_tokens + event.cached_tokens,
            new_tokens=known.new_tokens + n,
            forwards=known.forwards + n,
            kv_cache=max(known.kv_cache or 0, event.kv_cache),
            shares=(known.shares or AnswerShares()).plus(event.shares),
        )

    def _take_tokens(self, event: TokensDone) -> None:
        self._until(event.t, sum(event.gaps))
        known, n, seconds = self._known, sum(event.arrived), sum(event.gaps)
        for gap in event.gaps:
            self._itl.add(gap)
        self._batch_tokens += n
        self._batch_s += seconds
        self._later_tokens += n
        self._later_s += seconds
        self._tokens += n
        self._known = replace(
            known,
            new_tokens=known.new_tokens + n,
            forwards=known.forwards + event.forwards,
            proposed=(known.proposed or 0) + event.proposed,
            accepted=(known.accepted or 0) + event.accepted,
            kv_cache=max(known.kv_cache or 0, event.kv_cache),
            shares=(known.shares or AnswerShares()).plus(event.shares),
        )

    def _take_request(self, event: RequestDone) -> None:
        known = self._known
        if event.compile_s is not None:
            known = replace(known, compile_s=max(known.compile_s or 0.0, event.compile_s))
        if event.warmup:
            self._known = known
            return
        self._until(event.t, event.e2e_s)
        self._open.pop(event.request, None)
        self._ttft.add(event.ttft_s)
        if event.looped is not None:
            self._looped += event.looped
            self._n_looped += 1
        from_memory = event.hit == "response"
        if event.new_tokens > 1 and not from_memory:
            self._tpot.add((event.e2e_s - event.ttft_s) / (event.new_tokens - 1))
        if from_memory:
            known = replace(
                known,
                n_prompts=known.n_prompts + 1,
                prompt_tokens=known.prompt_tokens + event.prompt_tokens,
                cached_tokens=known.cached_tokens + event.prompt_tokens,
                new_tokens=known.new_tokens + event.new_tokens,
            )
        if event.reason != STOPPED:
            self._e2e.add(event.e2e_s)
            self._n_hits += event.hit is not None
            known = replace(known, n_requests=known.n_requests + 1)
        self._known = known

    def _take_batch(self, event: BatchScored) -> None:
        self._until(event.t, event.seconds)
        self._n_samples += event.n_samples
        self._scored_tokens += event.n_tokens
        self._computed += event.computed_tokens
        self._unpadded += event.n_tokens
        self._e2e.add(event.seconds)
        if event.seconds > 0:
            self._sample_rates.add(event.n_samples / event.seconds)
            self._prompt_rates.add(event.n_tokens / event.seconds)
        known = self._known
        self._known = replace(
            known,
            n_requests=known.n_requests + event.n_samples,
            n_prompts=known.n_prompts + event.n_samples,
            prompt_tokens=known.prompt_tokens + event.n_tokens,
        )


def _percentiles(seconds: Distribution) -> Percentiles | None:
    if not len(seconds):
        return None
    return Percentiles(p50=seconds.percentile(50), p90=seconds.percentile(90), p99=seconds.percentile(99))


def _median(rates: Distribution) -> tuple[float | None, float | None]:
    """The median, and the spread of two or more."""
    if not len(rates):
        return None, None
    return rates.percentile(50), rates.spread() if len(rates) > 1 else None
