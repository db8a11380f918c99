"""What a run that answers tells, made up: for tests, and to be looked at.

    python -m tests.tui.fake_answers [--guesses] [--batch] [--virtual] [--hostile] [--scores]

shows such a run in this terminal: one request after the other, `--batch` four at a time, with `--guesses` that are
checked, `--hostile` with answers that a terminal would obey, `--scores` a classifier.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine.contract.answers import AnswerFigures, AnswerShares, Percentiles
from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig
from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    Event,
    Forecasted,
    Prefilled,
    QualityMeasured,
    RequestDone,
    RunFinished,
    RunStarted,
    Sampled,
    TokensCompared,
    TokensDone,
)
from engine.contract.forecast_types import AnswerForecast
from engine.contract.knob import ANSWER
from engine.contract.records import DeviceInfo, Memory, Outcome, RunRecord
from engine.contract.run_figures import RunFigures, new_record
from tests.tui.app.test_forecast import forecast
from tests.tui.fake_session import CPU, GPU, MIB, FakeHistory, ready, record, sampled
from tests.tui.live_feed import LiveFeed, Told, show

ANSWERING = defaults_of(ANSWER).with_values(model="gpt2", prompts="generated", ignore_eos=False)
GUESSING = ANSWERING.with_values(speculate="lookup")
VIRTUAL = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=7611 * MIB)
N_REQUESTS, MOST = 8, 128
WEIGHTS, KV_PER_TOKEN = 475 * MIB, 36 * 1024
PROMPT = "Which of the three ideas makes a model faster?"
WORDS = [
    "The",
    "first",
    "idea",
    "is",
    "to",
    "use",
    "more",
    "space",
    "for",
    "less",
    "computation",
    ":",
    "the",
    "keys",
    "and",
    "values",
    "of",
    "all",
    "tokens",
    "are",
    "kept",
    ",",
    "so",
    "that",
    "a",
    "step",
    "computes",
    "the",
    "new",
    "token",
    "alone",
    ".",
    "The",
    "second",
    "is",
    "the",
    "common",
    "case",
    ":",
    "what",
    "prompts",
    "begin",
    "with",
    "is",
    "computed",
    "once",
    ",",
    "and",
    "what",
    "was",
    "asked",
    "before",
    "is",
    "answered",
    "at",
    "once",
    ".",
    "The",
    "third",
    "is",
    "to",
    "speculate",
    ":",
    "tokens",
    "are",
    "guessed",
    "and",
    "checked",
    "together",
    ",",
    "and",
    "those",
    "before",
    "the",
    "first",
    "wrong",
    "one",
    "are",
    "kept",
    ".\n",
]
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnirts",
    "\x9b31m",
    "a" * 400,
    "日本語",
    "\r\n\x00\x07",
    "e" + "\u0301" * 40,
)


def memory(kv: int = 12 * MIB, device: DeviceInfo = GPU) -> Memory:
    """A reading, with `kv` bytes of keys and values."""
    if device.kind == "cpu":
        return Memory(used=1400 * MIB + kv, total=16_000 * MIB)
    allocated = WEIGHTS + kv + 9 * MIB
    by = {"weights": WEIGHTS, "kv_cache": kv, "activations": 9 * MIB} if device.kind == "virtual" else None
    reserved = allocated + 20 * MIB
    return Memory(
        used=reserved + 480 * MIB,
        reserved=reserved,
        allocated=allocated,
        peak_used=reserved + 490 * MIB,
        peak_reserved=reserved,
        peak_allocated=allocated + 3 * MIB,
        total=7611 * MIB,
        by_category=by,
    )


def begun(run_id: int = 1, config: RunConfig = ANSWERING, device: DeviceInfo = GPU) -> RunStarted:
    return RunStarted(run_id=run_id, config=config, device=device, started_at=1_700_000_000.0)


def answering(run_id: int = 1, n: int = N_REQUESTS, most: int = MOST, **values: Any) -> AnsweringStarted:
    event = AnsweringStarted(
        run_id=run_id,
        n_parameters=124_439_808,
        n_requests=n,
        n_warmup=1,
        prompt_tokens=256,
        max_new_tokens=most,
        weights=WEIGHTS,
        kv_per_token=KV_PER_TOKEN,
        threads=2,
        compared=True,
    )
    return replace(event, **values)


def prefilled(*requests: int, run_id: int = 1, t: float = 0.05, device: DeviceInfo = GPU, **values: Any) -> Prefilled:
    many = len(requests)
    kv = many * 257 * KV_PER_TOKEN
    event = Prefilled(
        run_id=run_id,
        requests=requests,
        prompt_tokens=256 * many,
        computed_tokens=256 * many,
        cached_tokens=0,
        ttft_s=0.048,
        prefill_s=0.045,
        kv_cache=kv,
        shares=AnswerShares(prefill=0.045, sampling=0.003),
        memory=memory(kv, device),
        text="",
        warmup=requests[0] < 1,
        t=t,
    )
    return replace(event, **values)


def tokens(
    *requests: int,
    steps: Sequence[int] = (1,) * 10,
    gap: float = 0.006,
    run_id: int = 1,
    t: float = 0.1,
    device: DeviceInfo = GPU,
    **values: Any,
) -> TokensDone:
    """Steps in each of which so many tokens came; more than one of a request are guesses."""
    many, whole = len(requests), gap * len(steps)
    kv = values.pop("kv", many * 300 * KV_PER_TOKEN)
    guesses = sum(n - 1 for n in steps) if many == 1 else 0
    event = TokensDone(
        run_id=run_id,
        requests=requests,
        gaps=(gap,) * len(steps),
        arrived=tuple(n * many for n in steps),
        forwards=many * len(steps),
        proposed=4 * len(steps) if guesses else 0,
        accepted=guesses,
        kv_cache=kv,
        shares=AnswerShares(decode=0.8 * whole, draft=0.05 * whole * bool(guesses), sampling=0.15 * whole),
        memory=memory(kv, device),
        text="",
        guessed=(),
        warmup=requests[0] < 1,
        t=t,
    )
    return replace(event, **values)


def answered(request: int = 1, run_id: int = 1, t: float = 0.9, n: int = MOST, **values: Any) -> RequestDone:
    event = RequestDone(
        run_id=run_id,
        request=request,
        prompt=PROMPT,
        text=" ".join(WORDS),
        prompt_tokens=256,
        cached_tokens=0,
        new_tokens=n,
        ttft_s=0.048,
        e2e_s=0.82,
        reason="length",
        hit=None,
        warmup=request < 1,
        compile_s=None,
        t=t,
    )
    return replace(event, **values)


def scored(batch: int, run_id: int = 1, t: float = 0.1, **values: Any) -> BatchScored:
    event = BatchScored(
        run_id=run_id,
        batch=batch,
        n_samples=8,
        n_tokens=1400,
        computed_tokens=2048,
        seconds=0.09 + 0.01 * (batch % 3),
        memory=memory(0),
        text=f"A film that I would see again, number {batch} → positive 0.93",
        warmup=batch < 1,
        t=t,
    )
    return replace(event, **values)


def batch(
    first: int,
    many: int = 1,
    run_id: int = 1,
    t: float = 0.0,
    *,
    guesses: bool = False,
    hostile: bool = False,
    device: DeviceInfo = GPU,
    most: int = MOST,
) -> Iterator[Event]:
    """The events of `many` requests at once, from `first` on, which begin at `t`: ten tokens an event."""
    requests = tuple(range(first, first + many))
    words = [*WORDS, *(HOSTILE if hostile else ())] * 40
    yield prefilled(*requests, run_id=run_id, t=t + 0.05, device=device, text=words[0])
    n, at, now = 1, 1, t + 0.05
    while n < most:
        accepted = (0, 3, 1, 0, 4, 2, 0, 0, 1, 0)
        steps = [min(1 + more, 1 + most - n) for more in accepted] if guesses and many == 1 else [1] * 10
        while n + sum(steps) > most:
            steps.pop()
        if not steps:
            break
        text, guessed = "", []
        for step in steps:
            for index in range(step):
                word = f" {words[at % len(words)]}"
                if index < step - 1:
                    guessed.append((len(text), len(text) + len(word)))
                text, at = text + word, at + 1
        gap = 0.006 + 0.0015 * (at % 3) + 0.000004 * n
        now, n = now + gap * len(steps), n + sum(steps)
        yield tokens(
            *requests,
            steps=steps,
            gap=gap,
            run_id=run_id,
            t=now,
            device=device,
            text=text,
            guessed=tuple(guessed),
            kv=many * (256 + n) * KV_PER_TOKEN,
        )
    for request in requests:
        yield answered(request, run_id, t=now, n=n, e2e_s=now - t)


def whole(run_id: int = 1, config: RunConfig = ANSWERING, device: DeviceInfo = GPU, n: int = N_REQUESTS) -> list[Event]:
    """A run from its start to its last answer, without its end."""
    events: list[Event] = [begun(run_id, config, device), answering(run_id, n)]
    events += batch(0, 1, run_id, device=device)
    t = 0.0
    for first in range(1, n + 1, config.batch_size):
        many = min(config.batch_size, n + 1 - first)
        events += batch(first, many, run_id, t, guesses=config.speculate != "off", device=device)
        t = events[-1].t  # type: ignore[union-attr]
    return events


FIGURES = AnswerFigures(
    n_requests=8,
    planned_requests=8,
    prompt_tokens=2048,
    new_tokens=1024,
    ttft=Percentiles(p50=0.048, p90=0.051, p99=0.055),
    tpot=Percentiles(p50=0.0063, p90=0.0066, p99=0.0071),
    itl=Percentiles(p50=0.0061, p90=0.0068, p99=0.0093),
    e2e=Percentiles(p50=0.85, p90=0.87, p99=0.88),
    prompt_tokens_per_s=5333.0,
    prompt_spread=120.0,
    generation_tokens_per_s=158.0,
    generation_spread=3.1,
    requests_per_s=1.17,
    forwards=1024,
    tokens_per_forward=1.0,
    kv_cache=13 * MIB,
    weights=WEIGHTS,
    same_tokens=256,
    compared_tokens=256,
    shares=AnswerShares(prefill=0.36, decode=5.2, sampling=0.9),
)
"""What a run that answers comes to, without speculation."""


def answer_record(run_id: int = 1, outcome: Outcome = Outcome.COMPLETED, **values: Any) -> RunRecord:
    """A finished run that answers."""
    figures = values.pop("figures", {})
    run = RunRecord(
        run_id=run_id,
        config=ANSWERING,
        outcome=outcome,
        device=GPU,
        started_at=1_700_000_000.0,
        train_runtime_s=6.84,
        n_parameters=124_439_808,
        peak_used=990 * MIB,
        memory_total=7611 * MIB,
        answer=replace(FIGURES, **figures),
    )
    return replace(run, **values)


def lookup_record(run_id: int, **values: Any) -> RunRecord:
    """The same with speculation, which paid."""
    figures = {
        "generation_tokens_per_s": 262.0,
        "tokens_per_forward": 2.1,
        "proposed": 1600,
        "accepted": 440,
        "acceptance": 0.275,
        "tpot": Percentiles(p50=0.0038, p90=0.0047, p99=0.0061),
        "forwards": 488,
    }
    return answer_record(run_id, figures=figures, config=GUESSING, train_runtime_s=4.3, **values)


def reading(run_id: int = 9, t: float = 1.0, device: DeviceInfo = GPU) -> Sampled:
    """The sampler's, of a run that answers."""
    one = sampled(run_id, t, gpu=device.kind == "cuda")
    return replace(one, memory=memory(12 * MIB, device))


def compared(run_id: int = 1) -> TokensCompared:
    return TokensCompared(
        run_id=run_id,
        n_requests=2,
        n_tokens=256,
        n_same=256,
        promised=True,
        detail="All 256 tokens of 2 answers are those of plain generate.",
    )


def quality(run_id: int = 1) -> QualityMeasured:
    return QualityMeasured(
        run_id=run_id, text_name="generated text", n_tokens=1024, agreement=0.981, perplexity=7.9, own_perplexity=7.6
    )


ANSWER_FORECAST = AnswerForecast(
    kv_per_token=KV_PER_TOKEN,
    kv_cache=384 * KV_PER_TOKEN,
    most_tokens=1024,
    largest_batch=190,
    ttft_s=0.046,
    tpot_s=0.0064,
    prompt_tokens_per_s=5400.0,
    generation_tokens_per_s=156.0,
    bound="host",
)


def answer_forecast(config: RunConfig = ANSWERING, used: int = 980, **values: Any) -> Forecasted:
    """A forecast of a run that answers."""
    answer = replace(ANSWER_FORECAST, **values)
    if config.speculate != "off":
        answer = replace(answer, acceptance=0.25, speedups=((0.25, 1.4), (0.5, 2.0), (0.75, 2.9)))
    kv = answer.kv_cache
    rest = used * MIB - WEIGHTS - kv - 480 * MIB
    by = {
        "context": 480 * MIB,
        "weights": WEIGHTS,
        "kv_cache": kv,
        "activations": rest // 2,
        "cached": rest - rest // 2,
    }
    return Forecasted(config=config, forecast=forecast(used, breakdown=by, answer=answer, samples_per_s=1.2))


def told(config: RunConfig, device: DeviceInfo, *, hostile: bool) -> Told:
    """One run, and when each of its events is told."""
    yield 0.2, (ready(device), answer_forecast(config))
    figures = RunFigures(new_record(9, config, device, 1_700_000_000.0))
    start = answering(9, 400 if config.task == "classification" else 24)
    seen: list[Event] = [start]
    yield 0.5, (begun(9, config, device), start)
    t = 0.0
    if config.task == "classification":
        for number in range(1, 51):
            t += 0.3
            yield 0.6 + t, (scored(number, 9, t), reading(9, t, device))
        return
    for first in range(0, 25, config.batch_size):
        events = list(
            batch(first, config.batch_size, 9, t, guesses=config.speculate != "off", hostile=hostile, device=device)
        )
        for event in events:
            seen.append(event)
            yield 0.6 + event.t, (event, reading(9, event.t, device))  # type: ignore[union-attr]
        t = events[-1].t if first else 0.0  # type: ignore[union-attr]
    figures = figures.after(seen)
    ended = replace(figures.as_record(), outcome=Outcome.COMPLETED)
    yield 0.7 + t, (compared(9), RunFinished(record=ended))


def main(words: Sequence[str]) -> None:
    """Show a run until q is pressed."""
    config = GUESSING if "--guesses" in words else ANSWERING
    if "--batch" in words:
        config = ANSWERING.with_values(batch_size=4)
    if "--scores" in words:
        config = ANSWERING.with_values(task="classification", model="bert-tiny", prompts="reviews.csv")
    device = VIRTUAL if "--virtual" in words else CPU if "--cpu" in words else GPU
    slower = answer_record(7, figures={"generation_tokens_per_s": 22.5}, config=ANSWERING.with_values(kv_cache="off"))
    history = FakeHistory([record(3), record(4), answer_record(6), slower, lookup_record(8)], 6)
    show(LiveFeed(config, told(config, device, hostile="--hostile" in words), history), words)


if __name__ == "__main__":
    main(sys.argv[1:])
