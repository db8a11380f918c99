"""How far a run is that answers, and how long it will take, from the part that is done. Pure."""

from __future__ import annotations

from engine.contract.events import AnsweringStarted, BatchScored, Event, Prefilled, RequestDone, TokensDone


class AnswerPace:
    """Folds one run's events; what warms up is no part of it."""

    def __init__(self) -> None:
        self.fraction = 0.0
        """Of all the answers, 0 to 1: an answer that may end earlier counts with all the tokens that it may have."""
        self.done = 0
        """Requests, or samples, that are answered."""
        self.planned = 0
        self.token = 0
        """That the last batch is at, of its first request; 0 between two."""
        self.warms_up = False
        self.elapsed_s = 0.0
        """Since the first request began."""
        self._most = 1
        self._open: set[int] = set()
        self._written = 0  # of the requests that are being written
        self._first_t: float | None = None

    def add(self, event: Event) -> bool:
        """Take one event in; True when it moved the run forward."""
        if isinstance(event, AnsweringStarted):
            self.planned, self._most = event.n_requests, max(1, event.max_new_tokens)
            self.warms_up = event.n_warmup > 0
            return False
        if not isinstance(event, (Prefilled, TokensDone, RequestDone, BatchScored)) or event.warmup:
            return False
        self.warms_up = False
        if isinstance(event, Prefilled):
            self._open.update(event.requests)
            self._written += len(event.requests)
            self.token = 1
            self._forward(event.t, event.ttft_s)
        elif isinstance(event, TokensDone):
            self._written += sum(event.arrived)
            self.token += len(event.gaps) if not event.accepted else sum(event.arrived)
            self._forward(event.t, sum(event.gaps))
        elif isinstance(event, RequestDone):
            if event.request in self._open:
                self._open.discard(event.request)
                self._written -= event.new_tokens
            self.done += 1
            self.token = self.token if self._open else 0
            self._forward(event.t, event.e2e_s)
        else:
            self.done += event.n_samples
            self._forward(event.t, event.seconds)
        return True

    @property
    def remaining_s(self) -> float | None:
        """Time to go at the pace so far; None before the first token."""
        return self.elapsed_s * (1 / self.fraction - 1) if self.fraction else None

    def _forward(self, t: float, seconds: float) -> None:
        if self._first_t is None:
            self._first_t = t - seconds
        self.elapsed_s = t - self._first_t
        part = min(len(self._open), max(0, self._written) / self._most)
        self.fraction = max(self.fraction, min(1.0, (self.done + part) / max(1, self.planned)))
