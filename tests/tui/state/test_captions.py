"""Captions while presenting: what changed, in one sentence, from knob, forecast and run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import Event, Forecasted
from engine.contract.records import Outcome, Phase
from tests.tui.app.test_forecast import forecast
from tests.tui.fake_session import CPU, GPU, MIB, finished, record, started, training, update
from tests.tui.screen_text import SIZES, stage
from tui.state.captions import Captions
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.state import State

EIGHT, SIXTEEN, ON = RunConfig(), RunConfig(batch_size=16), RunConfig(batch_size=16, gradient_checkpointing="on")


def answer(config: RunConfig, used: int) -> Forecasted:
    return Forecasted(config=config, forecast=forecast(used))


class Told:
    """A state and its captions."""

    def __init__(self, *events: Event) -> None:
        self.state = State(editor=KnobEditor(EIGHT))
        self.feed(*events)
        self.captions = Captions(self.state)

    def feed(self, *events: Event) -> None:
        for event in events:
            fold(self.state, event)

    def after(self, *events: Event, config: RunConfig | None = None) -> str | None:
        if config is not None:
            self.state.editor.replace(config)
        self.feed(*events)
        return self.captions.look(self.state)


def test_a_turned_knob_is_told_at_once_and_again_with_its_forecast() -> None:
    told = Told(answer(EIGHT, 7099))
    assert told.after() is None
    assert told.after(config=SIXTEEN) == "batch size 8 → 16"
    assert told.after() is None
    want = "batch size 8 → 16: forecast 7,099 → 12,900 MiB, out of memory in backward"
    assert told.after(answer(SIXTEEN, 12_900)) == want
    assert told.after() is None


def test_a_verdict_that_flips_back_is_said() -> None:
    told = Told(answer(EIGHT, 7099))
    told.after(answer(SIXTEEN, 12_900), config=SIXTEEN)
    assert told.after(config=ON) == "checkpointing off → on"
    assert told.after(answer(ON, 3731)) == "checkpointing off → on: forecast 12,900 → 3,731 MiB, now it fits"


def test_several_turns_before_an_answer_are_one_change() -> None:
    told = Told(answer(EIGHT, 3000))
    told.after(config=SIXTEEN)
    assert told.after(config=ON) == "batch size 8 → 16, checkpointing off → on"
    assert told.after(answer(SIXTEEN, 5000)) is None
    want = "batch size 8 → 16, checkpointing off → on: forecast 3,000 → 3,731 MiB, fits"
    assert told.after(answer(ON, 3731)) == want


def test_without_an_earlier_forecast_the_knob_itself_is_the_change() -> None:
    told = Told()
    assert told.after(config=SIXTEEN) == "batch size 8 → 16"
    assert told.after(answer(SIXTEEN, 7400)) == "batch size 8 → 16: forecast 7,400 MiB, fits, near the limit"


def test_the_first_forecast_and_one_that_says_the_same_are_no_news() -> None:
    told = Told()
    assert told.after(answer(EIGHT, 7099)) is None
    assert told.after(answer(EIGHT, 7099)) is None
    assert told.after(answer(EIGHT, 8600)) == "forecast 7,099 → 8,600 MiB, out of memory in backward"


def test_where_there_is_no_forecast_the_turn_alone_is_told() -> None:
    told = Told()
    none = Forecasted(config=SIXTEEN, forecast=None, message="no forecast for the CPU")
    assert told.after(none, config=SIXTEEN) == "batch size 8 → 16"


def test_a_runs_start_and_end() -> None:
    told = Told()
    assert told.after(started(8)) == "run 8 starts: bert-tiny, batch 8, 512 tokens, fp32"
    assert told.after(training(8), update(1, 8)) is None
    assert told.after(finished(8)) == "run 8 completed in 01:06: 7.70 samples/s, peak 7,069 MiB"


def test_on_a_virtual_gpu_an_end_says_whose_speed_is_whose() -> None:
    virtual = replace(GPU, kind="virtual", index=None)
    told = Told()
    told.state.add_history([record(7, device=virtual, forecast_samples_per_s=10.0)])
    told.state.baselines["train"] = 7
    told.after(started(8, device=virtual), training(8))
    end = finished(8, device=virtual, steady_samples_per_s=3.85, forecast_samples_per_s=8.0, peak_used=3619 * MIB)
    assert told.after(end) == (
        "run 8 completed in 01:06: 3.85 CPU samples/s (card ~8.00), peak 3,619 MiB; −3,450 MiB, −50 % CPU samples/s, "
        "card −20 % against run 7"
    )


def test_an_end_is_compared_with_the_baseline() -> None:
    told = Told()
    told.state.add_history([record(7)])
    told.state.baselines["train"] = 7
    told.after(started(8), training(8))
    end = finished(8, steady_samples_per_s=5.5, peak_used=3619 * MIB)
    assert told.after(end) == (
        "run 8 completed in 01:06: 5.50 samples/s, peak 3,619 MiB; −3,450 MiB, −29 % samples/s against run 7"
    )


def test_an_end_on_a_busy_host_is_said_to_be_that() -> None:
    told = Told()
    told.state.add_history([record(7)])
    told.state.baselines["train"] = 7
    told.after(started(8), training(8))
    end = finished(8, steady_samples_per_s=5.5, device=CPU, host_cores=2.0, host_free_cores=1.0)
    assert str(told.after(end)).endswith("−29 % samples/s against run 7 (run 8 was on a busy host)")


@pytest.mark.parametrize(
    ("outcome", "values", "said"),
    [
        (
            Outcome.OUT_OF_MEMORY,
            {"failed_phase": Phase.BACKWARD},
            "run 8 is out of memory in backward of 7,611 MiB; the next run works (h: what fits)",
        ),
        (Outcome.STOPPED, {}, "run 8 stopped"),
        (Outcome.FAILED, {"message": "no disk"}, "run 8 failed: no disk"),
    ],
)
def test_other_ends(outcome: Outcome, values: dict[str, object], said: str) -> None:
    told = Told(started(8), training(8))
    assert told.after(finished(8, outcome, **values)) == said


def test_a_run_is_worth_more_than_a_knob() -> None:
    told = Told()
    assert told.after(started(8), config=SIXTEEN) == "run 8 starts: bert-tiny, batch 8, 512 tokens, fp32"


@pytest.mark.parametrize("size", SIZES)
async def test_captions_are_on_the_screen_while_somebody_presents(size: tuple[int, int]) -> None:
    async with stage(size, [], answer(EIGHT, 7099)) as s:
        await s.press("b")
        s.app.tick()
        assert s.app.state.view.caption == ""
        await s.press("u", "V")
        assert "the next run: bert-tiny, batch 8" in s.text
        await s.press("b")
        await s.feed(answer(SIXTEEN, 12_900))
        assert "batch size 8 → 16: forecast 7,099 → 12,900 MiB, out of memory in backward" in s.text
        roles = {role for line in s.app.screen.query_one("#caption")._painted for _, role in line}  # type: ignore[attr-defined]
        assert roles == {"caption-bad"}
        await s.press("V")
        assert "12,900 MiB, out of memory" not in s.text
