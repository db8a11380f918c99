"""Plans on the screen: choosing, starting, pausing, skipping, stopping, and going on with one that was cut off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import PlanFinished, PlanProgress, PlanStarted, RunRefused
from engine.contract.records import Outcome
from engine.history.plans import StoredPlan
from engine.plans.course import NAMED, named_plan, sweep
from tests.tui.fake_session import CPU, GPU, MIB, finished, ready, started, training, update
from tests.tui.screen_text import SIZES, FakeHistory, Stage, stage
from tui.screens.main import MainScreen
from tui.screens.plan_table import PlanTableScreen

STARTED = PlanStarted(plan_id=1, name="batch-size", title="Batch size", total=5)
STEP = PlanProgress(plan_id=1, position=2, total=5, label="batch size 2")
DONE = PlanFinished(plan_id=1, name="batch-size", completed=True, done=5, total=5)


def stored(ended: str | None = None) -> StoredPlan:
    plan = sweep(RunConfig(), {"batch_size": [1, 2, 4]})
    return StoredPlan(plan_id=9, plan=plan, started_at=0.0, ended=ended, under_way=False, run_ids=(4,))


async def in_a_plan(s: Stage) -> None:
    """The second of five runs is under way."""
    s.session.busy = s.session.has_plan = True
    await s.feed(STARTED, STEP, started(8), training(8), update(1, 8))


TRAINING = [name for name, plan in NAMED.items() if plan.job == "train"]
ANSWERING = [name for name, plan in NAMED.items() if plan.job == "answer"]


@pytest.mark.parametrize("size", SIZES)
async def test_the_plans_with_answers_are_a_key_away(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await s.press("p", "j")
        for name in ANSWERING:
            assert NAMED[name].title in s.text
        assert NAMED["batch-size"].title not in s.dialog
        assert "until out of memory" in s.line("Prompt length  ")
        for _ in ANSWERING:
            assert "Enter starts it" in s.text
            await s.press("down")
        await s.press("j")
        assert "Batch size" in s.dialog
        await s.press("j", "enter")
        [(plan, _)] = s.session.plans
        assert plan.name == ANSWERING[0]
        assert all(run.config.answers for run in plan.runs if not run.skip)


@pytest.mark.parametrize("size", SIZES)
async def test_every_named_plan_is_listed_with_its_runs(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await s.press("p")
        for plan in TRAINING:
            assert NAMED[plan].title in s.text
        assert "5 runs" in s.line("Batch size  ")
        assert "A fuller GPU does more samples/s" in s.text
        assert "[lecture]" in s.text
        assert "batch size 1 · 2 · 4 · 8 · 9" in s.text
        for _ in TRAINING:  # whichever is under the cursor, the keys are seen
            assert "Enter starts it" in s.text
            await s.press("down")
        await s.press("escape")
        assert isinstance(s.app.screen, MainScreen)
        assert s.session.plans == []


async def test_enter_starts_the_plan_under_the_cursor() -> None:
    async with stage(config=RunConfig(seed=7)) as s:
        await s.press("p", "down", "enter")
        [(plan, plan_id)] = s.session.plans
        assert plan.name == "accumulation"
        assert plan_id is None
        assert all(run.config.seed == 7 for run in plan.runs)
        await s.press("p")
        assert "Enter starts it when the plan Gradient accumulation has ended" in s.dialog


async def test_a_plan_chosen_during_a_run_waits_for_its_end() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        s.session.busy = True
        await s.press("p")
        assert "Enter starts it when run 1 has ended" in s.dialog
        await s.press("enter")
        assert [plan.name for plan, _ in s.session.plans] == ["batch-size"]
        assert "Batch size begins when run 1 has ended" in s.lines[-1]
        assert s.lines[1].startswith("┌ After the plan ")
        assert s.lines[2].startswith("│ next: Batch size, batch   │")
        assert s.lines[3].startswith("│ size 1                    │")
        assert any(line.startswith("│▸b batch size            8 │") for line in s.lines[4:7])
        assert "then Batch size" in s.line("Results")
        await s.press("r")
        assert "a run is under way" in s.lines[-1]
        await s.feed(finished(1), STARTED, replace(STEP, position=1, label="batch size 1"), started(2))
        assert s.app.state.queued == 0
        assert s.app.state.queued_plans == []
        assert "then Batch size" not in s.line("Results")


@pytest.mark.parametrize(
    ("key", "skipped", "forgotten", "stopped"), [("r", 1, 0, 0), ("p", 0, 1, 0), ("b", 0, 0, 1), ("w", 0, 0, 0)]
)
async def test_stop_asks_whether_the_run_or_the_plan_that_waits_is_meant(
    key: str, skipped: int, forgotten: int, stopped: int
) -> None:
    async with stage((80, 24), [], started(), training(), update(1)) as s:
        s.session.busy = True
        await s.press("p", "enter", "s")
        assert "Run 1 is under way, and the plan Batch size waits for its end." in s.dialog
        await s.press(key)
        assert (s.session.skipped, s.session.forgotten, s.session.stopped) == (skipped, forgotten, stopped)
        assert len(s.app.state.queued_plans) == (key in "rw")
        assert isinstance(s.app.screen, MainScreen)


async def test_a_plan_behind_a_plan_keeps_waiting_while_the_first_one_runs() -> None:
    async with stage() as s:
        await in_a_plan(s)
        await s.press("p", "down", "enter")
        assert "Gradient accumulation begins when the plan Batch size has ended" in s.lines[-1]
        await s.feed(
            finished(8), replace(STEP, position=3), RunRefused(run_id=None, config=RunConfig(), knob="", message="No.")
        )
        await s.feed(replace(STEP, position=4), started(9))
        assert s.app.state.queued == 1
        assert [plan.title for plan in s.app.state.queued_plans] == ["Gradient accumulation"]
        await s.press("s")
        assert "p the plan, and what waits behind it" in s.dialog


async def test_a_plan_that_never_had_its_row_is_no_longer_waited_for() -> None:
    async with stage() as s:
        await s.press("p", "enter")
        assert s.app.state.queued == 1
        problem = replace(DONE, completed=False, done=0, failed=True, no_history=True, message="The disk is full.")
        s.session.busy = False
        await s.feed(problem)
        assert (s.app.state.queued, s.app.state.queued_plans) == (0, [])
        await s.press("r")
        assert len(s.session.started) == 1


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (replace(STEP, upcoming=RunConfig(batch_size=4), upcoming_label="batch size 4"), "batch size 4"),
        (replace(STEP, position=5), "nothing (last run)"),
        (replace(STEP, total=None), "a search decides"),
    ],
)
async def test_the_pane_of_the_knobs_announces_the_plans_next_run(step: PlanProgress, said: str) -> None:
    async with stage(config=RunConfig(batch_size=32)) as s:
        s.session.busy = s.session.has_plan = True
        await s.feed(STARTED, step, started(8, RunConfig(batch_size=2)), training(8), update(1, 8))
        assert s.lines[1].startswith("┌ After the plan ")
        assert s.lines[2].startswith(f"│ next: {said}")
        assert " 32 │" in s.line("b batch size")  # what a person turns is for the run after the plan
        assert "→" not in s.line("b batch size")
        await s.press("b")
        assert "32 → 64" in s.line("b batch size")
        await s.feed(finished(8), DONE)
        await s.press("escape")
        assert s.lines[1].startswith("┌ Next run ")


async def test_sizes_follow_the_device_and_the_arrows() -> None:
    async with stage((120, 40), [], ready(CPU), config=RunConfig(device="cpu")) as s:
        await s.press("p")
        assert "[small]" in s.text
        await s.press("right")
        assert "[short]" in s.text
        await s.press("enter")
        assert s.session.plans[0][0].runs[0].config.samples == 18


async def test_plans_wait_for_the_engine() -> None:
    async with stage(engine_ready=False) as s:
        await s.press("p")
        assert "the engine is loading" in s.lines[-1]
        assert isinstance(s.app.screen, MainScreen)


@pytest.mark.parametrize("size", SIZES)
async def test_a_plan_under_way_is_in_the_title_and_the_results(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await in_a_plan(s)
        assert "plan 2/5" in s.lines[0]
        assert "Batch size plan 2/5 batch size 2" in s.line("Results")
        await s.feed(finished(8), DONE)
        assert "is done: 5 of 5 runs" in s.text
        assert "plan 2/5" not in s.text


async def test_pausing_and_going_on() -> None:
    async with stage() as s:
        await s.press("S")
        assert "no plan is under way" in s.lines[-1]
        await in_a_plan(s)
        await s.press("S")
        assert s.session.paused == [True]
        assert "waits after this run" in s.lines[-1]
        await s.feed(finished(8), PlanProgress(plan_id=1, position=2, total=5, label="", paused=True))
        assert "paused" in s.lines[0]
        await s.press("r")
        assert s.session.started == []
        await s.press("S")
        assert s.session.paused == [True, False]


async def test_skipping_a_run() -> None:
    async with stage() as s:
        await s.press("n")
        assert "no run of a plan" in s.lines[-1]
        await in_a_plan(s)
        await s.press("n")
        assert s.session.skipped == 1
        assert s.session.stopped == 0


@pytest.mark.parametrize(("key", "skipped", "stopped"), [("r", 1, 0), ("p", 0, 1), ("w", 0, 0)])
async def test_stop_asks_whether_the_run_or_the_plan_is_meant(key: str, skipped: int, stopped: int) -> None:
    async with stage() as s:
        await in_a_plan(s)
        await s.press("s")
        assert "Run 8 of Batch size is under way" in s.text
        await s.press(key)
        assert (s.session.skipped, s.session.stopped) == (skipped, stopped)
        assert isinstance(s.app.screen, MainScreen)


async def test_a_plan_that_was_cut_off_is_offered_and_goes_on() -> None:
    async with stage(history=FakeHistory(plans=[stored()])) as s:
        assert "was cut off: p goes on with it" in s.lines[-1]
        await s.press("p")
        assert "cut off, 1 of 3 runs begun" in s.text
        await s.press("enter")
        assert s.session.plans == [(stored().plan, 9)]


async def test_a_plan_that_was_stopped_is_listed_but_not_pressed() -> None:
    async with stage(history=FakeHistory(plans=[stored("stopped")])) as s:
        assert "goes on with it" not in s.lines[-1]
        await s.press("p")
        assert "stopped, 1 of 3 runs begun" in s.text


def experiment(name: str) -> tuple[FakeHistory, StoredPlan]:
    """An experiment of the lecture that came to its end on the lecture's card, but for its last run."""
    plan = named_plan(name, RunConfig(device="cuda"), "lecture", memory_total=GPU.memory_total)
    records = [
        replace(finished(number, config=run.config).record, samples_per_s=7.5 + number, peak_used=7000 * MIB)
        for number, run in enumerate(plan.runs[:-1], 1)
    ]
    run_ids = tuple(record.run_id for record in records)
    stored = StoredPlan(plan_id=1, plan=plan, started_at=0.0, ended="completed", under_way=False, run_ids=run_ids)
    return FakeHistory(records, plans=[stored]), stored


@pytest.mark.parametrize("size", SIZES)
async def test_an_experiment_that_is_done_is_set_beside_the_lecture(size: tuple[int, int]) -> None:
    history, _ = experiment("batch-size")
    async with stage(size, history=history) as s:
        await in_a_plan(s)
        await s.feed(finished(8), DONE)
        assert isinstance(s.app.screen, PlanTableScreen)
        row = s.line("batch size 8")
        assert "11.5" in row
        assert "7.68" in row
        assert "7000" in row
        assert "7069" in row
        assert ("66.70" in row) is (size[0] > 100)
        assert "The lecture: bert-base-uncased" in s.text
        assert "plan 2/5" not in s.lines[0]  # behind it nothing is under way any more
        await s.press("escape")
        assert isinstance(s.app.screen, MainScreen)


@pytest.mark.parametrize("name", TRAINING)
async def test_every_experiments_table_fits_a_small_terminal(name: str) -> None:
    history, _ = experiment(name)
    async with stage((80, 24), history=history) as s:
        await s.press("p", *["down"] * list(NAMED).index(name), "t")
        assert isinstance(s.app.screen, PlanTableScreen)
        head = s.line("status")
        assert "MiB" in head
        assert "completed" in s.text


async def test_a_plan_that_was_stopped_or_is_no_experiment_shows_no_table() -> None:
    history, stored = experiment("batch-size")
    async with stage(history=history) as s:
        await in_a_plan(s)
        await s.feed(finished(8), replace(DONE, completed=False))
        assert isinstance(s.app.screen, MainScreen)
        await s.feed(replace(DONE, name="sweep"))
        assert isinstance(s.app.screen, MainScreen)
        await s.press("p", "down", "t")  # accumulation was never run here
        assert not isinstance(s.app.screen, PlanTableScreen)
        assert stored.plan.title in s.text


async def test_the_list_says_what_is_shown_by_forecast_and_why() -> None:
    async with stage() as s:
        await s.feed(ready(replace(GPU, kind="virtual")))
        await s.press("p", *["down"] * list(NAMED).index("precision"))
        assert "1 run, 3 more by forecast" in s.line("Precision")
        assert "by forecast: a CPU has no tf32" in s.text
        assert "6 runs, 3 more by forecast" in s.line("BERT-large on")
        assert "left out" not in s.text


async def test_a_run_of_a_plan_that_fails_is_told_without_a_dialog_and_in_the_end() -> None:
    async with stage() as s:
        await in_a_plan(s)
        await s.feed(finished(8, Outcome.FAILED, message="Failed in forward of update 2: ValueError: bad."))
        assert isinstance(s.app.screen, MainScreen)
        assert "run 8 failed, the plan goes on: Failed in forward of update 2" in s.text
        await s.feed(started(9), finished(9), replace(DONE, name="sweep"))
        assert isinstance(s.app.screen, MainScreen)
        assert "plan Batch size is done: 5 of 5 runs; run 8 failed: Enter in the results says why" in s.text
