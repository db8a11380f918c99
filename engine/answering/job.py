"""What one answering needs, on its device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from engine.answering.prefix_cache import PrefixCache
from engine.answering.requests import Request
from engine.answering.response_cache import ResponseCache
from engine.contract.config import RunConfig
from engine.contract.events import CachesHold, Event
from engine.contract.records import Phase, Place
from engine.devices.base import Device

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from engine.answering.continuous import Flow
    from engine.answering.steps import Steps

LONG_S = 1.0
"""A step that takes less needs no telling: what it did is told soon enough."""


@dataclass(kw_only=True)
class AnswerJob:
    """Everything one answering needs, on its device."""

    run_id: int
    config: RunConfig
    device: Device
    model: PreTrainedModel
    draft: PreTrainedModel | None = None
    """The smaller model that guesses."""
    tokenizer: PreTrainedTokenizerBase | None
    requests: Sequence[Request]
    pad_token_id: int
    eos_token_ids: frozenset[int]
    """That end an answer; empty where nothing does but its length."""
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    steps: Steps | Flow | None = None
    """Of the batch under way, or the last one."""
    phase: Phase = Phase.LOAD
    """The phase under way; an out-of-memory names it."""
    n_done: int = 0
    """Texts that a classifier has scored."""
    prefixes: PrefixCache | None = None
    """None without `--prefix-cache`."""
    responses: ResponseCache | None = None
    """None without `--response-cache`."""
    began: float = field(default_factory=time.perf_counter)
    _told_held: int = field(default=0, init=False)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(request.input_ids) for request in self.requests)

    @property
    def held(self) -> int:
        """Bytes that the prefix and the response cache keep."""
        return sum(cache.held for cache in (self.prefixes, self.responses) if cache is not None)

    def tell_held(self) -> None:
        """Say what is kept, where that has changed since it was said."""
        if self.held != self._told_held:
            self._told_held = self.held
            self.emit(CachesHold(run_id=self.run_id, held=self.held, t=self.now()))

    def now(self) -> float:
        """Seconds since answering started."""
        return time.perf_counter() - self.began

    def enter(self, phase: Phase) -> None:
        """The run goes over to `phase`."""
        self.phase = phase
        self.device.enter(phase)

    def place(self) -> Place | None:
        """Where it is within what is being answered; None until that has lasted for `LONG_S`. Any thread may ask."""
        steps = self.steps
        if steps is None or steps.ended or time.perf_counter() - steps.began < LONG_S:
            return None
        request = max(0, steps.writings[0].request.number)
        return Place(
            phase=self.phase,
            request=request,
            requests=len(self.requests),
            token=steps.n_arrived + 1,
            tokens=steps.new_tokens,
        )
