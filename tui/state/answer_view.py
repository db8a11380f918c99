"""What a run that answers shows beside what every run does: the text as it comes, and how long each token took. Pure.

Its x axis is the tokens that are to be written, one after the other; an answer that ends early counts as a whole
one. Of a classifier it is the texts that are to be scored.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields

from engine.contract.answers import AnswerShares
from engine.contract.config import RunConfig
from engine.contract.events import AnsweringStarted, BatchScored, Prefilled, RequestDone, TokensDone
from engine.gpus.units import to_mib
from tui.drawing.plot import Columns
from tui.state.written import Written

AnswerEvent = AnsweringStarted | Prefilled | TokensDone | RequestDone | BatchScored
ANSWERS_KEPT = 50


@dataclass(slots=True)
class AnswerView:
    """As far as its events have told."""

    config: RunConfig
    expected_kv: int | None = None
    """Bytes of keys and values that were forecast for the end of the longest answers."""
    started: AnsweringStarted | None = None
    warmup: bool = True
    """While the first request is answered once for nothing."""
    done: set[int] = field(default_factory=set)
    """The requests that are answered, by number."""
    current: tuple[int, ...] = ()
    """Those that are being answered."""
    progress: float = 0.0
    """Where it is on its x axis."""
    kv_cache: int = 0  # bytes
    held: int = 0
    """Bytes that caches keep between requests."""
    shares: AnswerShares = field(default_factory=AnswerShares)
    """Seconds since the warm-up."""
    tokens: int = 0
    """That came since the warm-up, of all sequences; of a classifier those computed, with padding."""
    padding: int = 0
    """Of a classifier's tokens, how many were padding."""
    latencies: Columns = field(default_factory=Columns)
    """Milliseconds a token, as each answer got it; of a classifier milliseconds a batch."""
    prefills: Columns = field(default_factory=Columns)
    """Where answers began, at the latency that follows."""
    speeds: Columns = field(default_factory=Columns)
    """Tokens/s of all sequences together; of a classifier samples/s."""
    kv_mib: Columns = field(default_factory=Columns)
    newest_ms: float | None = None
    answers: deque[Written] = field(default_factory=lambda: deque(maxlen=ANSWERS_KEPT))
    """The first request of each batch, the newest last: as it is written, then as it ended; others as they ended."""
    _began: bool = False
    """Whether a prefill waits for its first latency."""
    _written: dict[int, int] = field(default_factory=dict)
    """Tokens by request, of those under way."""

    @property
    def scores(self) -> bool:
        """Whether it is a classifier that scores."""
        return self.config.task == "classification"

    @property
    def n_requests(self) -> int | None:
        """None until it begins."""
        return self.started.n_requests if self.started is not None else None

    @property
    def planned(self) -> int | None:
        """The end of the x axis; None until it begins."""
        if self.started is None:
            return None
        return self.started.n_requests * (1 if self.scores else max(1, self.started.max_new_tokens))

    @property
    def unit(self) -> str:
        """Of the x axis."""
        return "text" if self.scores else "token"

    @property
    def weights(self) -> int:
        """Bytes of the model, and of the one that guesses."""
        return 0 if self.started is None else self.started.weights + (self.started.draft_weights or 0)

    def take(self, event: AnswerEvent) -> None:
        """Take one event."""
        if isinstance(event, AnsweringStarted):
            self.started = event
        elif isinstance(event, Prefilled):
            self._prefilled(event)
        elif isinstance(event, TokensDone):
            self._tokens(event)
        elif isinstance(event, RequestDone):
            self._request(event)
        else:
            self._scored(event)

    def _prefilled(self, event: Prefilled) -> None:
        self.warmup, self.current = event.warmup, event.requests
        self.kv_cache, self.held = event.kv_cache, event.held
        self._write(event.requests, event.text, (), event.warmup)
        if event.warmup:
            return
        self._written |= dict.fromkeys(event.requests, 1)
        self.tokens += len(event.requests)
        self.shares = _summed(self.shares, event.shares)
        self._began = True
        self._move()

    def _tokens(self, event: TokensDone) -> None:
        self.warmup, self.current, self.kv_cache = event.warmup, event.requests, event.kv_cache
        self._write(event.requests, event.text, event.guessed, event.warmup)
        if event.warmup or not event.requests:
            return
        many, arrived, seconds = len(event.requests), sum(event.arrived), sum(event.gaps)
        start = self.progress
        for request in event.requests:
            self._written[request] = self._written.get(request, 0) + round(arrived / many)
        self._move()
        self.tokens += arrived
        self.shares = _summed(self.shares, event.shares)
        came = 0
        for gap, n in zip(event.gaps, event.arrived, strict=True):
            came += n
            if n:
                self.newest_ms = 1000 * gap * many / n
                x = start + (self.progress - start) * came / arrived
                self.latencies.append(x, self.newest_ms)
                if self._began:
                    self.prefills.append(x, self.newest_ms)
                    self._began = False
        if seconds > 0 and arrived:
            self.speeds.append(self.progress, arrived / seconds)
        self.kv_mib.append(self.progress, to_mib(event.kv_cache))

    def _request(self, event: RequestDone) -> None:
        if not event.warmup:
            self.done.add(event.request)
            self._written.pop(event.request, None)
            self._move()
        self._at(event.request, event.warmup).ended(event)

    def _scored(self, event: BatchScored) -> None:
        self.warmup = event.warmup
        written = self._at(event.batch, event.warmup)
        written.add(event.text, ())
        if event.warmup:
            return
        self.progress += event.n_samples
        self.tokens += event.computed_tokens
        self.padding += max(0, event.computed_tokens - event.n_tokens)
        self.newest_ms = 1000 * event.seconds
        self.latencies.append(self.progress, self.newest_ms)
        if event.seconds > 0:
            self.speeds.append(self.progress, event.n_samples / event.seconds)

    def _move(self) -> None:
        """Along the x axis; never back."""
        if self.started is not None:
            most = max(1, self.started.max_new_tokens)
            under_way = sum(min(most, n) for n in self._written.values())
            self.progress = max(self.progress, float(len(self.done) * most + under_way))

    def _write(self, requests: tuple[int, ...], text: str, guessed: tuple[tuple[int, int], ...], warmup: bool) -> None:
        if requests:
            self._at(requests[0], warmup).add(text, guessed)

    def _at(self, request: int, warmup: bool) -> Written:
        """What is written to a request; what the warm-up wrote goes once an answer counts."""
        found = next((each for each in reversed(self.answers) if each.request == request), None)
        if found is None:
            if not warmup:
                while self.answers and self.answers[0].request <= 0:
                    self.answers.popleft()
            found = Written(request=request, prompt=self.config.prompt or "")
            self.answers.append(found)
        return found


def _summed(before: AnswerShares, now: AnswerShares) -> AnswerShares:
    return AnswerShares(**{f.name: getattr(before, f.name) + getattr(now, f.name) for f in fields(AnswerShares)})
