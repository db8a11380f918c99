"""Folds the engine's events into the state, one by one. No Textual, no clock, no engine thread."""

from __future__ import annotations

from dataclasses import replace

from typing_extensions import assert_never

from engine.contract.changes import Change, Delete, Note, Pin, Restore
from engine.contract.config import KNOBS
from engine.contract.events import (
    DeviceChosen,
    EngineFailed,
    EngineLoading,
    EngineReady,
    EvalDone,
    Event,
    EventsDropped,
    FigureLogged,
    Forecasted,
    HistoryChanged,
    HistoryState,
    JobKnown,
    Logged,
    MemoryMoment,
    MicroStepDone,
    Neighbours,
    PlanFinished,
    PlanProgress,
    PlanStarted,
    Proposed,
    RankBeat,
    RanksStarted,
    RunFinished,
    RunProgress,
    RunRefused,
    RunStarted,
    Sampled,
    Saved,
    ScriptKnown,
    ScriptMade,
    Surveyed,
    TrainingStarted,
    UpdateDone,
    WontEnd,
    WorkCounted,
)
from engine.contract.figures import ACCURACY
from engine.contract.numbers import clock, duration, loss, mib, n_of, number, short_count
from engine.contract.records import GpuSample, Outcome, RunRecord
from engine.contract.tasks import TASKS
from engine.contract.text import counted
from tui.drawing.text import clean
from tui.state.fold_answers import OfAnswers, fold_answers
from tui.state.foreign import SENTENCE, clean_device, clean_job, clean_neighbours, clean_record
from tui.state.knobs import describe
from tui.state.plan_view import fold_plan
from tui.state.ranks import merged
from tui.state.run_view import RunView
from tui.state.script_view import model_words
from tui.state.state import ROWS, UNDER_WAY, State

OfRanks = (RanksStarted, RankBeat)
OfTraining = (MicroStepDone, UpdateDone, EvalDone, TrainingStarted, WorkCounted, ScriptKnown, FigureLogged)
OfRun = (*OfTraining, OfAnswers, RunProgress, MemoryMoment, *OfRanks)
"""What a run tells of itself between its start and its end."""

_FIGURES = 12
"""That a trainer logged at once, as the log tells them."""
_UNDONE: dict[type[Change], str] = {
    Pin: "the baseline stays",
    Note: "the note stays as it was",
    Delete: "not deleted",
    Restore: "not brought back",
}
"""What could not be written, and is put right on the screen."""


def fold(state: State, event: Event) -> bool:
    """Take one event into the state. True when the screen should show it at once, not at its next turn."""
    if isinstance(event, OfRun):
        run = state.run
        if run is None or run.run_id != event.run_id or not run.under_way:
            return False  # of a run whose start or end this screen has already left behind
        if isinstance(event, OfRanks):
            return _fold_ranks(state, run, event)
        run.count(event)
        if isinstance(event, OfAnswers):
            return fold_answers(state, run, event)
        return _fold_run(state, run, event)
    if isinstance(event, (RunStarted, RunRefused, RunFinished)):
        _fold_boundary(state, event)
        return True
    if isinstance(event, Sampled):
        _sampled(state, event)
        return False
    if isinstance(event, (Forecasted, Proposed, Surveyed, ScriptMade)):
        if isinstance(event, Forecasted):
            state.forecast = replace(event, message=clean(event.message, SENTENCE) if event.message else None)
        return True
    if isinstance(event, Logged):
        state.write(event.source, event.text, event.level)
        return False
    if isinstance(event, Saved):
        text = event.words
        state.write("run", text, "info" if event.problem is None else "error")
        if event.problem is not None or event.what == "model":
            state.notice = clean(text, SENTENCE)
        return True
    if isinstance(event, HistoryChanged):
        if event.problem is not None:
            state.notice = clean(f"{_UNDONE[type(event.change)]}: {event.problem}", SENTENCE)
            state.write("history", state.notice, "error")
        return True
    if isinstance(event, EventsDropped):
        state.write("engine", f"{event.count:,} readings came too fast to show; the history has them.", "warning")
        return False
    if isinstance(event, (PlanStarted, PlanProgress, PlanFinished)):
        if isinstance(event, PlanStarted):
            state.pausing, state.before_plan = False, state.editor.config
        if isinstance(event, PlanStarted) or (isinstance(event, PlanFinished) and state.plan is None):
            # one that could not have its row in the history ends without a beginning
            state.queued, state.queued_plans = max(0, state.queued - 1), state.queued_plans[1:]
        state.plan, lines = fold_plan(state.plan, event)
        state.notice = clean(lines[-1], SENTENCE) if isinstance(event, PlanFinished) else state.notice
        for line in lines:
            state.write("plan", line)
    elif isinstance(event, HistoryState):
        _fold_history(state, event)
    elif isinstance(event, EngineLoading):
        state.loading = clean(event.what, 60)
    elif isinstance(event, EngineReady):
        state.loading, state.failed = None, None
        state.ready = clean_device(event.device)
        state.device = state.device if state.running else state.ready  # a script may run already
        state.torch_version = clean(event.torch_version, 40)
        on = f"{event.device.name} {event.device.numbers}" if event.device.is_of_several else event.device.name
        state.write("engine", f"PyTorch {event.torch_version} ready on {on} in {event.import_s:.1f} s")
        if event.note:
            state.notice = clean(event.note, SENTENCE)
            state.write("engine", event.note, "warning")
    elif isinstance(event, DeviceChosen):
        state.ready = clean_device(event.device)
        state.device = state.device if state.running else state.ready
    elif isinstance(event, Neighbours):
        state.neighbours = clean_neighbours(event)
    elif isinstance(event, JobKnown):
        state.job = clean_job(event.job)
    elif isinstance(event, WontEnd):
        state.notice = clean(event.message, SENTENCE)
        state.write("engine", event.message, "warning")
    elif isinstance(event, EngineFailed):
        state.loading, state.queued, state.queued_plans = None, 0, []
        state.failed = clean(event.message, SENTENCE)
        state.write("engine", event.message, "error")
    else:
        assert_never(event)
    return True


def _fold_ranks(state: State, run: RunView, event: RanksStarted | RankBeat) -> bool:
    if isinstance(event, RankBeat):
        run.ranks.beat(event)
        return False
    run.ranks.started(event)
    known = [rank.info for rank in run.ranks.each if rank.info is not None]
    pids = ", ".join(str(info.pid) for info in known)
    state.write("run", f"{len(known)} ranks on {counted(info.device.name for info in known)}: processes {pids}")
    return True


def _fold_run(
    state: State,
    run: RunView,
    event: MicroStepDone
    | UpdateDone
    | EvalDone
    | TrainingStarted
    | WorkCounted
    | ScriptKnown
    | FigureLogged
    | RunProgress
    | MemoryMoment,
) -> bool:
    run.whole.add(event)
    if isinstance(event, MicroStepDone):
        run.micro_step(event)
        return False
    if isinstance(event, UpdateDone):
        run.updated(event)
        return False
    if isinstance(event, EvalDone):
        run.evaluated(event)
        classes = ""
        if event.accuracy is not None:
            called = TASKS[run.config.task].score or "accuracy"
            f1 = f"macro-F1 {ACCURACY.write(event.macro_f1)}, " if event.macro_f1 is not None else ""
            classes = f"{called} {ACCURACY.write(event.accuracy)}, {f1}"
        state.write(
            "run",
            f"evaluated {event.n_samples} samples after update {number(event.update)} in {duration(event.eval_s)} s: "
            f"{classes}loss {loss(event.loss)}",
        )
    elif isinstance(event, TrainingStarted):
        run.t = 0.0
        run.n_parameters, run.planned = event.n_parameters, event.planned_updates
        run.n_train, run.majority = event.n_train, event.majority
        state.write(
            "run",
            f"training {short_count(event.n_parameters)} parameters: {n_of(event.n_train, 'sample')}, "
            f"{n_of(event.planned_updates, 'update')}",
        )
    elif isinstance(event, ScriptKnown):
        is_first = run.script is not None and run.script.known is None
        told = run.known(event)
        if is_first:
            what = model_words(event) or "a model"
            told = f"training {what} with {event.optimizer or 'an optimizer'}: {told}"
        if told:
            state.write("run", told)
    elif isinstance(event, FigureLogged):
        run.logged(event)
        named = ", ".join(f"{name} {value:g}" for name, value in list(event.figures.items())[:_FIGURES])
        state.write("trainer", f"update {number(event.update)}: {named}")
    elif isinstance(event, RunProgress):
        if event.detail:
            run.detail = clean(event.detail, 80)
            state.write("run", event.detail)
    elif isinstance(event, MemoryMoment):
        run.remember(event.memory)
        m = event.memory
        state.write(
            "memory",
            f"{event.moment}: used {mib(m.used)} · reserved {mib(m.reserved)} · allocated {mib(m.allocated)} MiB",
        )
    elif not isinstance(event, WorkCounted):
        assert_never(event)
    return True


def _fold_boundary(state: State, event: RunStarted | RunRefused | RunFinished) -> None:
    """The start of a run, and the two ways in which it is over."""
    if isinstance(event, RunStarted):
        state.queued = max(0, state.queued - (state.plan is None))  # a plan's runs were not queued
        state.stopping = False
        state.selected_run = None
        state.finished = [row for row in state.finished if row.run_id != event.run_id]  # as "running", or played again
        if state.playback:
            state.editor.follow(event.config)
        device = clean_device(event.device)
        state.device = device
        asked = state.forecast
        known = asked.forecast if asked is not None and asked.config == event.config else None
        state.expected = known.peak_used if known is not None else None
        state.expected_by_rank = known.peak_used_by_rank if known is not None else ()
        card_speed = known.samples_per_s if known is not None and device.is_virtual else None
        state.run = RunView(event.run_id, event.config, device, event.started_at, card_speed)
        if state.run.answer is not None and known is not None and known.answer is not None:
            state.run.answer.expected_kv = known.answer.kv_cache
        state.editor.problem = None
        state.write("run", f"run {event.run_id}: {describe(event.config, event.run_id)} on {event.device.name}")
    elif isinstance(event, RunRefused):
        state.queued = max(0, state.queued - (event.run_id is None and state.plan is None))
        state.stopping = False
        if event.run_id is not None and state.run is not None and state.run.run_id == event.run_id:
            state.run = None
        state.editor.refuse(event.knob if event.knob in KNOBS else "", clean(event.message, SENTENCE))
        state.write("run", f"refused: {event.message}", "error")
    elif isinstance(event, RunFinished):
        _finished(state, event.record)
    else:
        assert_never(event)


def _finished(state: State, record: RunRecord) -> None:
    record = clean_record(record)
    state.stopping = False
    state.notice = "" if state.notice == UNDER_WAY else state.notice
    state.finished = sorted(
        [*(row for row in state.finished if row.run_id != record.run_id), record], key=lambda row: row.run_id
    )[-ROWS:]
    if not record.config.answers:
        state.trained = record
    if state.plan is not None and record.outcome is Outcome.FAILED:
        state.plan = replace(state.plan, failed=(*state.plan.failed, record.run_id))
        state.notice = clean(f"run {record.run_id} failed, the plan goes on: {record.message or ''}", SENTENCE)
    run = state.run
    if run is not None and run.run_id == record.run_id:
        run.finish(record)
    bad = record.outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED)
    took = f" after {clock(record.train_runtime_s)}" if record.train_runtime_s is not None else ""
    text = f"run {record.run_id} {record.outcome.words}{took}"
    state.write("run", f"{text}. {record.message}" if record.message else text, "error" if bad else "info")


def _fold_history(state: State, event: HistoryState) -> None:
    """The badge of the title, and a notice; the log has had the sentence from where it happened."""
    if event.problem:
        state.history_trouble, state.notice = "history not written", clean(event.problem, SENTENCE)
    elif event.moved_to:
        where = clean(event.moved_to, SENTENCE)
        state.history_trouble, state.notice = "history elsewhere", f"the history goes on in {where}"
    elif state.history_trouble:
        state.history_trouble, state.notice = "", "the history is written again"


def _sampled(state: State, event: Sampled) -> None:
    if event.gpu is None and state.gpu is not None and state.device is not None and state.device.kind == "cuda":
        event = replace(event, gpu=GpuSample(lost=True))  # the driver is gone, and the GPU with it
    is_lost = event.gpu is not None and event.gpu.lost
    if is_lost != state.gpu_lost:
        state.gpu_lost = is_lost
        state.notice = "the GPU does not answer any more" if is_lost else "the GPU answers again"
        where = ": dmesg may have Xid lines about it" if is_lost else ""
        state.write("engine", state.notice + where, "error" if is_lost else "info")
    memory = event.memory
    is_on_cpu = state.device is not None and state.device.kind == "cpu"
    if event.run_id is None and is_on_cpu and state.editor.config.is_script:
        memory = replace(memory, used=None, peak_used=None)  # of the app itself, where no script runs
    state.gpu, state.host, state.memory = event.gpu, event.host, merged(state.memory, memory)
    run = state.run
    if run is not None and run.under_way and event.run_id == run.run_id:
        run.count(event)
        run.sampled(event)
