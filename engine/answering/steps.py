"""When tokens come, and what the time between them went to: told as events while `generate` writes.

`generate` is listened to at its own seams: hooks around the model's forward, and a streamer, which is handed each token
once it is on the host. What it computes, and where it waits for the device, stays its own; the streamer's copy of the
tokens is the one point where the host is known to have them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from transformers.generation.streamers import BaseStreamer

from engine.answering.requests import Writing
from engine.answering.written import Written, beginning
from engine.contract.answers import AnswerShares
from engine.contract.events import Prefilled, RequestDone, TokensDone
from engine.contract.records import Phase
from engine.techniques.generation.caches import kv_bytes
from engine.techniques.stopping import Stopped, between_layers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from engine.answering.job import AnswerJob

TOLD_EVERY_S = 0.1
"""The least between two `TokensDone` of a batch."""


class Steps(BaseStreamer):  # type: ignore[misc]  # transformers is not typed
    """One batch of requests as it is answered. Times are the host's; those of forwards on CUDA are the GPU's own."""

    def __init__(self, job: AnswerJob, writings: Sequence[Writing], *, new_tokens: int, warmup: bool) -> None:
        self.writings = writings
        self.new_tokens = new_tokens
        """The most that each can have."""
        self.n_arrived = 0
        """Of the first of them; any thread may ask."""
        self.began = self._last = self._told = time.perf_counter()
        self.ended = False
        self.cache: Any = None
        """That the last forward was given."""
        self.computed_tokens: int | None = None
        """Of all the prompts with padding, but without what a cache had."""
        self._job = job
        self._warmup = warmup
        self._written = Written(job.tokenizer)
        self._sees_prompt = True
        self._is_prefilled = False
        self._since: Any = None
        self._spans: list[tuple[Phase, Any, Any]] = []
        """What the device was at, from a mark to a mark; in between it was sampling."""
        self._stopping = ExitStack()
        self._gaps: list[float] = []
        self._arrived: list[int] = []
        self._pending: list[int] = []
        self._pending_guessed: list[bool] = []
        self._forwards = self._proposed = self._accepted = 0
        self._accepts = 0
        """Guesses among the tokens that come next."""
        self._being: tuple[int, ...] = ()
        """The requests that were being written at the last event."""

    @contextmanager
    def listening(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, the forwards of `model` are listened to."""
        hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after),
        ]
        if model.config.is_encoder_decoder:  # it reads the prompt before the model's own first forward
            encoder = model.get_encoder()
            hooks += [
                encoder.register_forward_pre_hook(self._before_encoder),
                encoder.register_forward_hook(self._after),
            ]
        # a prompt is long, a token is not: layers ask to stop in prefill, and where all is computed anew each time
        self._stopping.enter_context(between_layers(model, self._job.should_stop))
        self._enter(Phase.SAMPLE)
        try:
            yield
        finally:
            self._stopping.close()
            for hook in hooks:
                hook.remove()

    def _enter(self, phase: Phase) -> None:
        self._job.phase = phase
        self._job.device.enter(phase)

    def _before(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._job.phase is Phase.DRAFT:  # the model guesses for itself
            return
        if self.cache is None:
            self.cache = kwargs.get("past_key_values", kwargs.get("cache_params"))
        self._begin(Phase.DECODE if self._is_prefilled else Phase.PREFILL)

    def _before_encoder(self, *_: Any) -> None:
        self._begin(Phase.PREFILL)

    def _after(self, *_: Any) -> None:
        if self._job.phase is not Phase.DRAFT:
            self._end()

    def _begin(self, phase: Phase) -> None:
        self._enter(phase)
        self._since = self._job.device.mark()

    def _end(self) -> None:
        self._spans.append((self._job.phase, self._since, self._job.device.mark()))
        self._enter(Phase.SAMPLE)

    def guess(self, begins: bool) -> None:
        """See `engine.techniques.generation.guessing.Listener`."""
        if begins:
            self._begin(Phase.DRAFT)
        else:
            self._end()

    def guessed(self, proposed: int, accepted: int) -> None:
        """See `engine.techniques.generation.guessing.Listener`."""
        self._proposed += proposed
        self._accepted += accepted
        self._accepts = accepted

    def put(self, value: torch.Tensor) -> None:
        """Tokens are there: of each sequence one, (batch,), or of the only one several, (1, tokens)."""
        if self._sees_prompt:  # `generate` begins with it
            self._sees_prompt = False
            return
        now = time.perf_counter()
        rows: list[list[int]] = [[token] for token in value.tolist()] if value.dim() == 1 else value.tolist()
        written = [(each, row) for each, row in zip(self.writings, rows, strict=True) if each.reason is None]
        arrived = sum(self._take(writing, row, now) for writing, row in written)
        self._accepts = 0
        if not self._is_prefilled:
            self._tell_prefilled(now, len(written), arrived)
        else:
            self._forwards += len(written)
            self._gaps.append(now - self._last)
            self._arrived.append(arrived)
        self._last = now
        self.n_arrived = len(self.writings[0].ids)
        done = [writing for writing, _ in written if writing.reason is not None]
        if now - self._told >= TOLD_EVERY_S or self.writings[0] in done or all(each.reason for each in self.writings):
            self._tell()
        for writing in done:
            self._tell_done(writing)
        if self._job.should_stop():
            raise Stopped

    def _take(self, writing: Writing, row: list[int], now: float) -> int:
        """Write these tokens down; how many they are."""
        guessed = [place < self._accepts for place in range(len(row))]
        if not writing.ids:
            writing.ttft_s = now - self.began
        writing.ids += row
        writing.guessed += guessed
        writing.e2e_s = now - self.began
        if writing is self.writings[0]:
            self._pending += row
            self._pending_guessed += guessed
        if row[-1] in self._job.eos_token_ids:
            writing.reason = "stop"
        elif len(writing.ids) >= self.new_tokens:
            writing.reason = "length"
        return len(row)

    def end(self) -> None:
        """`generate` has ended; it says so after the last tokens."""

    def finish(self) -> None:
        """Tell what is left to tell. An answer that is not whole by now was stopped."""
        self._tell()
        for writing in self.writings:
            if writing.reason is None and writing.ids:
                writing.reason = "stopped"
                self._tell_done(writing)
        self.ended = True
        self.cache = None

    def _shares(self, seconds: float) -> AnswerShares:
        """What the `seconds` since the last event went to; they sum to them."""
        of = {Phase.PREFILL: 0.0, Phase.DECODE: 0.0, Phase.DRAFT: 0.0}
        for phase, start, stop in self._spans:
            of[phase] += self._job.device.seconds(start, stop)
        self._spans.clear()
        total = sum(of.values())
        scale = seconds / total if total > seconds else 1.0  # the GPU's clock is not the host's
        return AnswerShares(
            prefill=of[Phase.PREFILL] * scale,
            decode=of[Phase.DECODE] * scale,
            draft=of[Phase.DRAFT] * scale,
            sampling=max(0.0, seconds - total),
        )

    def _text(self, n: int | None = None) -> tuple[str, tuple[tuple[int, int], ...]]:
        """What the first `n` tokens that are not told yet add to the text of the first request; of all where None."""
        text, guessed = self._written.add(self._pending[:n], self._pending_guessed[:n])
        del self._pending[:n], self._pending_guessed[:n]
        if self.writings[0].reason is not None and not self._pending:
            text += self._written.rest()
        return text, guessed

    def _numbers(self) -> tuple[int, ...]:
        return tuple(writing.request.number for writing in self.writings)

    def _tell_prefilled(self, now: float, live: int, arrived: int) -> None:
        self._is_prefilled = True
        if self._job.config.kv_cache != "off":
            self._stopping.close()
        ttft_s = now - self.began
        shares = self._shares(ttft_s)
        prompt_tokens = sum(len(writing.request.input_ids) for writing in self.writings)
        cached = sum(writing.cached_tokens for writing in self.writings)
        self._job.emit(
            Prefilled(
                run_id=self._job.run_id,
                requests=self._numbers(),
                prompt_tokens=prompt_tokens,
                computed_tokens=prompt_tokens - cached if self.computed_tokens is None else self.computed_tokens,
                cached_tokens=cached,
                ttft_s=ttft_s,
                prefill_s=shares.prefill,
                kv_cache=kv_bytes(self.cache),
                held=self._job.held,
                shares=shares,
                memory=self._job.device.memory(),
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
                kv_cache=kv_bytes(self.cache),
                shares=self._shares(self._last - self._told),
                memory=self._job.device.memory(),
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
        assert writing.reason is not None
        self._job.emit(
            RequestDone(
                run_id=self._job.run_id,
                request=writing.request.number,
                prompt=writing.request.text,
                text=beginning(writing.ids, self._job.tokenizer),
                prompt_tokens=len(writing.request.input_ids),
                cached_tokens=writing.cached_tokens,
                new_tokens=len(writing.ids),
                ttft_s=writing.ttft_s,
                e2e_s=writing.e2e_s,
                reason=writing.reason,
                hit="prefix" if writing.cached_tokens else None,
                warmup=self._warmup,
                compile_s=None,
                t=self.began + writing.e2e_s - self._job.began,
            )
        )
