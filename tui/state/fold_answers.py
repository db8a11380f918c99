"""Folds what a run that answers tells into the state. No Textual, no clock, no engine thread."""

from __future__ import annotations

from typing_extensions import assert_never

from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    CachesHold,
    Prefilled,
    QualityMeasured,
    RequestDone,
    TokensCompared,
    TokensDone,
)
from engine.contract.numbers import duration, mib, n_of, percent, rate, short_count
from tui.state.answer_course import AnswerEvent
from tui.state.run_view import RunView
from tui.state.state import State

OfAnswers = AnswerEvent | TokensCompared | QualityMeasured
"""What only a run that answers tells."""


def fold_answers(state: State, run: RunView, event: OfAnswers) -> bool:
    """Take one event of the run that is shown. True when the screen should show it at once."""
    if isinstance(event, TokensCompared):
        state.write("run", event.detail, "error" if event.promised and event.n_same < event.n_tokens else "info")
        return True
    if isinstance(event, QualityMeasured):
        state.write("run", _quality(event))
        return True
    if run.answer is None:
        return False  # a training that answers: not of this version
    run.answered(run.answer, event)
    if isinstance(event, AnsweringStarted):
        state.write("run", _started(event))
        return True
    if isinstance(event, RequestDone):
        state.write("run", _done(event))
        return event.request == run.answer.n_requests
    if not isinstance(event, (Prefilled, TokensDone, CachesHold, BatchScored)):
        assert_never(event)
    return False


def _started(event: AnsweringStarted) -> str:
    draft = f", {short_count(event.draft_parameters)} guess" if event.draft_parameters is not None else ""
    written = f", up to {n_of(event.max_new_tokens, 'token')} each" if event.max_new_tokens else ""
    return (
        f"{short_count(event.n_parameters)} parameters answer{draft}: {n_of(event.n_requests, 'request')} of up to "
        f"{n_of(event.prompt_tokens, 'token')}{written}; weights {mib(event.weights)} MiB"
    )


def _done(event: RequestDone) -> str:
    name = f"request {event.request}" if not event.warmup else "warm-up"
    hit = f", {n_of(event.cached_tokens, 'token')} of the prompt from the {event.hit} cache" if event.hit else ""
    hit = ", from the response cache" if event.hit == "response" else hit
    compiled = f", {duration(event.compile_s)} s of it compiling" if event.compile_s is not None else ""
    return (
        f"{name}: {event.prompt_tokens:,} + {n_of(event.new_tokens, 'token')} in {duration(event.e2e_s)} s, the first "
        f"after {rate(event.ttft_s * 1000)} ms{hit}{compiled}{', stopped' if event.reason == 'stopped' else ''}"
    )


def _quality(event: QualityMeasured) -> str:
    own = f"perplexity {rate(event.perplexity)}, of the model's own weights {rate(event.own_perplexity)}"
    agrees = percent(100 * event.agreement, 1)
    return f"on {n_of(event.n_tokens, 'token')} of {event.text_name} the top token agrees at {agrees}; {own}"
