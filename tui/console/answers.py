"""A run that answers as lines: what is asked and answered, and its figures as llama-bench and vLLM name them. Pure."""

from __future__ import annotations

from dataclasses import asdict

from engine.compare.answers import in_circles, quality
from engine.contract.answer_entries import PER_TOKEN
from engine.contract.answers import AnswerFigures, AnswerShares, Percentiles
from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    Event,
    Prefilled,
    QualityMeasured,
    RequestDone,
    TokensCompared,
    TokensDone,
)
from engine.contract.figures import CPU, ENERGY, is_virtual, status_of
from engine.contract.numbers import fixed, n_of, number, percent, plus_minus, rate
from engine.contract.records import RunRecord
from engine.contract.text import capitalised
from engine.gpus.units import to_mib
from tui.drawing.text import clean

SHOWN = 8
"""Answers that are printed; of more requests these are the first."""
_CHARACTERS = 20_000
"""Of an answer that are printed."""
_KIB = 1024


class AnswerLines:
    """The lines of one run after the other."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}  # of the first request of a batch, as it comes
        self._told = 0
        self._planned = 0

    def lines(self, event: Event) -> list[str]:
        """What an event adds to the transcript; most add nothing."""
        match event:
            case AnsweringStarted():
                self._texts, self._told, self._planned = {}, 0, event.n_requests
                return _started(event)
            case Prefilled(warmup=False):
                self._texts = {event.requests[0]: event.text}
            case TokensDone(warmup=False):
                number_, text = event.requests[0], self._texts.get(event.requests[0], "")
                if len(text) < _CHARACTERS:
                    self._texts[number_] = text + event.text
            case RequestDone(warmup=True, compile_s=float() as seconds):
                return [f"Warm-up: {event.e2e_s:.1f} s, of it torch.compile {seconds:.1f} s, which are in no figure"]
            case RequestDone(warmup=False):
                return self._answer(event)
            case BatchScored(warmup=False) if self._told < SHOWN and event.text:
                self._told += 1
                return [clean(event.text)]
            case TokensCompared():
                return [clean(event.detail)]
            case QualityMeasured():
                return [_quality(event)]
        return []

    def _answer(self, event: RequestDone) -> list[str]:
        text = self._texts.pop(event.request, "") or event.text
        self._told += 1
        if self._told > SHOWN:
            more = self._planned - SHOWN
            others = f"The other {number(more)} answers are" if more > 1 else "The last answer is"
            return [f"{others} not printed; --json has {'them' if more > 1 else 'it'}."] * (self._told == SHOWN + 1)
        from_cache = f", {event.hit} cache hit" if event.hit else ""
        stopped = ", stopped" if event.reason == "stopped" else ""
        tokens = f"{n_of(event.prompt_tokens, 'prompt token')}, {number(event.new_tokens)} new"
        heading = f"Request {event.request}: {tokens} in {event.e2e_s:.2f} s{from_cache}{stopped}"
        if not event.prompt:  # random tokens mean nothing, and so does what follows on them
            return [heading]
        return [heading, f"> {clean(event.prompt)}", *_harmless(text)]


def _harmless(text: str) -> list[str]:
    """A model may write anything: line by line what a terminal can show."""
    lines = [clean(line) for line in text[:_CHARACTERS].strip().splitlines()]
    return [*lines, "…"] if len(text) > _CHARACTERS else lines


def _started(event: AnsweringStarted) -> list[str]:
    model = f"{number(event.n_parameters)} parameters, {number(to_mib(event.weights), 1)} MiB"
    warmup = f", after {number(event.n_warmup)} that warm up" if event.n_warmup else ""
    lines = [f"Answering {n_of(event.n_requests, 'request')}{warmup}, with {model}"]
    if event.max_new_tokens and event.kv_per_token:
        kv = f"{number(event.kv_per_token / _KIB, 1)} KiB of KV cache a token"
        longest = f"prompts of up to {n_of(event.prompt_tokens, 'token')}, {number(event.max_new_tokens)} new ones"
        lines.append(f"{capitalised(longest)}, {kv}")
    if event.draft_parameters is not None:
        weights = f", {number(to_mib(event.draft_weights), 1)} MiB" if event.draft_weights is not None else ""
        lines.append(f"A draft model of {number(event.draft_parameters)} parameters{weights} guesses")
    return lines


def _quality(event: QualityMeasured) -> str:
    figures = AnswerFigures(agreement=event.agreement, perplexity=event.perplexity, own_perplexity=event.own_perplexity)
    return clean(f"On {n_of(event.n_tokens, 'token')} of {event.text_name}, {quality(figures)}")


def figures_of(record: RunRecord) -> list[str]:
    """What a run came to, a line for each kind of figure that is known."""
    answer = record.answer
    if answer is None or not (answer.n_requests or answer.new_tokens):
        return []
    whose = f" ({CPU})" if is_virtual([record]) else ""
    if record.config.task == "classification":
        lines = _scored(record, answer, whose)
    else:
        lines = _written(record, answer, whose)
    if answer.shares is not None:
        lines.append(_time(answer.shares))
    if answer.padding_share:
        lines.append(f"Padding: {percent(100 * answer.padding_share, 1)} of what was computed of prompts")
    if record.energy is not None:
        each = f" ({PER_TOKEN.of(record)} {PER_TOKEN.unit})" if PER_TOKEN.read(record) is not None else ""
        lines.append(f"Energy: {ENERGY.of(record)} {ENERGY.unit}{each}")
    return lines


def _scored(record: RunRecord, answer: AnswerFigures, whose: str) -> list[str]:
    runtime = record.train_runtime_s
    spread = record.steady_spread if record.steady_samples_per_s is not None else None
    speed = record.steady_samples_per_s if record.steady_samples_per_s is not None else record.samples_per_s
    return [
        f"Time: {fixed(runtime, 2)}{whose}",
        f"Samples/second: {plus_minus(speed, spread)}{whose}",
        *_latency("Latency of a batch", answer.e2e, whose),
    ]


def _written(record: RunRecord, answer: AnswerFigures, whose: str) -> list[str]:
    per_s = f", {rate(answer.requests_per_s)} a second" if answer.requests_per_s is not None else ""
    tokens = f"{number(answer.prompt_tokens)} prompt tokens and {number(answer.new_tokens)} new ones"
    lines = [
        f"Requests: {number(answer.n_requests)} in {fixed(record.train_runtime_s, 2)} s{per_s}{whose}; {tokens}",
        f"pp: {plus_minus(answer.prompt_tokens_per_s, answer.prompt_spread)} tokens/s{whose}",
        f"tg: {plus_minus(answer.generation_tokens_per_s, answer.generation_spread)} tokens/s{whose}",
        *_latency("TTFT", answer.ttft, whose),
        *_latency("TPOT", answer.tpot, whose),
        *_latency("ITL", answer.itl, whose),
        *_latency("E2E", answer.e2e, whose),
    ]
    if answer.proposed is not None:
        share = f", acceptance {percent(100 * answer.acceptance)}" if answer.acceptance is not None else ""
        right = f"{number(answer.accepted)} of {n_of(answer.proposed or 0, 'guess', 'guesses')} accepted"
        circles = f"; {said}" if (said := in_circles(answer)) else ""
        lines.append(f"Speculation: {fixed(answer.tokens_per_forward, 2)} tokens per forward{share} ({right}){circles}")
    if answer.hits is not None:
        held = f", {number(to_mib(answer.held), 1)} MiB held" if answer.held else ""
        share = f" ({percent(100 * answer.hit_rate)})" if answer.hit_rate is not None else ""
        lines.append(f"Caches: {number(answer.hits)} of {n_of(answer.n_requests, 'request')} hit{share}{held}")
    if answer.kv_cache:
        lines.append(f"KV cache: {number(to_mib(answer.kv_cache), 1)} MiB at the most")
    return lines


def _latency(name: str, seconds: Percentiles | None, whose: str) -> list[str]:
    if seconds is None:
        return []
    parts = (("p50", seconds.p50), ("p90", seconds.p90), ("p99", seconds.p99))
    return [f"{name} in ms: {', '.join(f'{which} {rate(1000 * value)}' for which, value in parts)}{whose}"]


def _time(shares: AnswerShares) -> str:
    told = [f"{name} {percent(100 * seconds / shares.total)}" for name, seconds in asdict(shares).items() if seconds]
    return f"Where the time went: {', '.join(told)}" if told else "Where the time went: unknown"


def ending(record: RunRecord) -> str:
    """`Run 7: stopped after 3 of 8 requests`."""
    return f"Run {record.run_id}: {status_of(record)}"
