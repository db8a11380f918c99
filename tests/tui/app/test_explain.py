"""`e`: the timeline of the knob's or the row's configuration, what an out-of-memory lacked, and the command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted
from engine.contract.forecast_types import Forecast
from engine.contract.records import Outcome, Phase
from tests.tui.app.test_forecast import forecast
from tests.tui.drawing.test_timeline import UPDATE
from tests.tui.fake_answers import ANSWERING, answer_forecast
from tests.tui.fake_session import record
from tests.tui.screen_text import SIZES, stage
from tui.state.explain import held_text, knob_text, lecture_saw
from tui.state.knob_list import Row

NEXT = Forecasted(config=RunConfig(), forecast=forecast(timeline=UPDATE))


@pytest.mark.parametrize("size", SIZES)
async def test_a_knob_shows_one_update_of_the_next_run(size: tuple[int, int]) -> None:
    async with stage(size, [], NEXT) as s:
        await s.press("e")
        assert "peak 800 MiB allocated in backward" in s.text
        for phase in ("└ forward", "└ backward", "└optimizer"):
            assert phase in s.text.replace("└ optimizer", "└optimizer")
        assert "One update as forecast: activations have 400 of the 800 MiB allocated at the peak (50 %)" in s.dialog
        assert "traintop run" in s.text


async def test_the_picture_comes_when_the_forecast_does() -> None:
    async with stage() as s:
        await s.press("e")
        assert "forecasting one update" in s.text
        await s.feed(Forecasted(config=RunConfig(batch_size=2), forecast=forecast(timeline=UPDATE)))
        assert "forecasting one update" in s.text
        await s.feed(NEXT)
        assert "peak 800 MiB allocated in backward" in s.text


async def test_why_there_is_none() -> None:
    async with stage() as s:
        await s.press("e")
        await s.feed(Forecasted(config=RunConfig(), forecast=None, message="no forecast for the CPU"))
        assert "no forecast for the CPU" in s.text


async def test_a_row_is_asked_about_and_the_next_run_again_when_it_is_read() -> None:
    other = RunConfig(model="bert-base-uncased", batch_size=4)
    async with stage((120, 40), [record(1, config=other)], NEXT) as s:
        await s.press("tab", "e")
        s.app.tick()
        assert s.session.asked[-1] == other
        await s.feed(Forecasted(config=other, forecast=forecast(4613, timeline=UPDATE[:4])))
        assert "peak 800 MiB allocated in backward" in s.text
        await s.press("escape")
        s.app.tick()
        assert s.session.asked[-1] == RunConfig()


async def test_an_out_of_memory_names_phase_category_request_and_the_way_on() -> None:
    message = "Out of memory in backward of micro-step 1 (update 1): Tried to allocate 384.00 MiB. GPU 0 has a total "
    message += "capacity of 7.43 GiB of which 23.00 MiB is free."
    dead = record(1, Outcome.OUT_OF_MEMORY, failed_phase=Phase.BACKWARD, message=message)
    async with stage((120, 40), [dead]) as s:
        await s.press("tab", "e")
        await s.feed(Forecasted(config=dead.config, forecast=forecast(7900, timeline=UPDATE[:3])))
        text = s.dialog
        assert "It ran out of memory in backward" in text
        assert "Tried to allocate 384.00 MiB" in text
        assert "23.00 MiB is free" in text
        assert "It asked for 384 MiB where 23 were free: 361 MiB too much." in text
        assert "The update that it dies in, as forecast, up to the request that fails" in text
        assert "activations have 400 of the 800 MiB allocated then (50 %)" in text
        assert "backward asks for 20 MiB, 14 are free: 6 MiB too much ▼" in text
        assert "7611 ╌╌ the card's limit ╌╌" in text
        assert "· context 529" in text
        assert "h: what fits instead" in text
        await s.press("h")
        assert [run.run_id for run in s.session.proposed] == [1]


async def test_without_colour_the_bands_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with stage((120, 40), [], NEXT) as s:
        await s.press("e")
        assert "▓▓▓" in s.text
        assert "░░░" in s.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gradient_checkpointing", "off → on (bert-base, Tesla P4): −3,450 MiB, +40 % time."),
        ("batch_size", "1 → 8 (bert-base, Tesla P4): +3,788 MiB, −39 % time."),
        (
            "gradient_accumulation_steps",
            "1 → 32 (bert-base, Tesla P4): +440 MiB, −5 % time, accuracy 0.621 → 0.347.",
        ),
    ],
)
def test_what_the_lecture_saw_stands_beside_the_users_own_numbers(name: str, said: str) -> None:
    heading, lines = knob_text(Row("", name), [], None, RunConfig())
    assert heading
    assert f"The lecture saw, {said}" in lines


def test_a_knob_that_the_lecture_did_not_turn_says_nothing_of_it() -> None:
    assert lecture_saw("seed") == ""


def test_a_knob_of_both_jobs_is_explained_for_the_one_of_the_next_run() -> None:
    row = Row("", "batch_size")
    training, answers = ("\n".join(knob_text(row, [], None, config)[1]) for config in (RunConfig(), ANSWERING))
    assert "forward to backward" in training
    assert "The lecture saw" in training
    assert "forward to backward" not in answers
    assert "KV cache" in answers
    assert "The lecture saw" not in answers  # it turned the batch of a training


@pytest.mark.parametrize(("made", "step"), [(forecast(), "update"), (answer_forecast().forecast, "answer")])
def test_a_forecast_of_answers_speaks_of_no_update(made: Forecast, step: str) -> None:
    fits, dies = replace(made, timeline=UPDATE), replace(made, timeline=UPDATE[:3], verdict="out_of_memory")
    assert held_text(fits).startswith(f"One {step} as forecast")
    assert held_text(dies).startswith(f"The {step} that it dies in")
