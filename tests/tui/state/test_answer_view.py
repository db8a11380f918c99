"""What a run that answers shows: its x axis, latency per token, the text, what is left out of it."""

from __future__ import annotations

import pytest

from engine.contract.by_job import defaults_of
from engine.contract.knob import ANSWER
from tests.tui.fake_answers import (
    ANSWERING,
    GUESSING,
    KV_PER_TOKEN,
    MOST,
    N_REQUESTS,
    PROMPT,
    answer_forecast,
    answered,
    answering,
    batch,
    begun,
    compared,
    prefilled,
    quality,
    scored,
    tokens,
    whole,
)
from tui.state.answer_view import ANSWERS_KEPT, AnswerView
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.run_view import RunView
from tui.state.state import State
from tui.state.written import Written


@pytest.fixture
def state() -> State:
    return State(editor=KnobEditor(ANSWERING))


def run_of(state: State) -> tuple[RunView, AnswerView]:
    assert state.run is not None
    assert state.run.answer is not None
    return state.run, state.run.answer


def test_the_x_axis_is_the_tokens_that_are_to_be_written(state: State) -> None:
    for event in whole():
        fold(state, event)
    run, view = run_of(state)
    assert run.planned == N_REQUESTS * MOST
    assert run.reached == run.planned
    assert view.tokens == run.planned
    assert view.done == set(range(1, N_REQUESTS + 1))


def test_an_answer_that_ends_early_counts_as_a_whole_one(state: State) -> None:
    for event in (begun(), answering(), prefilled(1), tokens(1), answered(1, n=11, reason="stop")):
        fold(state, event)
    run, view = run_of(state)
    assert run.progress == MOST
    assert view.tokens == 11


def test_the_warm_up_moves_nothing_and_its_text_goes(state: State) -> None:
    for event in (begun(), answering(), *batch(0)):
        fold(state, event)
    run, view = run_of(state)
    assert run.warmup
    assert run.progress == 0
    assert not len(view.latencies)
    assert [each.request for each in view.answers] == [0]
    assert run.planned_s is None
    for event in batch(1, t=2.0):
        fold(state, event)
    assert [each.request for each in view.answers] == [1]
    assert run.planned_s == pytest.approx(run.moved_t * N_REQUESTS)


def test_a_guess_that_is_accepted_is_a_shorter_wait_a_token(state: State) -> None:
    for event in (begun(), answering(), prefilled(1), tokens(1, steps=(1, 3), gap=0.006)):
        fold(state, event)
    _, view = run_of(state)
    assert view.latencies.within(1, 5) == pytest.approx((2.0, 6.0))
    assert view.latencies.within(1, 2) == pytest.approx((6.0, 6.0))
    assert view.prefills.within(0, 9) == pytest.approx((6.0, 6.0))  # where the answer began
    assert view.speeds.within(0, 9) == pytest.approx((4 / 0.012, 4 / 0.012))


def test_a_batch_waits_as_long_as_each_of_it(state: State) -> None:
    for event in (begun(), answering(), prefilled(1, 2, 3, 4), tokens(1, 2, 3, 4, gap=0.01)):
        fold(state, event)
    _, view = run_of(state)
    assert view.newest_ms == pytest.approx(10.0)
    assert view.speeds.within(0, 99) == pytest.approx((400.0, 400.0))
    assert view.tokens == 44


def test_the_text_comes_with_its_guesses_marked(state: State) -> None:
    text = {"text": "the cat sat", "guessed": ((4, 11),)}
    for event in (begun(config=GUESSING), answering(), prefilled(1), tokens(1, **text)):
        fold(state, event)
    _, view = run_of(state)
    assert view.answers[-1].lines(40, 3) == [[("the ", "text"), ("cat sat", "guessed")]]
    assert view.answers[-1].lines(40, 3, marks=True) == [[("the ", "text"), ("‹cat sat›", "guessed")]]
    fold(state, answered(1))
    assert view.answers[-1].prompt == PROMPT
    assert view.answers[-1].lines(40, 3) == [[("the ", "text"), ("cat sat", "guessed")]]


def test_what_a_cache_answered_is_told_by_its_end(state: State) -> None:
    for event in (begun(), answering(), answered(1, text="as before", hit="response", n=3)):
        fold(state, event)
    run, view = run_of(state)
    assert view.answers[-1].lines(40, 3) == [[("as before", "text")]]
    assert run.progress == MOST
    assert "from the response cache" in state.log[-1].text


def test_an_endless_answer_and_many_of_them_are_kept_to_their_ends() -> None:
    view = AnswerView(ANSWERING)
    view.take(answering(n=1000))
    for number in range(1, 200):
        view.take(prefilled(number))
        view.take(tokens(number, text="word " * 50_000))
    assert len(view.answers) == ANSWERS_KEPT
    assert sum(len(text) for text, _ in view.answers[-1].parts) <= 20_000


def test_keys_and_values_grow_and_have_a_forecast(state: State) -> None:
    for event in (answer_forecast(), begun(), answering(), *batch(1)):
        fold(state, event)
    _, view = run_of(state)
    assert view.expected_kv == 384 * KV_PER_TOKEN
    assert view.kv_cache == (256 + MOST) * KV_PER_TOKEN
    assert view.kv_mib.last_until(MOST) is not None


def test_a_classifier_goes_by_texts(state: State) -> None:
    config = defaults_of(ANSWER).with_values(task="classification", model="bert-tiny")
    for event in (begun(config=config), answering(n=64), scored(0), scored(1, seconds=0.1), scored(2, seconds=0.2)):
        fold(state, event)
    run, view = run_of(state)
    assert (run.planned, run.reached) == (64, 16)
    assert view.speeds.within(0, 64) == pytest.approx((40.0, 80.0))
    assert view.padding == 2 * (2048 - 1400)
    assert "positive 0.93" in view.answers[-1].lines(80, 3)[0][0][0]


def test_what_was_measured_afterwards_is_in_the_log(state: State) -> None:
    for event in (begun(), answering(), compared(), quality()):
        fold(state, event)
    assert "those of plain generate" in state.log[-2].text
    assert "98.1 %" in state.log[-1].text
    fold(state, compared(2))  # of another run
    assert "98.1 %" in state.log[-1].text


def test_a_hostile_prompt_is_one_harmless_line() -> None:
    written = Written(request=1, prompt="a\x1b[2J\nb")
    assert written.prompt == "a⏎b"
