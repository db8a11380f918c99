"""Requests answered as places become free: transformers' continuous batching, told as events.

Its manager computes in a thread of its own: in every step the next token of all that are being written, and prompts of
those that come in. Each token's time is the manager's, of the same clock as ours.
"""

from __future__ import annotations

import time
from bisect import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.answering.requests import Request, Writing
from engine.answering.telling import TOLD_EVERY_S, request_done, shares_of
from engine.answering.written import Written
from engine.contract.answers import AnswerShares
from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Prefilled, TokensDone
from engine.contract.presets import model_name
from engine.contract.records import Phase
from engine.techniques.generation.settings import sampling
from engine.techniques.stopping import Stopped

if TYPE_CHECKING:
    import torch
    from transformers import ContinuousBatchingConfig, PreTrainedModel

    from engine.answering.job import AnswerJob
    from engine.devices.base import Device

_ASKS_S = 0.05
"""How often it is asked for whether to stop while no token comes."""
_MOST_IN_A_STEP = 8192
"""Tokens that a step computes at most: transformers' own default."""


def refuse_early(config: RunConfig, device: Device) -> None:
    """Raise `ConfigError` on a device that cannot follow it."""
    if config.batching == "continuous" and device.info.kind == "virtual":
        raise ConfigError(
            "batching",
            "--batching continuous computes in a thread of transformers, and a virtual GPU accounts for what the run's "
            "own thread computes: use --batching static, or --device cpu.",
        )


def refuse(config: RunConfig, model: PreTrainedModel) -> None:
    """Raise `ConfigError` where transformers cannot give this model its paged cache."""
    if config.batching == "continuous" and not model._supports_attention_backend:
        raise ConfigError(
            "batching",
            f"--batching continuous keeps keys and values in pages, and {model_name(config.model)} computes attention "
            "in a way of its own, which does not read them: use --batching static.",
        )


def answer_continuously(
    job: AnswerJob, requests: Sequence[Request], *, new_tokens: int, warmup: bool = False
) -> list[Writing]:
    """Answer all of these, as many at a time as the batch size says. Raises `Stopped` where that was asked for."""
    flow = Flow(job, requests, new_tokens=new_tokens, warmup=warmup)
    job.steps = flow
    with flow.listening(job.model), _manager(job, requests, new_tokens) as manager:
        flow.begin()
        for request in requests:
            manager.add_request(
                list(request.input_ids),
                request_id=str(request.number),
                max_new_tokens=new_tokens,
                streaming=True,
                record_timestamps=True,
            )
        try:
            while not flow.ended:
                said = manager.get_result(timeout=_ASKS_S)
                if said is not None:
                    flow.take(said)
                elif (error := manager.background_thread_status.fatal_error) is not None:
                    raise error
                flow.kv_cache = _pages(manager)
                if job.should_stop():
                    raise Stopped
        except Exception:
            manager.stop(block=True, hard_stop=True)
            raise
        finally:
            flow.finish()
    return flow.writings


@contextmanager
def _manager(job: AnswerJob, requests: Sequence[Request], new_tokens: int) -> Iterator[Any]:
    """transformers' manager, with room for one batch: it would take most of the free memory."""
    from transformers import GenerationConfig

    settings = GenerationConfig(
        max_new_tokens=new_tokens,
        eos_token_id=sorted(job.eos_token_ids) or -1,  # None would be the model's
        pad_token_id=job.pad_token_id,
        **sampling(job.config),
    )
    with job.model.continuous_batching_context_manager(
        generation_config=settings, continuous_batching_config=_room(job, requests, new_tokens)
    ) as manager:
        yield manager


def _room(job: AnswerJob, requests: Sequence[Request], new_tokens: int) -> ContinuousBatchingConfig:
    from transformers import ContinuousBatchingConfig

    batch_size = min(job.config.batch_size, len(requests))
    longest = max(len(request.input_ids) for request in requests)
    page = ContinuousBatchingConfig().page_size
    return ContinuousBatchingConfig(
        num_blocks=batch_size * -(-(longest + new_tokens) // page),
        max_batch_tokens=min(_MOST_IN_A_STEP, batch_size * max(longest, 2)),
        max_requests_per_batch=batch_size,
        allow_block_sharing=False,  # it does not tell what was shared
        auto_switch_to_flash=False,  # the attention is a knob of its own
        seed=job.config.seed,
    )


def _pages(manager: Any) -> int:
    """Bytes of the pages that keys and values are kept in; 0 before they are there. Not part of a public interface."""
    cache = getattr(manager.batch_processor, "cache", None)
    pages: Any = getattr(cache, "cache_tensor", None)
    return 0 if pages is None else int(pages.nbytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A forward of the manager's thread."""

    prompt_share: float
    """Of its tokens, how many are a prompt's."""
    begin: Any
    end: Any
    """Marks of the device."""
    at: float
    """The host's time of its end."""


class Flow:
    """Requests that are being answered, each begun when its place became free. Stands in for `steps.Steps`."""

    def __init__(self, job: AnswerJob, requests: Sequence[Request], *, new_tokens: int, warmup: bool) -> None:
        self.writings = [Writing(request=request) for request in requests]
        self.new_tokens = new_tokens
        self.began = time.perf_counter()
        self.kv_cache = 0
        self._job = job
        self._warmup = warmup
        self._by_name = {str(writing.request.number): writing for writing in self.writings}
        self._starts: dict[int, float] = {}
        """By a request's number: when its place became free."""
        self._left = len(self.writings)
        self._live: list[Writing] = []
        """That have a token and are not done, in the order in which they began."""
        self._spans: deque[_Span] = deque()
        self._since: tuple[float, Any] | None = None
        self._step: list[tuple[Writing, bool]] = []
        """Tokens of the step that is being read, and whether each is the first of its request."""
        self._step_at = 0.0
        self._ends: list[float] = []
        """When each forward ended, by the host's time: tokens that came between two of them are of one step."""
        self._number = 0
        """Of the forwards that ended before the step that is being read."""
        self._last = self._told = self.began
        self._gaps: list[float] = []
        self._arrived: list[int] = []
        self._forwards = 0
        self._done: list[Writing] = []
        self._shown: Writing | None = None
        self._text = Written(job.tokenizer)
        self._n_read = 0
        """Tokens of the shown request that are in its text."""

    @property
    def ended(self) -> bool:
        """Whether all are answered."""
        return self._left == 0

    @property
    def n_arrived(self) -> int:
        """Tokens of the oldest that is being written; any thread may ask."""
        live = self._live
        return len(live[0].ids) if live else 0

    def begin(self) -> None:
        """Time begins to count: the manager and its room are there."""
        self.began = self._last = self._told = time.perf_counter()

    @contextmanager
    def listening(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, the forwards of `model` are timed. Where the manager replays them as a graph, none is seen."""
        hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _before(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        tokens, rows = kwargs["input_ids"].shape[-1], kwargs["logits_indices"].shape[-1]
        share = max(0.0, (tokens - rows) / tokens)
        self._job.phase = Phase.PREFILL if share else Phase.DECODE
        self._since = share, self._job.device.mark()

    def _after(self, *_: Any) -> None:
        if self._since is not None:
            share, begin = self._since
            end = self._job.device.mark()
            self._ends.append(time.perf_counter())
            self._spans.append(_Span(prompt_share=share, begin=begin, end=end, at=self._ends[-1]))
        self._job.phase = Phase.SAMPLE

    def take(self, said: Any) -> None:
        """What the manager says of a request: transformers' `GenerationOutput`, with all its tokens so far."""
        if said.error is not None:
            raise RuntimeError(said.error)
        writing = self._by_name[said.request_id]
        self._starts.setdefault(writing.request.number, max(self.began, said.lifespan[0]))
        for token, at in zip(
            said.generated_tokens[len(writing.ids) :], said.timestamps[len(writing.ids) :], strict=True
        ):
            number = bisect(self._ends, at)
            if number != self._number or any(each is writing for each, _ in self._step):
                self._end_step()
            self._number = number
            self._step.append((writing, not writing.ids))
            self._step_at = at
            self._write(writing, token, at)

    def _write(self, writing: Writing, token: int, at: float) -> None:
        start = self._starts[writing.request.number]
        if not writing.ids:
            writing.ttft_s = at - start
            self._live.append(writing)
        writing.ids.append(token)
        writing.guessed.append(False)
        writing.e2e_s = at - start
        if token in self._job.eos_token_ids:
            writing.reason = "stop"
        elif len(writing.ids) >= self.new_tokens:
            writing.reason = "length"
        if writing.reason is not None:
            self._left -= 1
            self._done.append(writing)

    def _end_step(self) -> None:
        """A step is read to its end: count its time, and tell what is due."""
        if not self._step:
            return
        first = [writing for writing, is_first in self._step if is_first]
        n = len(self._step) - len(first)
        gap = self._step_at - self._last
        if n:
            self._gaps.append(gap)
            self._arrived.append(n)
            self._forwards += n
        elif self._gaps:  # what comes next tells of its own time alone
            self._tell()
        self._last = self._step_at
        if first:
            self._tell_prefilled(first, 0.0 if n else gap)
        if not n:
            self._told = self._last
        if self._last - self._told >= TOLD_EVERY_S or self._done:
            self._tell()
        for writing in self._done:
            self._tell_done(writing)
        self._live = [writing for writing in self._live if writing.reason is None]
        self._step, self._done = [], []

    def finish(self) -> None:
        """Tell what is left to tell. An answer that is not whole by now was stopped."""
        self._end_step()
        self._tell()
        for writing in self._live:
            writing.reason = "stopped"
            self._tell_done(writing)
        self._live, self._left = [], 0

    def _shares(self, seconds: float) -> AnswerShares:
        """What the `seconds` up to now went to; a forward of prompts and answers is divided by its tokens."""
        prefill = decode = 0.0
        while self._spans and self._spans[0].at <= self._last:
            span = self._spans.popleft()
            took = self._job.device.seconds(span.begin, span.end)
            prefill += took * span.prompt_share
            decode += took * (1 - span.prompt_share)
        return shares_of(seconds, prefill=prefill, decode=decode)

    def _tell_prefilled(self, first: Sequence[Writing], seconds: float) -> None:
        """Their first tokens came in one step; `seconds` of it are told with no other token's."""
        n = sum(len(writing.request.input_ids) for writing in first)
        ttft_s = max(writing.ttft_s for writing in first)
        is_shown = self._shown in first if self._shown is not None else self._live[0] in first
        self._job.emit(
            Prefilled(
                run_id=self._job.run_id,
                requests=tuple(writing.request.number for writing in first),
                prompt_tokens=n,
                computed_tokens=n,
                cached_tokens=0,
                ttft_s=ttft_s,
                prefill_s=ttft_s,  # others are written in the same steps
                kv_cache=self.kv_cache,
                shares=self._shares(seconds) if seconds else AnswerShares(),
                memory=self._job.device.memory(),
                text=self._next_text() if is_shown else "",
                warmup=self._warmup,
                t=self._last - self._job.began,
            )
        )

    def _next_text(self) -> str:
        """What the oldest that is being written goes on with; from its beginning where it just became the oldest."""
        if self._shown is None and self._live:
            self._shown, self._n_read, self._text = self._live[0], 0, Written(self._job.tokenizer)
        shown = self._shown
        if shown is None:
            return ""
        ids = shown.ids[self._n_read :]
        self._n_read += len(ids)
        text, _ = self._text.add(ids, [False] * len(ids))
        if shown.reason is not None:
            text += self._text.rest()
            self._shown = None
        return text

    def _tell(self) -> None:
        if not self._gaps:
            return
        live = self._live
        text = self._next_text()
        self._job.emit(
            TokensDone(
                run_id=self._job.run_id,
                requests=tuple(writing.request.number for writing in live),
                gaps=tuple(self._gaps),
                arrived=tuple(self._arrived),
                forwards=self._forwards,
                proposed=0,
                accepted=0,
                kv_cache=self.kv_cache,
                shares=self._shares(self._last - self._told),
                memory=self._job.device.memory(),
                text=text,
                guessed=(),
                warmup=self._warmup,
                t=self._last - self._job.began,
            )
        )
        self._told = self._last
        self._gaps, self._arrived = [], []
        self._forwards = 0

    def _tell_done(self, writing: Writing) -> None:
        began = self._starts[writing.request.number]
        self._job.emit(request_done(self._job, writing, began=began, warmup=self._warmup))
