"""A run of the user's own script as its events tell it: its x axis, its losses, what is not seen."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import Event, RunFinished, Sampled, ScriptKnown
from engine.contract.knob import SCRIPT
from engine.contract.records import HostSample, Memory, Outcome
from tests.tui import fake_scripts
from tests.tui.fake_session import CPU, GPU, MIB, ready
from tui.state.alerts import Alerts, window_title
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.run_view import RunView
from tui.state.state import State
from tui.state.view import Ghost


def shown(*events: Event, config: RunConfig = fake_scripts.LOOP) -> State:
    state = State(editor=KnobEditor(config))
    for event in (ready(), fake_scripts.begun(1, config), *events):
        fold(state, event)
    return state


def run_of(state: State) -> RunView:
    assert state.run is not None
    return state.run


def updates(n: int, config: RunConfig = fake_scripts.LOOP, **values: Any) -> list[Event]:
    return [fake_scripts.update(number, 1, config, **values) for number in range(1, n + 1)]


def test_an_x_axis_without_a_known_end_grows_in_steps_and_ends_with_the_run() -> None:
    state = shown()
    run = run_of(state)
    assert run.x_end is None
    ends = []
    for event in (fake_scripts.known(), *updates(70)):
        fold(state, event)
        ends.append(run.x_end)
    assert sorted(set(ends)) == [20, 30, 45, 68, 102]
    assert ends == sorted(ends)
    assert run.planned_s is None
    record = fake_scripts.script_record(1, updates=70)
    fold(state, RunFinished(record=record))
    assert run.x_end == 70


def test_a_trainer_tells_the_end_of_the_x_axis_and_more_updates_than_it_said_still_have_room() -> None:
    known = fake_scripts.known(1, fake_scripts.TRAINER, planned_updates=10)
    state = shown(known, *updates(8, fake_scripts.TRAINER), config=fake_scripts.TRAINER)
    assert run_of(state).x_end == 10
    assert run_of(state).planned_s is not None
    for event in updates(14, fake_scripts.TRAINER)[8:]:
        fold(state, event)
    assert run_of(state).x_end == 14
    assert run_of(state).planned_s is None


def test_what_is_known_is_told_once_and_again_where_it_says_more() -> None:
    first = fake_scripts.known(planned_updates=None)
    state = shown(first, first, fake_scripts.known(planned_updates=300, told_by="lightning"))
    lines = [line.text for line in state.log if line.source == "run"]
    assert lines[1:] == [
        "training GPT 124M with AdamW: it does not say how many updates it will do",
        "300 updates planned by lightning",
    ]


def test_a_loss_that_is_not_seen_is_a_gap_in_a_plain_loop() -> None:
    seen = [fake_scripts.update(number, loss=None if number == 5 else 2.0) for number in range(1, 9)]
    losses = run_of(shown(fake_scripts.known(), *seen)).losses
    assert losses.last_until(5) == (5, None)
    assert losses.last_until(4) == (4, 2.0)


def test_the_losses_that_a_trainer_logs_are_a_line_where_updates_tell_none() -> None:
    config = fake_scripts.TRAINER
    unseen = updates(30, config, loss=None)
    logged = [fake_scripts.logged(number, loss=3.0 / number, eval_loss=4.0 / number) for number in (10, 20, 30)]
    told: list[Event] = [fake_scripts.known(1, config)]
    for number in (10, 20, 30):
        told += [*unseen[number - 10 : number], logged[number // 10 - 1]]
    run = run_of(shown(*told, config=config))
    assert [run.losses.last_until(x) for x in (9, 10, 19, 20, 30)] == [
        None,
        (10, 0.3),
        (10, 0.3),
        (20, 0.15),
        (30, 0.1),
    ]
    assert run.eval_losses.last_until(30) == (30, pytest.approx(4 / 30))
    assert run.script is not None
    assert run.script.last_loss == pytest.approx(0.1)
    assert run.script.logged == {"loss": 0.1, "eval_loss": pytest.approx(4 / 30)}


def test_losses_of_updates_are_not_mixed_with_the_means_that_a_trainer_logs() -> None:
    config = fake_scripts.TRAINER
    run = run_of(
        shown(fake_scripts.known(1, config), *updates(10, config, loss=1.5), fake_scripts.logged(10, loss=9.0))
    )
    assert run.losses.extremes() == (1.5, 1.5)


def test_updates_are_counted_where_samples_are_not_seen() -> None:
    run = run_of(shown(fake_scripts.known(), *updates(12, n_samples=None, n_tokens=None, update_s=0.5)))
    assert run.script is not None
    assert len(run.speeds) == len(run.warmup_speeds) == 0
    assert run.script.updates_per_s is not None
    assert run.script.updates_per_s.samples_per_s == 2.0
    assert run.as_record().samples_per_s is None


def test_the_window_is_called_by_what_is_known() -> None:
    assert window_title(shown(fake_scripts.known(), *updates(7))) == "traintop: run 1 batch 8 update 7"
    config = fake_scripts.TRAINER
    planned = shown(fake_scripts.known(1, config), *updates(100, config), config=config)
    assert window_title(planned) == "traintop: run 1 batch 32 25 %"
    bare = shown(fake_scripts.known(batch_size=None), *updates(3), config=fake_scripts.BARE)
    assert window_title(bare) == "traintop: run 1 update 3"


def test_hostile_text_is_harmless_wherever_it_comes_from() -> None:
    state = shown(fake_scripts.known(model="\x1b[2JGPT", optimizer="\u202eAdam"))
    for text in fake_scripts.HOSTILE:
        fold(state, fake_scripts.printed(text, "stderr"))
    fold(state, fake_scripts.logged(1, **{"\x1b]0;x\x07loss": 1.0}))
    hostile = {"model": "\x1b[2JGPT", "log_path": "/tmp/\x1b[2J", "figures": {"\x1b[2J": 1.0}}
    record = fake_scripts.script_record(1, figures=hostile)
    fold(state, RunFinished(record=record))
    script = state.finished[0].script
    assert script is not None
    texts = [line.text for line in state.log] + [str(script.model), str(script.log_path), *script.figures]
    assert all("\x1b" not in text and "\u202e" not in text and "\x07" not in text for text in texts)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (fake_scripts.BARE, "put {learning_rate} into the command to turn it; s stops the run."),
        (fake_scripts.TRAINER, "A smaller learning rate or max grad norm 1 may help; s stops the run."),
        (
            RunConfig(job="script", command="python t.py --lr={learning_rate} {precision}", precision="fp16"),
            "A smaller learning rate or fp32 in place of fp16 may help; s stops the run.",
        ),
    ],
)
def test_a_loss_that_is_no_number_says_what_can_be_turned(config: RunConfig, told: str) -> None:
    alerts = Alerts()
    alerts.see(fake_scripts.begun(1, config), 0.0)
    alert = alerts.see(fake_scripts.update(4, 1, config, loss=math.nan), 1.0)
    assert alert is not None
    assert alert.text.endswith(told)
    assert "non-finite loss" not in alert.text


def test_a_script_that_stands_still_may_be_evaluating() -> None:
    alerts = Alerts()
    alerts.see(fake_scripts.begun(1), 0.0)
    for number in range(1, 8):
        alerts.see(fake_scripts.update(number), 0.3 * number)
    alert = next(found for at in range(3, 100) if (found := alerts.look(float(at))) is not None)
    assert "no update is done" in alert.text
    assert "It may be evaluating or saving." in alert.text


def test_a_trainer_that_logs_goes_on() -> None:
    alerts = Alerts()
    alerts.see(fake_scripts.begun(1), 0.0)
    for number in range(1, 8):
        alerts.see(fake_scripts.update(number), 0.3 * number)
    for at in range(3, 60):
        if at % 20 == 0:
            alerts.see(fake_scripts.logged(7, eval_loss=1.0), float(at))
        assert alerts.look(float(at)) is None


def test_the_baselines_curve_stands_at_equal_updates_where_nobody_knows_the_end() -> None:
    ghost = Ghost(5, fake_scripts.LOOP)
    ghost.add([fake_scripts.known(5), *(fake_scripts.update(number, 5, loss=1.0) for number in range(1, 41))])
    state = shown(fake_scripts.known(), *updates(3))
    state.view.ghosts[SCRIPT] = ghost
    curves = state.view.ghost_of(run_of(state))
    assert curves is not None
    assert curves[0].last_until(1000) == (40, 1.0)
    other = shown(config=RunConfig())
    other.view.ghosts[SCRIPT] = ghost
    assert other.run is not None
    assert other.view.ghost_of(other.run) is None


def test_the_ghost_of_a_trainers_run_is_at_equal_shares() -> None:
    ghost = Ghost(5, fake_scripts.TRAINER)
    ghost.add([fake_scripts.known(5, fake_scripts.TRAINER, planned_updates=100)])
    ghost.add([fake_scripts.update(50, 5, fake_scripts.TRAINER, loss=None), fake_scripts.logged(50, 5, loss=2.0)])
    state = shown(fake_scripts.known(1, fake_scripts.TRAINER, planned_updates=400), config=fake_scripts.TRAINER)
    state.view.ghosts[SCRIPT] = ghost
    curves = state.view.ghost_of(run_of(state))
    assert curves is not None
    assert curves[0].last_until(400) == (200, 2.0)


def test_ranks_are_seen_though_no_knob_says_so() -> None:
    told = [*fake_scripts.ranks_begun()[1:], *(fake_scripts.update_of_ranks(number) for number in range(1, 12))]
    run = run_of(shown(*told, config=fake_scripts.RANKS))
    assert len(run.ranks) == 2
    assert run.ranks.straggler is not None
    assert run.ranks.straggler.rank == 1


def test_out_of_memory_has_its_phase_and_figures() -> None:
    state = shown(fake_scripts.known(), *updates(31))
    fold(state, RunFinished(record=fake_scripts.out_of_memory(1, peak_used=7588 * MIB)))
    run = run_of(state)
    assert run.outcome is Outcome.OUT_OF_MEMORY
    assert run.memory.peak_used == 7588 * MIB
    assert state.log[-1].level == "error"
    assert GPU.memory_total == run.as_record().memory_total


def test_only_the_newest_knowledge_counts() -> None:
    run = run_of(shown(fake_scripts.known(), fake_scripts.known(n_parameters=7, model="Tiny")))
    assert run.n_parameters == 7
    assert run.script is not None
    assert isinstance(run.script.known, ScriptKnown)
    assert run.script.known.model == "Tiny"


def test_while_no_script_runs_on_the_cpu_the_apps_own_memory_is_not_shown_as_its() -> None:
    state = State(editor=KnobEditor(fake_scripts.LOOP))
    fold(state, ready(CPU))
    memory = Memory(used=400 * MIB, peak_used=410 * MIB, total=16_000 * MIB)
    fold(state, Sampled(run_id=1, t=None, gpu=None, host=HostSample(), memory=memory))
    assert state.memory.used == 400 * MIB
    fold(state, Sampled(run_id=None, t=None, gpu=None, host=HostSample(), memory=memory))
    assert (state.memory.used, state.memory.peak_used, state.memory.total) == (None, None, 16_000 * MIB)
    state.editor.config = RunConfig()
    fold(state, Sampled(run_id=None, t=None, gpu=None, host=HostSample(), memory=memory))
    assert state.memory.used == 400 * MIB  # a training takes place in this process
