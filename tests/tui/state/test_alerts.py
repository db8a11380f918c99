"""Alerts: what is told, when, and only once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import EvalDone, Event, MicroStepDone, PlanFinished, PlanStarted, RunRefused
from engine.contract.records import HostSample, Outcome
from tests.tui.fake_session import CPU, GPU, finished, memory, sampled, started, training, update
from tui.state.alerts import Alert, Alerts, window_title
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.state import State

RING = Alert(level="info")


def step(number: int, t: float) -> MicroStepDone:
    return MicroStepDone(run_id=1, micro_step=number, micro_steps=512, t=t)


def evaluated(t: float) -> EvalDone:
    return EvalDone(run_id=1, epoch=1.0, update=64, accuracy=0.5, loss=0.5, n_samples=100, eval_s=1.0, t=t)


def watching(n_steps: int = 5, step_s: float = 1.0) -> Alerts:
    """Alerts on a run whose micro-steps took `step_s` each; the clock stands at the last one's time."""
    alerts = Alerts()
    for event in (started(), training()):
        assert alerts.see(event, 0.0) is None
    for number in range(1, n_steps + 1):
        assert look_every_second(alerts, (number - 1) * step_s, number * step_s) == []
        assert alerts.see(step(number, number * step_s), number * step_s) is None
    return alerts


def look_every_second(alerts: Alerts, start: float, end: float) -> list[tuple[float, Alert]]:
    told = [(float(now), alerts.look(float(now))) for now in range(int(start), int(end) + 1)]
    return [(now, alert) for now, alert in told if alert is not None]


# a run that stands still -----------------------------------------------------------------------------------------


def test_a_run_that_stands_still_is_told_once_and_that_it_goes_on() -> None:
    alerts = watching()
    told = look_every_second(alerts, 5, 120)
    assert [now for now, _ in told] == [35]
    assert told[0][1].text.startswith(
        "Run 1 stands still: no micro-step is done for 30 s (a micro-step usually takes 1"
    )
    assert told[0][1].rings
    assert alerts.stalled_s == 115

    on = alerts.see(step(6, 121.0), 121.0)
    assert on == Alert("Run 1 goes on after 115 s.", "info", rings=False)
    assert alerts.stalled_s is None
    assert look_every_second(alerts, 122, 150) == []
    assert [now for now, _ in look_every_second(alerts, 151, 160)] == [151]  # and again: it is another time


def test_slow_steps_are_not_a_stall() -> None:
    alerts = watching(step_s=20.0)
    assert look_every_second(alerts, 100, 299) == []
    assert look_every_second(alerts, 300, 300)


def test_a_stall_does_not_become_usual() -> None:
    alerts = watching()
    for number, t in ((6, 200.0), (7, 201.0)):
        look_every_second(alerts, t - 195 if number == 6 else t, t)
        alerts.see(step(number, t), t)
    assert [now for now, _ in look_every_second(alerts, 202, 240)] == [231]


def test_nothing_is_told_before_it_is_known_what_is_usual() -> None:
    assert look_every_second(watching(n_steps=2), 2, 900) == []


def test_an_evaluation_may_take_as_long_as_training_on_its_samples() -> None:
    alerts = watching()
    last = replace(update(64, t=6.0), epoch=1.0)
    alerts.see(last, 6.0)
    assert look_every_second(alerts, 6, 130) == []  # 100 samples, 8 a step, 10 times as long
    assert "no evaluation is done" in look_every_second(alerts, 131, 140)[0][1].text
    alerts.see(evaluated(141.0), 141.0)
    alerts.see(step(513, 142.0), 142.0)
    assert look_every_second(alerts, 142, 171) == []
    assert "no micro-step is done" in look_every_second(alerts, 172, 172)[0][1].text


def test_a_suspended_process_did_not_stand_still() -> None:
    alerts = watching()
    assert alerts.look(3600.0) is None  # the clock jumped: Ctrl-Z, or the laptop was shut
    assert look_every_second(alerts, 3601, 3629) == []
    assert look_every_second(alerts, 3630, 3635)


@pytest.mark.parametrize(
    "end", [finished(), RunRefused(run_id=1, config=started().config, knob="", message="no such model")]
)
def test_what_is_over_does_not_stand_still(end: Event) -> None:
    alerts = watching()
    alerts.see(end, 6.0)
    assert look_every_second(alerts, 6, 600) == []
    assert alerts.stalled_s is None


# the loss, the allocator -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_told_once(value: float) -> None:
    alerts = watching()
    assert alerts.see(update(6), 6.0) is None
    alert = alerts.see(update(7, loss=value), 7.0)
    assert alert is not None
    assert alert.text.startswith(f"Run 1: the loss is {value} from update 7 on.")
    assert "smaller learning rate" in alert.text
    assert alert.rings
    assert alerts.see(update(8, loss=value), 8.0) is None
    alerts.see(started(), 9.0)
    alerts.see(training(), 9.0)
    assert alerts.see(update(1, loss=value), 9.0) is not None  # another run


@pytest.mark.parametrize(
    ("precision", "card", "advice"),
    [
        ("fp16", "Tesla P4", "max grad norm 1, or fp32 in place of fp16 may help"),
        (
            "fp16",
            "NVIDIA H100 80GB HBM3",
            "A smaller learning rate, max grad norm 1, or bf16 in place of fp16 may help",
        ),
        ("fp32", "NVIDIA H100 80GB HBM3", "A smaller learning rate or max grad norm 1 may help"),
    ],
)
def test_bf16_is_advised_only_where_the_card_has_it(precision: str, card: str, advice: str) -> None:
    alerts = Alerts()
    alerts.see(started(config=RunConfig(precision=precision), device=replace(GPU, name=card)), 0.0)
    alerts.see(training(), 0.0)
    alert = alerts.see(update(1, loss=math.nan), 1.0)
    assert alert is not None
    assert advice in alert.text


def retrying(retries: list[int | None], first: int = 4) -> list[int]:
    """The updates of which an alert tells, where the allocator's counter reads `retries` after each."""
    alerts = watching()
    told = []
    for number, count in enumerate(retries, first):
        alert = alerts.see(update(number, memory=replace(memory(), alloc_retries=count)), float(number))
        if alert is not None:
            assert "take a smaller batch" in alert.text
            told.append(number)
    return told


def test_an_allocator_that_asks_again_in_every_update_is_told_once() -> None:
    assert retrying(list(range(20))) == [9]


@pytest.mark.parametrize(
    "retries",
    [
        [5] * 20,  # from the warm-up, and an earlier run
        [0, 1, *[1] * 9, 2, *[2] * 9, 3, *[3] * 9, 4, *[4] * 9, 5, *[5] * 9, 6],  # now and then
        [None] * 20,
    ],
)
def test_an_allocator_that_asks_again_now_and_then_is_left_alone(retries: list[int | None]) -> None:
    assert retrying(retries) == []


def test_warm_up_may_ask_again() -> None:
    alerts = watching()
    for number in range(1, 9):
        event = update(number, warmup=True, memory=replace(memory(), alloc_retries=number))
        assert alerts.see(event, 5.0) is None


# ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.OUT_OF_MEMORY, Outcome.FAILED])
def test_the_end_of_a_run_rings(outcome: Outcome) -> None:
    assert watching().see(finished(outcome=outcome), 6.0) == RING


def test_who_stops_a_run_knows_that_it_ends() -> None:
    assert watching().see(finished(outcome=Outcome.STOPPED), 6.0) is None


def test_a_plan_rings_at_its_end_alone() -> None:
    alerts = Alerts()
    alerts.see(PlanStarted(plan_id=1, name="sweep", title="sweep", total=2), 0.0)
    for run_id, outcome in ((1, Outcome.COMPLETED), (2, Outcome.OUT_OF_MEMORY)):
        alerts.see(started(run_id), 0.0)
        assert alerts.see(finished(run_id, outcome), 1.0) is None
    end = PlanFinished(plan_id=1, name="sweep", completed=True, done=2, total=2)
    assert alerts.see(end, 2.0) == RING
    assert alerts.see(replace(end, completed=False), 2.0) is None  # stopped
    assert alerts.see(replace(end, completed=False, failed=True), 2.0) == RING


# the window's title ----------------------------------------------------------------------------------------------


def test_the_title_says_how_far_the_run_is_and_how_it_ended() -> None:
    state = State(editor=KnobEditor(started().config))
    assert window_title(state) == "traintop"
    fold(state, started())
    assert window_title(state) == "traintop: run 1 batch 8 0 %"
    fold(state, training(planned=64))
    fold(state, update(28))
    assert window_title(state) == "traintop: run 1 batch 8 43 %"
    state.stalled_s = 31.0
    assert window_title(state) == "traintop: run 1 batch 8 stands still 43 %"
    state.stalled_s = None
    fold(state, finished(outcome=Outcome.OUT_OF_MEMORY))
    assert window_title(state) == "traintop: run 1 out of memory"


def test_readings_that_stay_away_are_noticed_and_a_suspended_laptop_is_not_blamed() -> None:
    alerts = Alerts()
    assert alerts.see(sampled(None, None), 0.0) is None
    for now in (0.5, 1.0, 2.0):
        alerts.look(now)
        assert alerts.unread_s is None
    alerts.look(3.0)
    assert alerts.unread_s == 3.0
    alerts.see(sampled(None, None), 3.5)
    assert alerts.unread_s is None
    alerts.look(3.6)
    alerts.look(600.0)
    assert alerts.unread_s is None


# a busy host -----------------------------------------------------------------------------------------------------


def test_a_busy_host_is_told_once_and_never_rings() -> None:
    alerts = Alerts()
    for event in (replace(started(), device=CPU), training()):
        alerts.see(event, 0.0)
    reading = replace(sampled(t=1.0), host=HostSample(cores=2.0, free_cores=0.1))
    before = replace(reading, t=None)  # training has not begun
    told = [alerts.see(event, 0.0) for event in (*[before] * 10, *[reading] * 40)]
    said = "Run 1: host busy: other programs take 1.9 of 2 cores; it is slower than on a quiet one."
    assert [alert for alert in told if alert] == [Alert(said, rings=False)]
    assert told[19] is not None  # after five seconds of it


def test_a_short_burst_of_others_is_not_told() -> None:
    alerts = Alerts()
    for event in (replace(started(), device=CPU), training()):
        alerts.see(event, 0.0)
    for free in (2.0, 2.0, 2.0, 0.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        event = replace(sampled(t=1.0), host=HostSample(cores=2.0, free_cores=free))
        assert alerts.see(event, 0.0) is None
