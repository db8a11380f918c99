"""What a run that answers shows beside what every run does: its text, and how long each token took. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from engine.contract.answers import AnswerShares
from engine.contract.config import RunConfig
from engine.contract.events import AnsweringStarted, BatchScored, CachesHold, Prefilled, RequestDone, TokensDone
from engine.gpus.units import to_mib
from tui.drawing.plot import Columns
from tui.state.answer_course import AnswerCourse, AnswerEvent
from tui.state.written import Written

ANSWERS_KEPT = 50


@dataclass(slots=True)
class AnswerView:
    """As far as its events have told."""

    config: RunConfig
    expected_kv: int | None = None
    """Bytes of keys and values that were forecast for the end of the longest answers."""
    course: AnswerCourse = field(init=False)
    warmup: bool = True
    """While the first request is answered once for nothing."""
    current: tuple[int, ...] = ()
    """Those that are being answered."""
    kv_cache: int = 0  # bytes
    held: int = 0
    """Bytes that caches keep between requests."""
    shares: AnswerShares = field(default_factory=AnswerShares)
    """Seconds since the warm-up."""
    tokens: int = 0
    """That came since the warm-up, of all sequences; of a classifier those computed, with padding."""
    batches: int = 0
    """That a classifier scored."""
    scoring_s: float = 0.0
    """Seconds that they took."""
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

    def __post_init__(self) -> None:
        self.course = AnswerCourse(self.config)

    @property
    def started(self) -> AnsweringStarted | None:
        """None until it begins."""
        return self.course.started

    @property
    def progress(self) -> float:
        """Where it is on its x axis."""
        return self.course.progress

    @property
    def done(self) -> set[int]:
        """The requests that are answered, by number."""
        return self.course.done

    @property
    def scores(self) -> bool:
        """Whether it is a classifier that scores."""
        return self.course.scores

    @property
    def n_requests(self) -> int | None:
        """None until it begins."""
        return self.started.n_requests if self.started is not None else None

    @property
    def at(self) -> int:
        """The request under way, counted from 1; the last one once all are answered."""
        return min(len(self.done) + 1, self.n_requests or 0)

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
        start = self.progress
        self.course.take(event)
        if isinstance(event, Prefilled):
            self._prefilled(event)
        elif isinstance(event, TokensDone):
            self._tokens(event, start)
        elif isinstance(event, RequestDone):
            self._at(event.request, event.warmup).ended(event)
        elif isinstance(event, CachesHold):
            self.held = event.held
        elif isinstance(event, BatchScored):
            self._scored(event)

    def _prefilled(self, event: Prefilled) -> None:
        self.warmup, self.current = event.warmup, event.requests
        self.kv_cache = event.kv_cache
        self._write(event.requests, event.text, (), event.warmup)
        if event.warmup:
            return
        self.tokens += len(event.requests)
        self.shares = self.shares.plus(event.shares)
        self._began = True

    def _tokens(self, event: TokensDone, start: float) -> None:
        self.warmup, self.current, self.kv_cache = event.warmup, event.requests, event.kv_cache
        self._write(event.requests, event.text, event.guessed, event.warmup)
        if event.warmup or not event.requests:
            return
        many, arrived, seconds = len(event.requests), sum(event.arrived), sum(event.gaps)
        self.tokens += arrived
        self.shares = self.shares.plus(event.shares)
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

    def _scored(self, event: BatchScored) -> None:
        self.warmup = event.warmup
        written = self._at(event.batch, event.warmup)
        written.add(event.text, ())
        if event.warmup:
            return
        self.tokens += event.computed_tokens
        self.padding += max(0, event.computed_tokens - event.n_tokens)
        self.batches, self.scoring_s = self.batches + 1, self.scoring_s + event.seconds
        self.newest_ms = 1000 * event.seconds
        self.latencies.append(self.progress, self.newest_ms)
        if event.seconds > 0:
            self.speeds.append(self.progress, event.n_samples / event.seconds)

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
