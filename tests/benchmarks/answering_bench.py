"""What answering fast gains and costs, on this machine's CPU.

First our answers against plain `generate` of transformers: the same model, prompts and settings, turn by turn, each in a
process of its own. Then the three ideas of the lecture, each against the run without it, with a small model that is
trained for it on generated text: all of them runs as `traintop answer` does them, told by their own events.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig
from engine.contract.events import (
    AnsweringStarted,
    Event,
    Prefilled,
    QualityMeasured,
    RequestDone,
    RunFinished,
    RunRefused,
    TokensDone,
)
from engine.contract.knob import ANSWER
from engine.contract.records import Outcome
from engine.history.history import History
from engine.session.session import Session
from tests.benchmarks.figures import Figure, alternate, ratio

GOAL = 0.98
PATIENCE_S = 300.0
TRAINING = RunConfig(
    model="gpt2-tiny",
    task="causal-lm",
    workload="instructions",
    device="cpu",
    batch_size=16,
    samples=4000,
    epochs=2,
    seq_len=128,
    learning_rate=3e-3,
)
"""Of the small model: about a minute."""
PLAIN = defaults_of(ANSWER).with_values(device="cpu", requests=6, prompt_len=128, max_new_tokens=128)


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Ratios of tokens/s as a rule; what says otherwise is named so."""
    spawn = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as our_process,
        ProcessPoolExecutor(1, spawn) as their_process,
    ):
        home = Path(folder)
        n = rounds or (7 if full else 3)
        mine = partial(_result, our_process, answered, home)
        yield from _against_plain(mine, partial(_result, their_process, plainly, home), n)
        yield _app_against_headless(home, n)
        trained = str(home / "trained")
        our_process.submit(train, TRAINING.with_values(output_dir=trained), home).result()
        yield from ideas(mine, PLAIN.with_values(model=trained), n)


def _result(process: ProcessPoolExecutor, work: Callable[..., Any], home: Path, config: RunConfig) -> Any:
    return process.submit(work, config, home).result()


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a run's events add up to, without its warm-up."""

    tokens: int
    seconds: float
    """From the first prompt's start to the last one's end, without what is between two batches."""
    cpu_s: float
    """Processor time of the process over the same answers."""
    ttft_s: float
    """The median."""
    tpot_s: float
    """The median, of each request (end to end - TTFT) / (tokens - 1)."""
    threads: int | None
    weights: int
    proposed: int
    accepted: int
    forwards: int
    agreement: float | None

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def acceptance(self) -> str:
        """In words."""
        if not self.proposed:
            return "nothing guessed"
        return f"{self.accepted / self.proposed:.0%} accepted, {self.tokens / self.forwards:.2f} tokens per forward"


Answered = Callable[[RunConfig], Told]


def _against_plain(mine: Answered, theirs: Callable[[RunConfig], Told], rounds: int) -> Iterator[Figure]:
    for config, name in (
        (PLAIN, "batch 1"),
        (PLAIN.with_values(batch_size=8, requests=16), "batch 8"),
    ):
        ours, plain = alternate(partial(mine, config), partial(theirs, config), rounds)
        cpu = statistics.median(b.cpu_s / a.cpu_s for a, b in zip(ours, plain, strict=True))
        yield _speeds(
            f"answering ÷ plain generate, gpt2-tiny {name}", ours, plain, GOAL, f"by processor time {cpu:.3f}"
        )


def ideas(mine: Answered, config: RunConfig, rounds: int) -> Iterator[Figure]:
    """More space, the common case, and speculation, each against the same without it."""

    def against(a: RunConfig, b: RunConfig) -> tuple[list[Told], list[Told]]:
        return alternate(partial(mine, a), partial(mine, b), rounds)

    few = config.with_values(requests=3)
    longer = few.with_values(prompt_len=384)
    with_cache, without = against(longer, longer.with_values(kv_cache="off"))
    yield _speeds("KV cache ÷ none, prompt 384", with_cache, without, 5)
    static, dynamic = against(longer.with_values(kv_cache="static"), longer)
    yield _speeds("static KV cache ÷ dynamic", static, dynamic, None)
    prefix = config.with_values(prompt_len=768, prefix_len=749, max_new_tokens=8)
    cached, cold = against(prefix.with_values(prefix_cache=True), prefix)
    yield ratio(
        "TTFT without a prefix cache ÷ with, prefix 749", [t.ttft_s for t in cold], [t.ttft_s for t in cached], 3
    )
    batch = config.with_values(requests=16, prompt_len=64)
    many, one = against(batch.with_values(batch_size=16), batch)
    yield _speeds("batch 16 ÷ batch 1", many, one, 4)

    lookup = {"speculate": "lookup", "speculate_tokens": 10}
    asked = config.with_values(prompts="generated", prompt_len=None)
    guessing, each_token = against(asked.with_values(**lookup), asked)
    yield _speeds("lookup ÷ none, generated text, which repeats", guessing, each_token, 1.3, guessing[0].acceptance)
    drawn = few.with_values(temperature=1.0)
    guessing, each_token = against(drawn.with_values(**lookup), drawn)
    yield _speeds("lookup ÷ none, random text", guessing, each_token, None, guessing[0].acceptance)
    yield from _drafts(against, few)
    yield from _int8(mine, asked)


def _drafts(
    against: Callable[[RunConfig, RunConfig], tuple[list[Told], list[Told]]], small: RunConfig
) -> Iterator[Figure]:
    """A draft that is much smaller than the model, and one that is nearly as large."""
    large = PLAIN.with_values(model="gpt2", requests=2, prompt_len=64, max_new_tokens=48)
    guessing, each_token = against(large.with_values(speculate="draft", draft_model="gpt2-tiny"), large)
    yield _speeds(
        "draft ÷ none, gpt2 with gpt2-tiny, random weights",
        guessing,
        each_token,
        1,
        f"{guessing[0].acceptance}: both like to repeat a token",
    )
    guessing, each_token = against(small.with_values(speculate="draft", draft_model=small.model), small)
    yield _speeds("draft ÷ none, the model guesses for itself", guessing, each_token, None, guessing[0].acceptance)


def _int8(mine: Answered, config: RunConfig) -> Iterator[Figure]:
    whole, rounded = mine(config), mine(config.with_values(weights="int8"))
    note = "agreement unknown" if rounded.agreement is None else f"top token the same at {rounded.agreement:.1%}"
    yield Figure(
        name="int8 weights' bytes ÷ fp32's", value=rounded.weights / whole.weights, goal=0.35, at_most=True, note=note
    )


def _speeds(name: str, ours: list[Told], theirs: list[Told], goal: float | None, note: str = "") -> Figure:
    return ratio(name, [each.tokens_per_s for each in ours], [each.tokens_per_s for each in theirs], goal, note)


def answered(config: RunConfig, home: Path) -> Told:
    """A run of ours."""
    events: list[Event] = []
    cpu = {"begin": time.process_time(), "end": 0.0}

    def hear(event: Event) -> None:
        events.append(event)
        if isinstance(event, RequestDone):
            cpu["begin" if event.warmup else "end"] = time.process_time()

    _follow(config, home, hear)
    return _told([event for event in events if not getattr(event, "warmup", False)], cpu["end"] - cpu["begin"])


def train(config: RunConfig, home: Path) -> None:
    """The small model."""
    _follow(config, home, lambda event: None)


def _follow(config: RunConfig, home: Path, hear: Callable[[Event], None]) -> None:
    logging.getLogger("traintop").addHandler(logging.NullHandler())
    with History(home / "history.sqlite3") as history:
        session = Session(history)
        session.open()
        session.start(config)
        try:
            while True:
                for event in session.wait(1.0):
                    hear(event)
                    if isinstance(event, RunRefused):
                        raise RuntimeError(event.message)
                    if isinstance(event, RunFinished):
                        if event.record.outcome is not Outcome.COMPLETED:
                            raise RuntimeError(event.record.message)
                        return
        finally:
            session.close(30.0)


def _told(events: list[Event], cpu_s: float) -> Told:
    started = next(event for event in events if isinstance(event, AnsweringStarted))
    prefilled = [event for event in events if isinstance(event, Prefilled)]
    written = [event for event in events if isinstance(event, TokensDone)]
    done = [event for event in events if isinstance(event, RequestDone)]
    quality = [event.agreement for event in events if isinstance(event, QualityMeasured)]
    return Told(
        tokens=sum(event.new_tokens for event in done),
        seconds=sum(event.ttft_s for event in prefilled) + sum(sum(event.gaps) for event in written),
        cpu_s=cpu_s,
        ttft_s=statistics.median(event.ttft_s for event in done),
        tpot_s=statistics.median((event.e2e_s - event.ttft_s) / max(1, event.new_tokens - 1) for event in done),
        threads=started.threads,
        weights=started.weights,
        proposed=sum(event.proposed for event in written),
        accepted=sum(event.accepted for event in written),
        forwards=sum(len(event.requests) for event in prefilled) + sum(event.forwards for event in written),
        agreement=quality[0] if quality else None,
    )
