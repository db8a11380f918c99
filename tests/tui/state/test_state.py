"""Folding events into the state, event by event."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import get_args

import pytest

from engine.contract.changes import Pin
from engine.contract.conditions import Conditions, Neighbour, Slowdown
from engine.contract.config import RunConfig
from engine.contract.events import (
    CachesHold,
    DeviceChosen,
    EngineFailed,
    EngineLoading,
    EngineReady,
    EvalDone,
    Event,
    EventsDropped,
    Forecasted,
    HistoryChanged,
    HistoryState,
    JobKnown,
    Logged,
    MicroStepDone,
    Neighbours,
    PlanFinished,
    PlanProgress,
    PlanStarted,
    Proposed,
    RankBeat,
    RanksStarted,
    RunProgress,
    RunRefused,
    Saved,
    ScriptMade,
    Surveyed,
    WontEnd,
    WorkCounted,
)
from engine.contract.job import BatchJob
from engine.contract.records import DeviceInfo, GpuSample, Memory, Outcome, Phase, Shares
from tests.tui import fake_answers, fake_scripts
from tests.tui.fake_session import (
    CPU,
    GPU,
    MIB,
    finished,
    memory,
    moment,
    ready,
    record,
    sampled,
    started,
    training,
    update,
)
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.state import UNDER_WAY, State


@pytest.fixture
def state() -> State:
    return State(editor=KnobEditor(RunConfig()))


def feed(state: State, *events: Event) -> bool:
    at_once = False
    for event in events:
        at_once |= fold(state, event)
    return at_once


def micro(number: int, of: int, run_id: int = 1, t: float = 1.0) -> MicroStepDone:
    return MicroStepDone(run_id=run_id, micro_step=number, micro_steps=of, t=t)


def evaluated(accuracy: float | None = 0.75) -> EvalDone:
    return EvalDone(run_id=1, epoch=1.0, update=64, accuracy=accuracy, loss=0.5, n_samples=100, eval_s=1.0, t=70.0)


def test_every_kind_of_event_is_known(state: State) -> None:
    samples: list[Event] = [
        EngineLoading(what="PyTorch"),
        ready(),
        DeviceChosen(device=GPU),
        Neighbours(device=GPU, processes=()),
        JobKnown(job=BatchJob(job_id="42")),
        WontEnd(message="This run will not end in time."),
        Surveyed(config=RunConfig(), choices=()),
        EngineFailed(message="broken"),
        RunRefused(run_id=None, config=RunConfig(), knob="precision", message="no"),
        started(),
        RanksStarted(run_id=1, ranks=()),
        RankBeat(run_id=1, rank=0, phase=Phase.LOAD, update=0, since_s=0.5),
        RunProgress(run_id=1, phase=Phase.LOAD, detail="loading"),
        moment("start"),
        training(),
        WorkCounted(run_id=1, flops_per_token=1e9, peak_flops_per_s=5.5e12),
        micro(1, 64),
        update(),
        evaluated(),
        fake_scripts.known(),
        fake_scripts.logged(),
        fake_answers.answering(),
        fake_answers.prefilled(1),
        fake_answers.tokens(1),
        fake_answers.answered(),
        CachesHold(run_id=1, held=4096, t=1.0),
        fake_answers.scored(1),
        fake_answers.compared(),
        fake_answers.quality(),
        Saved(run_id=1, what="checkpoint", update=1, path="/x", seconds=0.1, problem="The disk is full."),
        sampled(),
        Logged(source="stdout", text="hello"),
        finished(),
        HistoryState(problem="The disk is full."),
        HistoryChanged(change=Pin(run_id=1, job="train")),
        EventsDropped(count=3),
        PlanStarted(plan_id=1, name="batch", title="Batch sizes", total=3),
        PlanProgress(plan_id=1, position=1, total=3, label="batch 1"),
        PlanFinished(plan_id=1, name="batch", completed=True, done=3, total=3),
        Forecasted(config=RunConfig(), forecast=None, message="no"),
        Proposed(run_id=1, proposals=()),
        ScriptMade(title="run 1"),
    ]
    assert {type(event) for event in samples} == set(get_args(Event))
    for event in samples:
        fold(state, event)


def test_a_job_is_made_harmless_and_what_will_not_end_in_time_is_a_notice(state: State) -> None:
    feed(state, JobKnown(job=BatchJob(job_id="42\x1b[2J", node="node\x07", partition=None)))
    assert state.job == BatchJob(job_id="42", node="node")
    feed(state, WontEnd(message="This run will not end in time."))
    assert state.notice == "This run will not end in time."
    assert state.log[-1].level == "warning"


def test_what_a_run_met_is_made_harmless(state: State) -> None:
    anna = Neighbour(pid=7, user="anna\x1b[2J", command="python\nx", share=0.5)
    met = Conditions(neighbours=(anna,), shared=0.5, slowdowns=(Slowdown(reason="hot\x07", share=0.5),))
    feed(state, finished(conditions=met))
    kept = state.finished[-1].conditions
    assert kept is not None
    assert kept.neighbours == (replace(anna, user="anna", command="python⏎x"),)
    assert kept.slowdowns == (Slowdown(reason="hot", share=0.5),)


def test_loading_then_ready(state: State) -> None:
    assert feed(state, EngineLoading(what="transformers"))
    assert state.loading == "transformers"
    assert feed(state, ready(CPU))
    assert state.loading is None
    assert state.device == CPU


def test_a_failed_engine_forgets_queued_runs(state: State) -> None:
    state.queued = 1
    feed(state, EngineFailed(message="torch is missing: pip install torch"))
    assert state.failed == "torch is missing: pip install torch"
    assert state.queued == 0
    assert state.loading is None


def test_a_run_starts_and_takes_its_place_in_the_table(state: State) -> None:
    state.queued, state.selected_run = 1, 3
    assert feed(state, ready(), started(run_id=4, config=RunConfig(batch_size=16)))
    assert state.running
    assert state.queued == 0
    assert state.selected_run is None
    assert state.rows[-1].run_id == 4
    assert state.rows[-1].outcome is Outcome.RUNNING
    assert state.reference == RunConfig(batch_size=16)


def test_unknown_figures_stay_unknown(state: State) -> None:
    feed(state, ready(), started())
    row = state.rows[-1]
    assert row.samples_per_s is None
    assert row.train_loss is None
    assert row.peak_used is None


def test_updates_give_speed_loss_and_progress(state: State) -> None:
    feed(state, ready(), started(), training(), *(update(number) for number in range(1, 11)))
    run = state.run
    assert run is not None
    assert run.progress == 10
    row = run.as_record()
    assert row.samples_per_s == pytest.approx(8.0)
    assert row.tokens_per_s == pytest.approx(4096.0)
    assert row.train_loss == pytest.approx(0.7 - 0.005 * 5.5)
    assert row.steady_samples_per_s == pytest.approx(8.0)
    assert run.planned_s == pytest.approx(64.0 + 100 * 0.31 / 8)  # the evaluation of 100 samples is a forward of each
    assert (len(run.losses), len(run.speeds), len(run.warmup_speeds)) == (10, 7, 3)
    assert state.rows[-1].updates == 10


def test_warm_up_is_left_out_of_the_time_shares(state: State) -> None:
    slow = Shares(data=5.0, forward=5.0, backward=5.0, optimizer=5.0)
    feed(state, ready(), started(), training(), update(1, shares=slow))
    run = state.run
    assert run is not None
    assert run.warmup
    assert run.shares == slow
    feed(state, update(4), update(5))
    assert not run.warmup
    assert run.timed_updates == 2
    assert run.shares.backward == pytest.approx(1.22)


def test_the_steady_rate_waits_for_three_updates_and_shrugs_off_an_outlier(state: State) -> None:
    feed(state, ready(), started(), training(), update(4), update(5))
    assert state.rows[-1].steady_samples_per_s is None
    feed(state, update(6, update_s=100.0), update(7), update(8))
    assert state.rows[-1].steady_samples_per_s == pytest.approx(8.0)
    assert state.rows[-1].steady_spread is not None


def test_what_an_older_record_lacks_is_told_by_the_events(state: State) -> None:
    feed(state, ready(), started(), training(), *(update(number) for number in range(1, 11)), finished())
    assert state.run is not None
    row = state.run.as_record()
    assert (row.samples_per_s, row.steady_samples_per_s) == (7.68, 7.70)  # as recorded
    assert row.tokens_per_s == pytest.approx(4096.0)


def test_micro_steps_move_within_an_update(state: State) -> None:
    feed(state, ready(), started(), training(planned=10), micro(1, 40, t=0.5))
    run = state.run
    assert run is not None
    assert run.progress == pytest.approx(0.25)
    assert run.t == 0.5


def test_events_of_another_run_are_ignored(state: State) -> None:
    feed(state, ready(), started(run_id=2), training(run_id=2))
    assert not feed(state, update(5, run_id=1), micro(5, 64, run_id=1), evaluated())
    assert state.run is not None
    assert state.run.reached == 0


def test_an_update_after_the_end_changes_nothing(state: State) -> None:
    feed(state, ready(), started(), training(), finished())
    feed(state, update(60))
    assert state.run is not None
    assert state.run.reached == 0


def test_evaluation_gives_accuracy(state: State) -> None:
    feed(state, ready(), started(), training(), evaluated(0.75))
    assert state.rows[-1].eval_accuracy == 0.75
    assert "0.750" in state.log[-1].text


def test_samples_fill_the_device_and_the_run(state: State) -> None:
    feed(state, ready(), sampled(run_id=None, t=None))
    assert state.gpu is not None
    assert state.gpu.utilization == 97
    feed(state, started(), training(), sampled(t=5.0), sampled(t=None))
    run = state.run
    assert run is not None
    assert run.t == 5.0
    assert len(run.utilization) == 1
    assert len(run.used_mib) == 2
    assert run.memory.used == 7099 * MIB


def test_the_clock_never_runs_backwards(state: State) -> None:
    feed(state, ready(), started(), training(), sampled(t=5.0), sampled(t=4.0))
    assert state.run is not None
    assert state.run.t == 5.0


def test_peaks_are_the_largest_seen(state: State) -> None:
    feed(state, ready(), started(), training())
    feed(state, update(1, memory=memory(used=7000)), update(2, memory=memory(used=6000)))
    assert state.run is not None
    assert state.run.memory.peak_used == 7000 * MIB
    assert state.run.memory.used == 6000 * MIB


def test_a_reading_without_breakdown_keeps_the_last_one(state: State) -> None:
    feed(state, ready(), started(), training(), update(1), update(2, memory=Memory(used=100 * MIB)))
    assert state.run is not None
    assert state.run.memory.by_category is not None
    assert state.run.memory.total == 7611 * MIB


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.RUNNING])
def test_the_end_of_a_run(state: State, outcome: Outcome) -> None:
    feed(state, ready(), started(), training(), update(1))
    assert feed(state, finished(outcome=outcome, message="Why it ended."))
    assert not state.running
    assert state.run is not None
    assert state.run.outcome is outcome
    assert [row.run_id for row in state.rows] == [1]
    assert "Why it ended." in state.log[-1].text


def test_a_refusal_puts_the_cursor_on_the_knob_at_fault(state: State) -> None:
    state.queued = 1
    config = RunConfig(precision="fp16")
    feed(state, ready(), RunRefused(run_id=None, config=config, knob="precision", message="fp16 needs a GPU."))
    assert state.queued == 0
    assert state.editor.selected == "precision"
    assert state.editor.problem is not None
    assert state.editor.problem.message == "fp16 needs a GPU."


def test_a_refusal_while_loading_takes_the_row_away(state: State) -> None:
    feed(state, ready(), started(run_id=9))
    feed(state, RunRefused(run_id=9, config=RunConfig(), knob="model", message="No such model."))
    assert not state.running
    assert state.rows == []


def test_a_refusal_without_a_knob_leaves_the_cursor(state: State) -> None:
    before = state.editor.selected
    feed(state, RunRefused(run_id=None, config=RunConfig(), knob="", message="The run could not begin."))
    assert state.editor.selected == before
    assert state.editor.problem is not None


def test_hostile_text_is_made_harmless(state: State) -> None:
    feed(state, ready(), started(), RunProgress(run_id=1, phase=Phase.LOAD, detail="\x1b[2Jloading\x07 [bold]x"))
    feed(state, Logged(source="\x1b]0;evil\x07out", text="a\x1b[31mb\rc"))
    feed(state, finished(outcome=Outcome.FAILED, message="\x1b[2J\x1b[Hgone"))
    assert state.run is not None
    texts = [
        state.run.detail,
        state.log[-1].text,
        state.log[-2].text,
        state.log[-2].source,
        state.rows[0].message or "",
    ]
    assert all("\x1b" not in text and "\x07" not in text and "\r" not in text for text in texts)
    assert "[bold]x" in state.run.detail


def test_hostile_rows_of_the_history_are_made_harmless(state: State) -> None:
    hostile = "\x1b]2;stolen\x07\x9b2J\u202ea\u200bb\ud800"
    device = DeviceInfo(name=hostile, kind=hostile, memory_label=hostile)
    state.add_history([record(1, message=hostile, device=device)])
    state.take_notes({1: hostile, 2: "\x1b[2J"})
    feed(state, EngineReady(device=device, torch_version=hostile, import_s=1.0))
    row = state.finished[0]
    assert row.message == "ab\ufffd"
    assert row.device == state.device == DeviceInfo(name="ab\ufffd", kind="ab\ufffd", memory_label="ab\ufffd")
    assert state.table.notes == {1: "ab\ufffd"}
    assert state.torch_version == "ab\ufffd"


def test_dropped_events_are_told(state: State) -> None:
    feed(state, EventsDropped(count=1234))
    assert "1,234" in state.log[-1].text


def test_a_history_that_cannot_be_written_is_shown_until_it_can(state: State) -> None:
    feed(state, HistoryState(problem="The disk is full.\x1b[2J"))
    assert state.history_trouble == "history not written"
    assert state.notice.startswith("The disk is full.")
    assert "\x1b" not in state.notice
    feed(state, HistoryState(problem=None))
    assert (state.history_trouble, state.notice) == ("", "the history is written again")
    feed(state, HistoryState(problem=None, moved_to="/tmp/x"))
    assert state.history_trouble == "history elsewhere"
    assert "/tmp/x" in state.notice


def test_history_fills_the_table_once(state: State) -> None:
    feed(state, ready(), started(run_id=3), finished(run_id=3, outcome=Outcome.STOPPED))
    state.add_history([record(3), record(2), record(1)])
    assert [row.run_id for row in state.rows] == [1, 2, 3]
    assert state.rows[-1].outcome is Outcome.STOPPED


def test_the_row_of_the_run_under_way_is_not_doubled_by_the_history(state: State) -> None:
    feed(state, ready(), started(run_id=3))
    state.add_history([record(3, Outcome.RUNNING), record(1)])
    assert [row.run_id for row in state.rows] == [1, 3]


def test_the_row_cursor_follows_the_newest_until_moved(state: State) -> None:
    state.add_history([record(1), record(2), record(3)])
    assert state.selected is not None
    assert state.selected.run_id == 3
    state.select(-1)
    assert state.selected_run == 2
    state.select(-10)
    assert state.selected_run == 1
    state.select(10)
    assert state.selected_run is None


def test_the_log_is_bounded_and_keeps_its_place_when_scrolled(state: State) -> None:
    for number in range(5):
        state.write("engine", f"line {number}")
    state.scroll_log(2)
    state.write("engine", "new")
    assert state.log_scroll == 3
    state.scroll_log(-100)
    assert state.log_scroll == 0
    for number in range(5000):
        state.write("engine", str(number))
    assert len(state.log) == 2000


def test_stopping_ends_with_the_run(state: State) -> None:
    feed(state, ready(), started(), training())
    state.stopping = True
    feed(state, finished(outcome=Outcome.STOPPED))
    assert not state.stopping


def test_nothing_of_the_state_is_shared_between_two(state: State) -> None:
    other = State(editor=KnobEditor(RunConfig()))
    mutable = [f.name for f in fields(State) if f.name in ("finished", "log")]
    assert all(getattr(state, name) is not getattr(other, name) for name in mutable)


def test_the_device_of_the_run_is_the_one_shown(state: State) -> None:
    feed(state, ready(CPU), started(device=GPU))
    assert state.device == GPU


def test_a_plan_is_followed_from_its_start_to_its_end(state: State) -> None:
    feed(state, PlanStarted(plan_id=1, name="batch", title="Batch \x1b[2Jsizes", total=12, done=2))
    assert state.plan is not None
    assert state.plan.where == "plan 2/12"
    assert "\x1b" not in state.plan.title
    feed(state, PlanProgress(plan_id=1, position=3, total=12, label="batch 4", paused=True))
    assert state.plan.where == "plan 3/12 paused"
    feed(state, PlanProgress(plan_id=1, position=4, total=None, label="batch 8", skipped="batch 4 did not fit"))
    assert state.plan.where == "plan 4"
    assert "batch 8 is passed over: batch 4 did not fit" in state.log[-2].text
    feed(
        state, PlanFinished(plan_id=1, name="batch", completed=False, done=4, total=12, message="Stopped by the user.")
    )
    assert state.plan is None
    assert state.log[-1].text == "Stopped by the user."


def test_mfu_is_the_models_work_by_the_peak(state: State) -> None:
    fold(state, started())
    fold(state, training())
    for number in range(1, 8):
        fold(state, update(number))  # 8 samples of 512 tokens in a second
    assert state.run is not None
    assert state.rows[-1].mfu is None
    fold(state, WorkCounted(run_id=1, flops_per_token=1e9, peak_flops_per_s=8.192e12))
    assert state.rows[-1].mfu == pytest.approx(0.5)


def test_a_loss_of_nan_leaves_the_rows_in_order_and_the_cursor_on_its_run() -> None:
    state = State(editor=KnobEditor(RunConfig()))
    state.add_history([record(1, train_loss=0.5), record(2, train_loss=math.nan), record(3, train_loss=0.1)])
    fold(state, started(4))
    fold(state, training(4))
    fold(state, update(1, 4, loss=math.nan))
    state.select(-1)
    assert state.selected_run == 3
    state.select(1)
    assert state.selected_run is None  # at the newest again
    state.table.sort = "loss"
    assert [row.run_id for row in state.rows] == [3, 1, 2, 4]


LOST = replace(sampled(t=6.0), gpu=GpuSample(lost=True), memory=Memory(total=7611 * MIB))


def test_a_lost_gpu_is_told_at_once_and_leaves_a_gap_while_the_host_goes_on(state: State) -> None:
    feed(state, ready(), started(), training(), sampled(t=5.0), LOST)
    run = state.run
    assert run is not None
    assert state.is_stale
    assert state.notice == "the GPU does not answer any more"
    assert state.host.cpu == 55.0
    assert run.utilization.last_until(64.0) == (0.0, None)
    assert run.used_mib.last_until(64.0) == (0.0, None)
    assert state.memory.used is None
    feed(state, sampled(t=6.5))
    assert not state.is_stale
    assert state.notice == "the GPU answers again"
    assert run.utilization.last_until(64.0) == (0.0, 97.0)
    assert [line.text for line in state.log if "answer" in line.text] == [
        "the GPU does not answer any more: dmesg may have Xid lines about it",
        "the GPU answers again",
    ]


def test_a_driver_that_is_gone_is_a_lost_gpu_and_the_hosts_share_is_not_drawn_in_its_place(state: State) -> None:
    feed(state, ready(), started(), training(), sampled(t=5.0), sampled(t=5.5, gpu=False))
    assert state.gpu_lost
    assert state.run is not None
    assert state.run.utilization.last_until(64.0) == (0.0, None)


def test_a_time_without_readings_is_a_gap(state: State) -> None:
    feed(state, ready(), started(), training(), sampled(t=5.0), update(1, t=6.0), update(2, t=9.0), sampled(t=10.0))
    assert state.run is not None
    assert len(state.run.utilization) == 3
    assert state.run.utilization.within(0.0, 64.0) == (97.0, 97.0)


def test_the_notice_that_a_run_is_under_way_is_over_with_the_run(state: State) -> None:
    fold(state, started(run_id=1))
    for notice, after in ((UNDER_WAY, ""), ("something else", "something else")):
        state.notice = notice
        fold(state, finished(run_id=1))
        assert state.notice == after
