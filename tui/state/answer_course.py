"""Where a run that answers is on its x axis. Pure.

The axis is the tokens that are to be written, one answer after the other; an answer that ends early counts as a whole
one. Of a classifier it is the texts that are to be scored.
"""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.contract.events import AnsweringStarted, BatchScored, CachesHold, Prefilled, RequestDone, TokensDone

AnswerEvent = AnsweringStarted | Prefilled | TokensDone | RequestDone | CachesHold | BatchScored


class AnswerCourse:
    """Follows a run's events; the warm-up moves nothing."""

    def __init__(self, config: RunConfig) -> None:
        self.scores = config.task == "classification"
        """Whether it is a classifier."""
        self.started: AnsweringStarted | None = None
        self.done: set[int] = set()
        """The requests that are answered, by number."""
        self.progress = 0.0
        self._written: dict[int, int] = {}
        """Tokens by request, of those under way."""

    @property
    def planned(self) -> int | None:
        """The end of the axis; None until it begins."""
        if self.started is None:
            return None
        return self.started.n_requests * (1 if self.scores else self._most)

    @property
    def _most(self) -> int:
        return max(1, self.started.max_new_tokens) if self.started is not None else 1

    def take(self, event: AnswerEvent) -> None:
        """Move on by one event, never back."""
        if isinstance(event, AnsweringStarted):
            self.started = event
            return
        if isinstance(event, CachesHold) or event.warmup:
            return
        if isinstance(event, BatchScored):
            self.progress += event.n_samples
            return
        if isinstance(event, Prefilled):
            self._written |= dict.fromkeys(event.requests, 1)
        elif isinstance(event, TokensDone):
            each = sum(event.arrived) / max(1, len(event.requests))
            for request in event.requests:
                self._written[request] = self._written.get(request, 0) + round(each)
        else:
            self.done.add(event.request)
            self._written.pop(event.request, None)
        under_way = sum(min(self._most, n) for n in self._written.values())
        self.progress = max(self.progress, float(len(self.done) * self._most + under_way))
