"""When tokens come, and what the time between them went to: told as events while `generate` writes.

`generate` is listened to at its own seams: hooks around the model's forward, and a streamer, which is handed each token
once it is on the host. What it computes, and where it waits for the device, stays its own; the streamer's copy of the
tokens is the one point where the host is known to have them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from transformers.generation.streamers import BaseStreamer

from engine.answering.requests import Writing
from engine.answering.telling import TOLD_EVERY_S, request_done, shares_of
from engine.answering.written import Written
from engine.contract.answers import AnswerShares
from engine.contract.events import Prefilled, TokensDone
from engine.contract.records import Phase
from engine.techniques.generation.caches import kv_bytes, watch
from engine.techniques.generation.settings import is_seq2seq
from engine.techniques.stopping import Stopped, between_layers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from engine.answering.job import AnswerJob


class Steps(BaseStreamer):  # type: ignore[misc]  # transformers is not typed
    """One batch of requests as it is answered. Times are the host's; those of forwards on CUDA are the GPU's own."""

    def __init__(self, job: AnswerJob, writings: Sequence[Writing], *, new_tokens: int, warmup: bool) -> None:
        self.writings = writings
        self.new_tokens = new_tokens
        """The most that each can have."""
        self.began = self._last = self._told = time.perf_counter()
        self.ended = False
        self.cache: Any = None
        """That the last forward was given."""
        self.draft_cache: Any = None
        """That the draft model's last one was given."""
        self.computed_tokens = 0
        """Of all the prompts with padding, but without what a cache had."""
        self._job = job
        self._speculates = job.config.speculate != "off"
        self._warmup = warmup
        self._written = Written(job.tokenizer)
        self._n_read: int | None = None
        """Tokens that `generate` began with: the prompt, or of a seq2seq model what its answer begins with."""
        self._is_prefilled = False
        self._since: Any = None
        self._steps_s: list[float] = []
        """Of the warm-up, from one arrival to the next."""
        self._spans: list[tuple[Phase, Any, Any]] = []
        """What the device was at, from a mark to a mark; in between it was sampling."""
        self._in_prefill = ExitStack()
        """What is undone once the prompts are read."""
        self._ends = job.eos_token_ids
        self._enter, self._mark = job.device.enter, job.device.mark
        self._waiting: list[tuple[float, list[Any]]] = []
        """When tokens came, and which, that are not taken in yet."""
        self._left = 1
        """As many may wait: with the next one an answer may be as long as it can be, or the prompts are read."""
        self._gaps: list[float] = []
        self._arrived: list[int] = []
        self._pending: list[int] = []
        self._pending_guessed: list[bool] = []
        self._forwards = self._proposed = self._accepted = 0
        self._being: tuple[int, ...] = ()
        """The requests that were being written at the last event."""

    @property
    def n_arrived(self) -> int:
        """Tokens of the first of them; any thread may ask."""
        first = self.writings[0]
        return len(first.ids) + (len(self._waiting) if first.reason is None else 0)

    @contextmanager
    def listening(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, the forwards of `model` are listened to."""
        stack = ExitStack()
        hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._end),
        ]
        if self._job.draft is not None:
            hooks.append(self._job.draft.register_forward_pre_hook(self._before_draft, with_kwargs=True))
        if is_seq2seq(model):  # it reads the prompt before the model's own first forward
            encoder = model.get_encoder()
            hooks += [
                encoder.register_forward_pre_hook(self._before_encoder),
                encoder.register_forward_hook(self._end),
            ]
        # a prompt is long, a token is not: layers ask to stop in prefill, and where all is computed anew each time
        self._in_prefill.enter_context(between_layers(model, self._job.should_stop))
        is_compiled = self._job.config.torch_compile
        for hook in hooks:  # those would be compiled along with the steps that follow
            (self._in_prefill if is_compiled else stack).callback(hook.remove)
        stack.callback(self._in_prefill.close)
        if is_compiled:
            stack.enter_context(self._calls_compiled(model))
        self._job.enter(Phase.SAMPLE)
        with stack:
            yield

    @contextmanager
    def _calls_compiled(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, what `generate` has compiled of `model` is listened to from outside."""
        own: Any = model.get_compiled_call

        def listened_to(config: Any) -> Callable[..., Any]:
            compiled = own(config)

            def call(*args: Any, **kwargs: Any) -> Any:
                self._begin(Phase.DECODE)
                output = compiled(*args, **kwargs)
                self._end()
                return output

            return call

        vars(model)["get_compiled_call"] = listened_to
        try:
            yield
        finally:
            del vars(model)["get_compiled_call"]

    def _before(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self.cache is None:
            self.cache = kwargs.get("past_key_values", kwargs.get("cache_params"))
            self._watch(self.cache)
        if self._speculates and self._n_read is not None:
            ids = kwargs["input_ids"] if kwargs.get("decoder_input_ids") is None else kwargs["decoder_input_ids"]
            self._proposed += self.cache.get_seq_length() + ids.shape[1] - self._n_read - self.n_arrived
        self._begin(Phase.DECODE if self._is_prefilled else Phase.PREFILL)

    def _before_draft(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        if cache is not self.draft_cache:
            self.draft_cache = cache
            self._watch(cache)

    def _watch(self, cache: Any) -> None:
        """What it keeps is keys and values, where a card is accounting for them."""
        if cache is not None and self._job.device.is_tracing:
            watch(cache, self._job.device.keep)

    def _before_encoder(self, *_: Any) -> None:
        self._begin(Phase.PREFILL)

    def _begin(self, phase: Phase) -> None:
        self._job.phase = phase
        self._enter(phase)
        self._since = self._mark()

    def _end(self, *_: Any) -> None:
        self._spans.append((self._job.phase, self._since, self._mark()))
        self._job.phase = Phase.SAMPLE
        self._enter(Phase.SAMPLE)

    def guess(self, begins: bool) -> None:
        """See `engine.techniques.generation.guessing.Listener`."""
        if begins:
            self._begin(Phase.DRAFT)
        else:
            self._end()

    def put(self, value: torch.Tensor) -> None:
        """Tokens are there: of each sequence one, (batch,), or of the only one several, (1, tokens)."""
        if self._n_read is None:  # `generate` begins with it
            self._n_read = value.shape[1]
            return
        now, tokens = time.perf_counter(), value.tolist()
        self._waiting.append((now, tokens))
        if now - self._told >= TOLD_EVERY_S or len(self._waiting) >= self._left or not self._ends.isdisjoint(tokens):
            self._take_in()
        if self._job.should_stop():
            raise Stopped

    def _take_in(self) -> None:
        """Write down what waits, and tell it where it is time. No answer has ended before the last that waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        live = [(place, each) for place, each in enumerate(self.writings) if each.reason is None]
        if isinstance(waiting[0][1][0], list):  # of the only sequence several; the last one is what the forward gave
            (row,) = rows = waiting[0][1]
            guessed, arrived = [True] * (len(row) - 1) + [False], [len(row)]
            self._accepted += len(row) - 1
        else:
            rows = list(zip(*[tokens for _, tokens in waiting], strict=True))
            guessed, arrived = [False] * len(waiting), [len(live)] * len(waiting)
        now = waiting[-1][0]
        for place, writing in live:
            self._take(writing, rows[place], guessed, now)
        if not self._is_prefilled:
            self._tell_prefilled(now, len(live), arrived[0])
        else:
            self._forwards += len(live) * len(waiting)
            gaps = [at - before for before, at in pairwise([self._last, *[at for at, _ in waiting]])]
            self._gaps += gaps
            self._arrived += arrived
            if self._warmup:
                self._steps_s += gaps
        self._last = now
        done = [writing for _, writing in live if writing.reason is not None]
        going = [len(each.ids) for each in self.writings if each.reason is None]
        if now - self._told >= TOLD_EVERY_S or self.writings[0] in done or not going:
            self._tell()
        for writing in done:
            self._tell_done(writing)
        self._left = 1 if self._speculates else self.new_tokens - max(going, default=0)

    def _take(self, writing: Writing, row: Sequence[int], guessed: list[bool], now: float) -> None:
        """Write these tokens down."""
        if not writing.ids:
            writing.ttft_s = now - self.began
        writing.ids += row
        writing.guessed += guessed
        writing.e2e_s = now - self.began
        if writing is self.writings[0]:
            self._pending += row
            self._pending_guessed += guessed
        if row[-1] in self._ends:
            writing.reason = "stop"
        elif len(writing.ids) >= self.new_tokens:
            writing.reason = "length"

    def end(self) -> None:
        """`generate` has ended; it says so after the last tokens."""

    def finish(self) -> None:
        """Tell what is left to tell. An answer that is not whole by now was stopped."""
        self._take_in()
        self._tell()
        for writing in self.writings:
            if writing.reason is None and writing.ids:
                writing.reason = "stopped"
                self._tell_done(writing)
        self.ended = True
        self.cache = self.draft_cache = None

    def _kv_bytes(self) -> int:
        return kv_bytes(self.cache) + kv_bytes(self.draft_cache)

    def _shares(self, seconds: float) -> AnswerShares:
        """What the `seconds` since the last event went to; they sum to them."""
        of = {Phase.PREFILL: 0.0, Phase.DECODE: 0.0, Phase.DRAFT: 0.0}
        for phase, start, stop in self._spans:
            of[phase] += self._job.device.seconds(start, stop)
        self._spans.clear()
        return shares_of(seconds, prefill=of[Phase.PREFILL], decode=of[Phase.DECODE], draft=of[Phase.DRAFT])

    def _text(self, n: int | None = None) -> tuple[str, tuple[tuple[int, int], ...]]:
        """What the first `n` tokens that are not told yet add to the text of the first request; of all where None."""
        text, guessed = self._written.add(self._pending[:n], self._pending_guessed[:n])
        del self._pending[:n], self._pending_guessed[:n]
        if self.writings[0].reason is not None and not self._pending:
            text += self._written.rest()
        return text, guessed

    def _compile_s(self) -> float | None:
        """Seconds that the warm-up's steps took longer than its fastest one: what compiling took."""
        if not self._job.config.torch_compile or not self._steps_s:
            return None
        return sum(self._steps_s) - len(self._steps_s) * min(self._steps_s)

    def _numbers(self) -> tuple[int, ...]:
        return tuple(writing.request.number for writing in self.writings)

    def _tell_prefilled(self, now: float, live: int, arrived: int) -> None:
        self._is_prefilled = True
        if self._job.config.kv_cache != "off":
            self._in_prefill.close()
        ttft_s = now - self.began
        shares = self._shares(ttft_s)
        self._job.emit(
            Prefilled(
                run_id=self._job.run_id,
                requests=self._numbers(),
                prompt_tokens=sum(len(writing.request.input_ids) for writing in self.writings),
                computed_tokens=self.computed_tokens,
                cached_tokens=sum(writing.cached_tokens for writing in self.writings),
                ttft_s=ttft_s,
                prefill_s=shares.prefill,
                kv_cache=self._kv_bytes(),
                shares=shares,
                memory=self._job.device.memory_if_known(),
                text=self._text(1)[0],
                warmup=self._warmup,
                t=now - self._job.began,
            )
        )
        self._told = now
        self._being = self._numbers()
        if arrived > live:  # guesses that were checked with the prompt came along
            self._gaps.append(0.0)
            self._arrived.append(arrived - live)

    def _tell(self) -> None:
        if not self._gaps:
            return
        text, guessed = self._text()
        self._job.emit(
            TokensDone(
                run_id=self._job.run_id,
                requests=self._being,
                gaps=tuple(self._gaps),
                arrived=tuple(self._arrived),
                forwards=self._forwards,
                proposed=self._proposed,
                accepted=self._accepted,
                kv_cache=self._kv_bytes(),
                shares=self._shares(self._last - self._told),
                memory=self._job.device.memory_if_known(),
                text=text,
                guessed=guessed,
                warmup=self._warmup,
                t=self._last - self._job.began,
            )
        )
        self._told = self._last
        self._being = tuple(each.request.number for each in self.writings if each.reason is None)
        self._gaps, self._arrived = [], []
        self._forwards = self._proposed = self._accepted = 0

    def _tell_done(self, writing: Writing) -> None:
        compile_s = self._compile_s() if self._warmup and writing is self.writings[0] else None
        self._job.emit(request_done(self._job, writing, began=self.began, warmup=self._warmup, compile_s=compile_s))
