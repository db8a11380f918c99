"""An answering run without the screen: what was asked and answered, how far it is, and its figures."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig
from engine.contract.events import (
    Event,
    Prefilled,
    QualityMeasured,
    RequestDone,
    RunFinished,
    RunStarted,
    TokensCompared,
    TokensDone,
)
from engine.contract.knob import ANSWER
from engine.contract.records import DeviceInfo, Outcome
from engine.contract.run_figures import RunFigures, new_record
from tests.engine.contract.answering_events import answered, batch, done, scored, started
from tui.console.progress import Pace, ProgressLines
from tui.console.transcript import Transcript

RUN_ID = 7
CPU = DeviceInfo(name="Intel Xeon", kind="cpu", memory_label="RAM")
CONFIG = defaults_of(ANSWER)


def began(config: RunConfig = CONFIG) -> RunStarted:
    return RunStarted(run_id=RUN_ID, config=config, device=CPU, started_at=1.0)


def told(events: Iterable[Event], config: RunConfig = CONFIG, **more: Any) -> list[str]:
    """The transcript of a run that ends after these events."""
    transcript, figures = Transcript(), RunFigures(new_record(RUN_ID, config, CPU, 1.0))
    lines = []
    for event in (began(config), *events):
        figures.add(event)
        lines += transcript.lines(event)
    record = replace(figures.as_record(), **{"outcome": Outcome.COMPLETED, **more})
    return lines + transcript.lines(RunFinished(record=record))


def spoken(events: Iterable[Event], prompt: str, *texts: str) -> list[Event]:
    """The same, of a prompt that a person can read; the texts come one after the other."""
    left = iter(texts)
    spoken: list[Event] = []
    for event in events:
        if isinstance(event, (Prefilled, TokensDone)):
            event = replace(event, text=next(left, ""))
        elif isinstance(event, RequestDone):
            event = replace(event, prompt=prompt, text=texts[0] if texts else "")
        spoken.append(event)
    return spoken


def test_the_figures_are_named_as_llama_bench_and_vllm_do() -> None:
    lines = told([started(RUN_ID, 2), *batch(RUN_ID, [0], 0.0), *batch(RUN_ID, [1], 1.0), *batch(RUN_ID, [2], 1.11)])
    assert "Answering 2 requests, after 1 that warm up, with 960,000 parameters, 3.7 MiB" in lines
    assert "Prompts of up to 64 tokens, 16 new ones, 4.0 KiB of KV cache a token" in lines
    closing = lines[lines.index("Request 2: 64 prompt tokens, 4 new in 0.11 s") + 1 :]
    assert closing == [
        "Requests: 2 in 0.22 s, 9.09 a second; 128 prompt tokens and 8 new ones",
        "pp: 1,600 ±0 tokens/s",
        "tg: 50.0 ±0.0 tokens/s",
        "TTFT in ms: p50 50.0, p90 50.0, p99 50.0",
        "TPOT in ms: p50 20.0, p90 20.0, p99 20.0",
        "ITL in ms: p50 20.0, p90 30.0, p99 30.0",
        "E2E in ms: p50 110, p90 110, p99 110",
        "KV cache: 0.3 MiB at the most",
        "Where the time went: prefill 36 %, decode 49 %, sampling 15 %",
        "Peak RAM in MiB: used 0, reserved 0, allocated 0 of 0 (12.5 %)",
    ]


def test_speculation_caches_compiling_and_what_was_compared_are_told() -> None:
    config = CONFIG.with_values(speculate="lookup")
    events = [
        started(RUN_ID, 2, draft_parameters=90_000, draft_weights=360_000),
        done(RUN_ID, 0, 0.0, 60.0, 61.0, compile_s=59.5),
        *batch(RUN_ID, [1], 70.0, accepted=[4, 0, 1]),
        *batch(RUN_ID, [2], 71.0),
        answered(RUN_ID),
        TokensCompared(run_id=RUN_ID, n_requests=1, n_tokens=9, n_same=9, promised=True, detail="All 9 are the same."),
        QualityMeasured(
            run_id=RUN_ID,
            text_name="held-out text",
            n_tokens=1024,
            agreement=0.9731,
            perplexity=12.34,
            own_perplexity=12.0,
        ),
    ]
    lines = told(events, config)
    assert "A draft model of 90,000 parameters, 0.3 MiB guesses" in lines
    assert "Warm-up: 61.0 s, of it torch.compile 59.5 s, which are in no figure" in lines
    assert "All 9 are the same." in lines
    assert "On 1,024 tokens of held-out text, the top token agrees on 97.3 %, perplexity 12.3 (own 12.0)" in lines
    speculation = "Speculation: 1.62 tokens per forward, acceptance 42 % (5 of 12 guesses accepted)"
    assert lines.index("RAM after answering: 0 MiB") < lines.index(speculation)


def test_guesses_in_answers_that_go_round_in_circles_are_told_to_be_easy() -> None:
    config = CONFIG.with_values(speculate="lookup")
    events = [started(RUN_ID, 1), *batch(RUN_ID, [1], 0.0, accepted=[4, 4, 4])]
    looping = [replace(event, looped=0.934) if isinstance(event, RequestDone) else event for event in events]
    assert any("(93 % of them came before), so guesses are easier" in line for line in told(looping, config))
    assert not any("circles" in line for line in told(events, config))


def test_what_a_cache_answered_is_told() -> None:
    hit = replace(done(RUN_ID, 2, 71.0, 0.001, 0.002), hit="prefix")
    config = CONFIG.with_values(prefix_cache=True)
    lines = told([started(RUN_ID, 2), *batch(RUN_ID, [1], 70.0), hit], config)
    assert "Request 2: 64 prompt tokens, 4 new in 0.00 s, prefix cache hit" in lines
    assert "Caches: 1 of 2 requests hit (50 %)" in lines


def test_a_whole_answer_is_printed_and_nothing_in_it_reaches_the_terminal() -> None:
    events = spoken(batch(RUN_ID, [1], 0.0), "Who\x1b[2J?", "It is\n", "\x1b]0;x\x07 a\u202e cat", " on a mat\r.")
    lines = told([started(RUN_ID, 1), *events])
    at = lines.index("Request 1: 64 prompt tokens, 4 new in 0.11 s")
    asked, *answer = lines[at + 1 : lines.index("pp: 1,600 tokens/s") - 1]
    assert asked.startswith("> Who")
    assert answer[0] == "It is"
    assert "cat on a mat" in "".join(answer)
    assert all(line.isprintable() for line in lines)


def test_an_endless_answer_is_cut_and_many_are_counted() -> None:
    endless = spoken(batch(RUN_ID, [1], 0.0), "Go on", *["word " * 8000] * 3)
    more = [event for n in range(2, 21) for event in spoken(batch(RUN_ID, [n], float(n)), "And?", "Yes.")]
    lines = told([started(RUN_ID, 20), *endless, *more])
    assert sum(map(len, lines)) < 25_000
    assert "…" in lines
    assert sum(line.startswith("Request ") for line in lines) == 8
    assert lines.count("The other 12 answers are not printed; --json has them.") == 1


def test_a_run_that_was_stopped_says_how_far_it_came() -> None:
    events = [started(RUN_ID, 8), *batch(RUN_ID, [1], 0.0), *batch(RUN_ID, [2], 1.0, gaps=[0.01], reason="stopped")]
    lines = told(events, outcome=Outcome.STOPPED, message="Stopped by the user.")
    assert "Request 2: 64 prompt tokens, 2 new in 0.06 s, stopped" in lines
    assert lines[-2:] == ["Run 7: stopped after 1 of 8 requests", "Stopped by the user."]


def test_a_run_that_never_answered_has_no_figures() -> None:
    lines = told([], outcome=Outcome.OUT_OF_MEMORY, message="Out of memory.")
    assert lines[-2:] == ["Run 7: out of memory", "Out of memory."]
    assert not any(line.startswith(("pp", "TTFT", "Requests")) for line in lines)


def test_how_far_it_is_counts_requests_and_what_of_them_is_written() -> None:
    pace = Pace()
    pace.fold(began())
    pace.fold(started(RUN_ID, 4))
    assert [pace.fold(event) for event in batch(RUN_ID, [0], 0.0)] == [False] * 4
    assert (pace.fraction, pace.remaining_s, pace.text()) == (0.0, None, "warming up")
    first, *rest = batch(RUN_ID, [1, 2], 5.0, ttft=1.0, gaps=[1.0] * 7, per_event=7)
    assert pace.fold(first)
    assert (pace.fraction, pace.remaining_s) == (pytest.approx(2 / 16 / 4), pytest.approx(31.0))
    assert pace.fold(rest[0])
    assert pace.fraction == pytest.approx(16 / 16 / 4)
    assert pace.remaining_s == pytest.approx(24.0)
    assert pace.text() == "request 1/4, token 8  tg 2.00 tokens/s  TTFT 1,000 ms"
    for event in rest[1:]:
        pace.fold(event)
    assert pace.fraction == 0.5
    assert pace.text().startswith("request 3/4  tg 2.00")
    for event in batch(RUN_ID, [3, 4], 13.0):
        pace.fold(event)
    assert (pace.fraction, pace.remaining_s) == (1.0, 0.0)


def test_a_line_is_written_for_every_tenth() -> None:
    err = io.StringIO()
    lines = ProgressLines(err)
    for event in (began(), started(RUN_ID, 10), *batch(RUN_ID, [0], 0.0)):
        lines.show(event)
    assert err.getvalue() == ""
    for number in range(1, 11):
        for event in batch(RUN_ID, [number], float(number), gaps=[0.01] * 15):
            lines.show(event)
    assert [line.split()[0] for line in err.getvalue().splitlines()] == [str(10 * tenth) for tenth in range(1, 11)]


def test_a_classifier_is_told_by_its_samples() -> None:
    config = RunConfig(job=ANSWER, task="classification", batch_size=4)
    events = [started(RUN_ID, 12), *(scored(n, float(n), 0.5, "good: a film") for n in (0, 1, 2, 3))]
    lines = told(events, config)
    assert lines.count("good: a film") == 3
    assert "Samples/second: 8.00 ±0.00" in lines
    assert "Latency of a batch in ms: p50 500, p90 500, p99 500" in lines
    assert "Padding: 25.0 % of what was computed of prompts" in lines
    assert not any(line.startswith(("tg", "TTFT", "TPOT", "KV")) for line in lines)
