"""A run that answers on the screen: panes, jobs, the table, and asking a model."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from engine.contract.by_job import asked, asking, defaults_of
from engine.contract.config import RunConfig
from engine.contract.events import Proposed, RunFinished, RunRefused
from engine.contract.forecast_types import Proposal
from engine.contract.knob import ANSWER, TRAIN
from engine.contract.records import Outcome
from tests.tui.fake_answers import (
    ANSWERING,
    GUESSING,
    HOSTILE,
    VIRTUAL,
    answer_forecast,
    answer_record,
    answered,
    answering,
    batch,
    begun,
    lookup_record,
    prefilled,
    scored,
    tokens,
    whole,
)
from tests.tui.fake_session import CPU, finished, ready, record, started, training, update
from tests.tui.screen_text import SIZES, stage
from tui.screens.ask import AskScreen
from tui.screens.main import MainScreen

LANGUAGE = RunConfig(model="gpt2-tiny", task="causal-lm", workload="text")


@pytest.mark.parametrize("size", SIZES)
async def test_the_answer_and_its_figures_are_seen_at_every_size(size: tuple[int, int]) -> None:
    async with stage(size, [], answer_forecast(GUESSING), *whole(9, GUESSING, n=2), config=GUESSING) as s:
        assert s.app.state.run is not None
        assert s.app.state.run.answer is not None
        newest = s.app.state.run.answer.answers[-1]
        last = "".join(text for text, _ in newest.parts).split()[-2:]
        assert " ".join(last) in " ".join(s.text.replace("│", " ").split())
        assert "request 2/2" in s.lines[0]
        assert "decode" in s.text
        assert "latency" in s.text.lower()
        assert "KV 14 MiB" in s.text


@pytest.mark.parametrize("keys", [(), ("enter",), ("question_mark",)])
async def test_a_knob_of_both_jobs_says_what_it_does_in_this_one(keys: tuple[str, ...]) -> None:
    async with stage((120, 40), [], config=ANSWERING) as s:
        await s.press("b", *keys)
        assert "Prompts or texts at once" in s.text
        assert "Samples per micro-step" not in s.text


@pytest.mark.parametrize(
    ("config", "speed", "latency"),
    [
        (RunConfig(), "Samples/s", "Loss"),
        (ANSWERING, "Tokens/s", "Latency ms/token"),
        (ANSWERING.with_values(task="classification", prompts="dummy"), "Samples/s", "Latency ms/batch"),
    ],
)
async def test_before_a_run_the_panes_are_those_of_its_job(config: RunConfig, speed: str, latency: str) -> None:
    async with stage((120, 40), [], config=config) as s:
        assert speed in s.line("Utilization")
        assert latency in s.line("Where the time goes")
    async with stage((80, 24), [], config=config) as s:
        assert f"{speed.lower()} " in s.text
        assert f"{latency.split()[0].lower()} " in s.text


async def test_the_panes_are_those_of_the_run_that_is_shown() -> None:
    async with stage((120, 40), [], started(1), training(1), update(1)) as s:
        assert "Loss" in s.text
        assert "Answer" not in s.text
        await s.feed(finished(1), begun(2), answering(2), prefilled(1, run_id=2), tokens(1, run_id=2, text="well"))
        assert "Latency ms/token" in s.text
        assert "Tokens/s" in s.text
        assert "Answer" in s.text
        assert "well" in s.text


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({}, "dummy 8×256+128 "),
        ({"prompts": "generated"}, "generated 8, 128 new "),
        ({"prompts": "held-out", "prompt_len": 64, "requests": 3}, "held-out 3×64+128 "),
        ({"prompts": "/data/asked.txt"}, "asked.txt all, 128 new "),
        ({"prompts": "asked.txt", "task": "classification"}, "asked.txt all "),
    ],
)
async def test_the_title_says_of_what_is_asked_what_is_known(knobs: dict[str, str], said: str) -> None:
    async with stage((120, 40), [], config=defaults_of(ANSWER).with_values(**knobs)) as s:
        assert f" · {said}" in s.lines[0]


async def test_answers_of_the_warm_up_are_told_as_such() -> None:
    async with stage((120, 40), [], begun(2), answering(2), *list(batch(0, run_id=2))[:3], config=ANSWERING) as s:
        assert "warm-up" in s.lines[0]
        assert "warm-up" in s.line("Answer")


async def test_keys_and_values_grow_beside_weights_whatever_the_device_tracks() -> None:
    for device in (CPU, VIRTUAL):
        events = (begun(2, device=device), answering(2), *batch(1, run_id=2, device=device))
        async with stage((120, 40), [], ready(device), answer_forecast(), *events, config=ANSWERING) as s:
            assert "weights 475" in s.text
            assert "KV cache 14" in s.text


async def test_what_a_model_writes_is_obeyed_by_nobody() -> None:
    text = " ".join(HOSTILE) * 200
    events = (begun(2), answering(2), prefilled(1, run_id=2), tokens(1, run_id=2, text=text))
    async with stage((80, 24), [], *events, config=ANSWERING) as s:
        assert not set(s.text) & set("\x1b\x9b\x07\x00\u202e")
        assert all(cell_len(line) == 80 for line in s.lines)


async def test_a_classifier_scores() -> None:
    config = defaults_of(ANSWER).with_values(task="classification", model="bert-tiny")
    events = (begun(2, config), answering(2, 64), scored(0, 2), scored(1, 2), scored(2, 2))
    async with stage((120, 40), [], *events, config=config) as s:
        assert "text 16/64" in s.lines[0]
        assert "positive 0.93" in s.text
        assert "Latency ms/batch" in s.text
        assert "padding 32 %" in s.text


async def test_the_job_has_a_key_and_brings_its_knobs_and_its_rows() -> None:
    async with stage((120, 40), [record(1), answer_record(2), lookup_record(3)]) as s:
        assert "2 answering runs: J" in s.line("Results")
        assert "accumulation" in s.text
        await s.press("J")
        assert s.app.state.editor.config.job == ANSWER
        assert "1 training run: J" in s.line("Results")
        assert "lookup 4" in s.text
        assert "accumulation" not in s.text
        await s.press("a", "o", "c")
        config = s.app.state.editor.config
        assert (config.max_new_tokens, config.speculate) == (256, "lookup")
        assert "--kv-cache" in s.text or config.kv_cache != "dynamic"
        await s.press("J", "b")
        assert s.app.state.editor.config == RunConfig(batch_size=16)
        await s.press("J")
        assert s.app.state.editor.config.max_new_tokens == 256


async def test_each_job_has_a_baseline_of_its_own() -> None:
    async with stage((120, 40), [record(1), answer_record(2), lookup_record(3)]) as s:
        await s.press("tab", "space")
        assert "Δ to run 1*" in s.text
        await s.press("J")
        assert "Δ to run" not in s.text
        await s.press("home", "space")
        assert "Δ to run 2*" in s.text
        assert "+66%" in s.line("lookup 4")
        await s.press("J")
        assert "Δ to run 1*" in s.text
        assert s.history.baselines() == {TRAIN: 1, ANSWER: 2}
        await s.press("home", "space")
        assert s.app.state.baselines == {ANSWER: 2}
        await s.press("J")
        assert "Δ to run 2*" in s.text


async def test_questions_one_after_the_other_are_one_row() -> None:
    rows = [answer_record(n, config=asked(ANSWERING, f"question {n}")) for n in range(2, 6)]
    async with stage((120, 40), [answer_record(1), *rows], config=ANSWERING) as s:
        assert [row.run_id for row in s.app.state.rows] == [1, 5]
        assert "3 questions before: /" in s.line("Results")
        await s.press("tab", "tab") if s.app.state.shows_answers else await s.press("tab")
        s.app.state.table.query = "question"
        assert [row.run_id for row in s.app.state.rows] == [2, 3, 4, 5]


async def test_the_model_that_was_trained_is_asked() -> None:
    trained = record(7, config=LANGUAGE)
    async with stage((120, 40), [trained], config=LANGUAGE) as s:
        await s.press("Q")
        assert isinstance(s.app.screen, AskScreen)
        assert "as run 7 trained it" in s.dialog
        await s.press(*"why", "enter")
        wanted = asked(asking(trained), "why")
        assert s.session.started == [wanted]
        assert wanted.model == "run:7"
        await s.feed(begun(8, wanted), answering(8, 1, 64), *batch(0, run_id=8, most=20))
        await s.press(*"next")
        s.app.screen.show()
        assert "warming up" in s.dialog
        await s.feed(*batch(1, run_id=8, most=64))
        s.app.screen.show()
        await s.pilot.pause()
        assert "The first idea" in s.dialog
        assert "64 tokens" in s.dialog
        await s.press("enter")
        assert len(s.session.started) == 1
        assert "still being written" in s.dialog
        s.session.busy = False
        await s.feed(RunFinished(record=answer_record(8, config=wanted)))
        await s.press("enter")
        assert s.session.started[-1].prompt == "next"
        await s.press("escape")
        assert isinstance(s.app.screen, MainScreen)
        assert s.app.state.editor.config.job == TRAIN


async def test_a_model_that_was_just_trained_goes_along_as_it_was_trained() -> None:
    events = (started(7, LANGUAGE), training(7), update(1, 7), finished(7, config=LANGUAGE))
    async with stage((120, 40), [], *events, config=LANGUAGE) as s:
        await s.press("J")
        assert s.app.state.editor.config.model == "run:7"
        assert "the model is that of run 7" in s.lines[-1]
        await s.press("J")
        assert s.app.state.editor.config == LANGUAGE


async def test_a_second_training_takes_the_place_of_the_first_whatever_was_asked_between() -> None:
    first = (started(7, LANGUAGE), training(7), update(1, 7), finished(7, config=LANGUAGE))
    second = (started(9, LANGUAGE), training(9), update(1, 9), finished(9, config=LANGUAGE))
    async with stage((120, 40), [], *first, config=LANGUAGE) as s:
        await s.press("J")
        await s.feed(*whole(8, s.app.state.editor.config))
        await s.press("J", "J")
        assert s.app.state.editor.config.model == "run:7"  # asked, and still there
        await s.press("J")
        await s.feed(*second)
        await s.press("J")
        assert s.app.state.editor.config.model == "run:9"
        s.app.state.editor.set_value("model", "run:2")  # what a person chose stays
        await s.press("J", "J")
        assert s.app.state.editor.config.model == "run:2"


async def test_a_question_that_is_refused_or_fails_says_so() -> None:
    async with stage((80, 24), [], config=ANSWERING) as s:
        await s.press("Q", "h", "i", "enter")
        wanted = s.session.started[0]
        refusal = "The prompt is longer than the model's 1,024 positions."
        await s.feed(RunRefused(run_id=None, config=wanted, knob="prompt", message=refusal))
        s.session.busy = False
        await s.pilot.pause()
        assert refusal in s.dialog


async def test_without_a_model_that_writes_nobody_is_asked() -> None:
    async with stage((120, 40), [record(1)]) as s:
        await s.press("Q")
        assert isinstance(s.app.screen, MainScreen)
        assert "no model to ask" in s.lines[-1]


async def test_details_of_answers_have_no_losses() -> None:
    async with stage((200, 60), [lookup_record(3)], config=GUESSING) as s:
        await s.press("tab")
        while s.app.focused is None or s.app.focused.id != "results":
            await s.press("tab")
        await s.press("enter")
        assert "traintop answer" in s.dialog
        assert "262" in s.dialog
        assert "Trainer" not in s.dialog


async def test_curves_of_answers_are_read_token_by_token() -> None:
    async with stage((120, 40), [], *whole(9, n=2), config=ANSWERING) as s:
        await s.press("v", "shift+left")
        assert "token 255 of 256" in s.lines[-1]


async def test_a_stopped_run_keeps_what_was_answered() -> None:
    events = [*whole(9, n=2)][:-3]
    end = RunFinished(record=answer_record(9, Outcome.STOPPED))
    async with stage((120, 40), [], *events, end, answered(2, 9), config=ANSWERING) as s:
        assert "stopped" in s.lines[0]
        assert s.app.state.run is not None
        assert s.app.state.run.answer is not None
        assert len(s.app.state.run.answer.done) == 1


async def test_what_fits_instead_is_in_tokens_a_second() -> None:
    made = answer_forecast().forecast
    assert made is not None
    fits = Proposal(label="prompts of 469 tokens", config=ANSWERING.with_values(prompt_len=469), forecast=made)
    async with stage((120, 40), [], config=ANSWERING) as s:
        await s.feed(answer_forecast(used=7900))
        await s.press("r", "h")
        await s.feed(Proposed(run_id=0, proposals=(fits,)))
        assert "the card's tokens/s" in s.dialog
        assert "~156/s" in s.text
