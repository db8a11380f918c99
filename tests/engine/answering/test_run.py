"""Whole answering runs: what they tell, how they end, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.answering import answer
from engine.contract.config import ConfigError
from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    Event,
    MemoryMoment,
    Prefilled,
    RequestDone,
    TokensCompared,
    TokensDone,
)
from engine.contract.records import Outcome, Phase
from tests.engine.answering.asked import config_of, run, save


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save("gpt2", tmp_path_factory.mktemp("models") / "gpt2")


def test_a_run_tells_what_it_does_in_order(gpt2: str) -> None:
    asked = run(config_of(gpt2, requests=3, batch_size=2))
    assert asked.record is not None
    assert asked.record.outcome is Outcome.COMPLETED
    assert [moment.moment for moment in asked.of(MemoryMoment)] == ["start", "context", "model", "answered"]
    (started,) = asked.of(AnsweringStarted)
    assert (started.n_requests, started.n_warmup, started.prompt_tokens, started.max_new_tokens) == (3, 2, 12, 10)
    assert started.weights == started.n_parameters * 4
    assert started.kv_per_token == 2 * 2 * 32 * 4  # keys and values of two layers of 32 numbers
    done = asked.of(RequestDone)
    assert [event.request for event in done] == [0, -1, 1, 2, 3]
    assert [event.warmup for event in done] == [True, True, False, False, False]
    assert all(event.reason == "length" for event in done)
    assert {event.requests for event in asked.of(Prefilled)} == {(0, -1), (1, 2), (3,)}
    last = asked.of(TokensDone)[-1]
    assert last.kv_cache == (12 + 10 - 1) * started.kv_per_token
    times = [event.t for event in asked.events if isinstance(event, (Prefilled, TokensDone))]
    assert times == sorted(times)
    (compared,) = asked.of(TokensCompared)
    assert started.compared
    assert (compared.n_requests, compared.n_tokens, compared.n_same, compared.promised) == (2, 20, 20, False)


def test_nothing_is_compared_where_nothing_is_turned(gpt2: str) -> None:
    asked = run(config_of(gpt2))
    assert not asked.of(AnsweringStarted)[0].compared
    assert not asked.of(TokensCompared)


@pytest.mark.parametrize(
    "knobs", [{"kv_cache": "off"}, {"kv_cache": "static"}, {"speculate": "lookup"}], ids=lambda knobs: str(knobs)
)
def test_techniques_that_promise_the_same_tokens_keep_it(gpt2: str, knobs: dict[str, str]) -> None:
    (compared,) = run(config_of(gpt2, **knobs)).of(TokensCompared)
    assert compared.promised
    assert compared.n_same == compared.n_tokens == 20
    assert compared.detail.startswith("All 20 tokens compared are those of plain generate, with --")


def test_an_answer_that_is_not_plain_generates_is_found_out(gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true_answer = answer.answer_batch

    def wrong(*args: object, **kwargs: object) -> object:
        written = true_answer(*args, **kwargs)  # type: ignore[arg-type]
        written[0].ids[4] = (written[0].ids[4] + 1) % 200
        return written

    monkeypatch.setattr(answer, "answer_batch", wrong)
    (compared,) = run(config_of(gpt2, kv_cache="static", requests=1)).of(TokensCompared)
    assert (compared.n_tokens, compared.n_same) == (10, 4)
    assert "in request 1 token 5 is another, which plain generate scores" in compared.detail
    assert compared.detail.endswith("it should be the same.")


def stops_after(n: int) -> object:
    """Once so many tokens of a request that counts have been told of, or its prompt has been read where 0."""

    def should_stop(events: list[Event]) -> bool:
        prefilled = [event for event in events if isinstance(event, Prefilled) and not event.warmup]
        done = [event for event in events if isinstance(event, RequestDone) and not event.warmup]
        return bool(prefilled) and len(done) >= n

    return should_stop


def test_a_stop_amid_an_answer_keeps_what_is_written(gpt2: str) -> None:
    asked = run(config_of(gpt2, requests=4, batch_size=2, max_new_tokens=40), stops_after(0))  # type: ignore[arg-type]
    assert asked.record is not None
    assert asked.record.outcome is Outcome.STOPPED
    done = [event for event in asked.of(RequestDone) if not event.warmup]
    assert [(event.request, event.reason) for event in done] == [(1, "stopped"), (2, "stopped")]
    assert all(0 < event.new_tokens < 40 for event in done)
    assert not asked.of(TokensCompared)
    assert asked.of(MemoryMoment)[-1].moment == "answered"


def test_a_stop_between_answers_leaves_the_others_out(gpt2: str) -> None:
    asked = run(config_of(gpt2, requests=4), stops_after(2))  # type: ignore[arg-type]
    assert asked.record is not None
    assert asked.record.outcome is Outcome.STOPPED
    assert [event.request for event in asked.of(RequestDone) if not event.warmup][:2] == [1, 2]
    assert max(event.request for event in asked.of(RequestDone)) <= 3


def test_a_stop_while_a_prompt_is_read(gpt2: str) -> None:
    """At the next layer; nothing is written."""
    asked = run(config_of(gpt2), lambda events: any(isinstance(event, AnsweringStarted) for event in events))
    assert asked.record is not None
    assert asked.record.outcome is Outcome.STOPPED
    assert not asked.of(Prefilled)


def test_a_stop_while_it_loads() -> None:
    asked = run(config_of("gpt2-tiny"), lambda events: len(events) > 2)
    assert asked.record is not None
    assert asked.record.outcome is Outcome.STOPPED
    assert asked.record.message is not None
    assert not asked.of(AnsweringStarted)


def test_a_card_too_small_is_out_of_memory_with_the_place() -> None:
    asked = run(
        config_of(
            "gpt2-tiny", device="virtual:tesla-p4", vram_limit=570, prompt_len=1000, max_new_tokens=4, batch_size=8
        )
    )
    assert asked.record is not None
    assert asked.record.outcome is Outcome.OUT_OF_MEMORY
    assert asked.record.failed_phase is Phase.PREFILL
    assert asked.record.message is not None
    assert asked.record.message.startswith("Out of memory in prefill of warm-up: ")


@pytest.mark.parametrize(
    ("knobs", "knob", "words"),
    [
        ({"prompt_len": 60}, "prompt_len", "A prompt of 60 tokens and 10 new ones are more than the 64 positions"),
        ({"max_new_tokens": 64}, "max_new_tokens", "use --max-new-tokens 52 or less"),
        ({"task": "seq2seq-lm"}, "task", "--task seq2seq-lm does not exist for"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_fix(
    gpt2: str, knobs: dict[str, object], knob: str, words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        run(config_of(gpt2, **knobs))
    assert refused.value.knob == knob
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bert", "fills in masks and cannot go on with a text: use a model such as --model gpt2-tiny"),
        ("t5", "use --task seq2seq-lm"),
    ],
)
def test_models_that_do_not_write_are_refused(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run(config_of(save(kind, tmp_path / kind)))
    assert words in refused.value.message


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_model_that_reads_one_text_and_writes_another_answers(tmp_path: Path, kind: str) -> None:
    asked = run(config_of(save(kind, tmp_path / kind), task="seq2seq-lm", batch_size=2, requests=2))
    assert asked.record is not None
    assert asked.record.outcome is Outcome.COMPLETED
    assert [event.new_tokens for event in asked.of(RequestDone) if not event.warmup] == [10, 10]
    (compared,) = asked.of(TokensCompared)
    assert compared.n_same == compared.n_tokens


@pytest.mark.parametrize("padding", ["longest", "bucketed", "max_length"])
def test_a_classifier_scores_the_same_texts_whatever_pads_them(padding: str) -> None:
    config = config_of("bert-tiny", task="classification", batch_size=4, requests=10, prompt_len=32, padding=padding)
    asked = run(config)
    assert asked.record is not None
    assert asked.record.outcome is Outcome.COMPLETED
    scored = [event for event in asked.of(BatchScored) if not event.warmup]
    assert [event.batch for event in scored] == [1, 2, 3]
    assert [event.n_samples for event in scored] == [4, 4, 2]
    assert {event.warmup for event in asked.of(BatchScored)[:1]} == {True}
    n_tokens = sum(event.n_tokens for event in scored)
    whole = run(config.with_values(padding="max_length"))
    assert n_tokens == sum(event.n_tokens for event in whole.of(BatchScored)[1:])
    computed = sum(event.computed_tokens for event in scored)
    if padding == "max_length":
        assert len({event.computed_tokens // event.n_samples for event in scored}) == 1
    else:
        assert n_tokens < computed < sum(event.computed_tokens for event in whole.of(BatchScored)[1:])
    if padding == "bucketed":
        longest = run(config.with_values(padding="longest"))
        assert computed < sum(event.computed_tokens for event in longest.of(BatchScored)[1:])


@pytest.mark.slow
def test_compiled_steps_answer_the_same_and_their_making_is_told_apart(gpt2: str) -> None:
    asked = run(config_of(gpt2, torch_compile=True, kv_cache="static", requests=3, batch_size=2))
    assert asked.record is not None
    assert asked.record.outcome is Outcome.COMPLETED
    (compared,) = asked.of(TokensCompared)
    assert compared.n_same == compared.n_tokens
    warmup = [event for event in asked.of(RequestDone) if event.warmup]
    assert [event.compile_s is not None for event in warmup] == [True, False, True]
    compiled = sum(event.compile_s or 0.0 for event in warmup)
    longest = max(gap for event in asked.of(TokensDone) if not event.warmup for gap in event.gaps)
    assert compiled > 10 * longest  # nothing is compiled in what counts
