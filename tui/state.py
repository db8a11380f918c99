"""What the screen knows, folded from the engine's events one by one. No Textual, no clock, no engine thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from typing_extensions import assert_never

from engine.config import KNOBS, RunConfig
from engine.events import (
    DeviceInfo,
    EngineFailed,
    EngineLoading,
    EngineReady,
    EvalDone,
    Event,
    EventsDropped,
    Forecasted,
    GpuSample,
    HostSample,
    Logged,
    Memory,
    MemoryMoment,
    MicroStepDone,
    Outcome,
    PlanFinished,
    PlanProgress,
    PlanStarted,
    Proposed,
    RunFinished,
    RunProgress,
    RunRecord,
    RunRefused,
    RunStarted,
    Sampled,
    TrainingStarted,
    UpdateDone,
)
from tui.formatting import count, loss, mib, seconds, short_count
from tui.knobs import KnobEditor, describe
from tui.plan_view import PlanView, fold_plan
from tui.result_rows import Rows
from tui.run_view import RunView, merged
from tui.text import clean
from tui.view import View

LOG_LINES = 2000
ROWS = 500
"""Earlier runs in the results table; `traintop runs` lists them all."""
SENTENCE = 400

OUTCOME_WORDS = {
    Outcome.RUNNING: "running",
    Outcome.COMPLETED: "completed",
    Outcome.OUT_OF_MEMORY: "out of memory",
    Outcome.STOPPED: "stopped",
    Outcome.FAILED: "failed",
    Outcome.INTERRUPTED: "interrupted",
}


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log pane. `source` is `run`, `engine`, or what printed it; `level` as in `Logged`."""

    source: str
    text: str
    level: str = "info"


@dataclass(slots=True)
class State:
    """Everything that is on the screen."""

    editor: KnobEditor
    loading: str | None = "PyTorch"
    """What the engine is importing or opening; None once it is ready (or has failed)."""
    failed: str | None = None
    device: DeviceInfo | None = None
    torch_version: str | None = None
    gpu: GpuSample | None = None
    host: HostSample = field(default_factory=HostSample)
    memory: Memory = field(default_factory=Memory)
    run: RunView | None = None
    plan: PlanView | None = None
    ready: DeviceInfo | None = None
    """What `auto` stands for; None until the engine is ready."""
    queued: int = 0
    """Runs and plans asked for that have not begun."""
    stopping: bool = False
    pausing: bool = False
    """The plan was asked to wait after its current run."""
    finished: list[RunRecord] = field(default_factory=list)
    """Rows of the results table, oldest first."""
    baseline: int | None = None
    selected_run: int | None = None
    """The row under the cursor; None follows the newest one."""
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    logged: int = 0
    """Lines ever written to the log."""
    log_scroll: int = 0
    """Lines between the newest line and the last one shown."""
    notice: str = ""
    """A sentence that answers the last key, such as why nothing happened."""
    playback: str = ""
    """What is shown instead of an engine of one's own: `watching`, `recorded on …`. Nothing can be changed then."""
    forecast: Forecasted | None = None
    """The newest answer; stale while its configuration is not that of the next run."""
    expected: int | None = None
    """Bytes of used memory that were forecast for the run that is shown."""
    table: Rows = field(default_factory=Rows)
    view: View = field(default_factory=View)

    @property
    def running(self) -> bool:
        """True while a run is under way."""
        return self.run is not None and self.run.under_way

    @property
    def reference(self) -> RunConfig | None:
        """The configuration that the next run is compared with: that of the run under way, else of the last one."""
        if self.run is not None:
            return self.run.config
        return self.finished[-1].config if self.finished else None

    @property
    def rows(self) -> list[RunRecord]:
        """The rows of the results table: finished runs and the one under way, filtered and sorted."""
        run = self.run
        every = [*self.finished, run.as_record()] if run is not None and run.under_way else self.finished
        return self.table.arranged(every)

    @property
    def selected(self) -> RunRecord | None:
        """The row under the cursor of the results table."""
        rows = self.rows
        newest = max(rows, key=lambda row: row.run_id, default=None)
        return next((row for row in rows if row.run_id == self.selected_run), newest)

    def record_of(self, run_id: int | None) -> RunRecord | None:
        """A finished run by its number."""
        return next((row for row in self.finished if row.run_id == run_id), None)

    def select(self, delta: int) -> None:
        """Move the cursor of the results table; at the newest row, where that is the last, it follows again."""
        rows, current = self.rows, self.selected
        if current is None:
            return
        index = max(0, min(len(rows) - 1, rows.index(current) + delta))
        self.selected_run = None if self.table.as_run and index == len(rows) - 1 else rows[index].run_id

    def scroll_log(self, delta: int) -> None:
        """Show older (positive) or newer lines of the log."""
        self.log_scroll = max(0, min(self.log_scroll + delta, len(self.log) - 1))

    def forget(self) -> None:
        """Begin again, as a recording does that is wound back."""
        self.run = self.plan = self.selected_run = None
        self.finished = []
        self.gpu, self.host, self.memory = None, HostSample(), Memory()
        self.log.clear()
        self.logged = self.log_scroll = 0

    def add_history(self, records: Iterable[RunRecord]) -> None:
        """Take earlier runs, in any order; runs already known keep their newer record."""
        known = {row.run_id for row in self.finished}
        current = self.run.run_id if self.run is not None else None
        fresh = [row for row in records if row.run_id not in known and row.run_id != current]
        self.finished = sorted([*fresh, *self.finished], key=lambda row: row.run_id)[-ROWS:]

    def write(self, source: str, text: str, level: str = "info") -> None:
        """Add a line to the log."""
        self.log.append(LogLine(clean(source, 40), clean(text, 2000), level))
        self.logged += 1
        if self.log_scroll:
            self.log_scroll = min(self.log_scroll + 1, len(self.log) - 1)


def fold(state: State, event: Event) -> bool:
    """Take one event into the state. True when the screen should show it at once, not at its next turn."""
    if isinstance(event, (MicroStepDone, UpdateDone, EvalDone, TrainingStarted, RunProgress, MemoryMoment)):
        run = state.run
        if run is None or run.run_id != event.run_id or not run.under_way:
            return False  # of a run whose start or end this screen has already left behind
        return _fold_run(state, run, event)
    if isinstance(event, (RunStarted, RunRefused, RunFinished)):
        _fold_boundary(state, event)
        return True
    if isinstance(event, Sampled):
        _sampled(state, event)
        return False
    if isinstance(event, (Forecasted, Proposed)):
        if isinstance(event, Forecasted):
            state.forecast = event
        return True
    if isinstance(event, Logged):
        state.write(event.source, event.text, event.level)
        return False
    if isinstance(event, EventsDropped):
        state.write("engine", f"{event.count:,} readings came too fast to show; the history has them.", "warning")
        return False
    if isinstance(event, (PlanStarted, PlanProgress, PlanFinished)):
        if isinstance(event, PlanStarted):
            state.queued, state.pausing = max(0, state.queued - 1), False
        state.plan, lines = fold_plan(state.plan, event)
        state.notice = lines[-1] if isinstance(event, PlanFinished) else state.notice
        for line in lines:
            state.write("plan", line)
    elif isinstance(event, EngineLoading):
        state.loading = clean(event.what, 60)
    elif isinstance(event, EngineReady):
        state.loading, state.failed = None, None
        state.device = state.ready = event.device
        state.torch_version = event.torch_version
        state.write("engine", f"PyTorch {event.torch_version} ready on {event.device.name} in {event.import_s:.1f} s")
    elif isinstance(event, EngineFailed):
        state.loading, state.queued = None, 0
        state.failed = clean(event.message, SENTENCE)
        state.write("engine", event.message, "error")
    else:
        assert_never(event)
    return True


def _fold_run(
    state: State,
    run: RunView,
    event: MicroStepDone | UpdateDone | EvalDone | TrainingStarted | RunProgress | MemoryMoment,
) -> bool:
    if isinstance(event, MicroStepDone):
        run.micro_step(event)
        return False
    if isinstance(event, UpdateDone):
        run.updated(event)
        return False
    if isinstance(event, EvalDone):
        run.t, run.evaluation = event.t, event
        state.write(
            "run", f"evaluated {event.n_samples} samples: accuracy {loss(event.accuracy)}, loss {loss(event.loss)}"
        )
    elif isinstance(event, TrainingStarted):
        run.t = 0.0
        run.n_parameters, run.planned_updates = event.n_parameters, event.planned_updates
        state.write(
            "run",
            f"training {short_count(event.n_parameters)} parameters: {count(event.n_train)} samples, "
            f"{count(event.planned_updates)} updates",
        )
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
    else:
        assert_never(event)
    return True


def _fold_boundary(state: State, event: RunStarted | RunRefused | RunFinished) -> None:
    """The start of a run, and the two ways in which it is over."""
    if isinstance(event, RunStarted):
        state.queued = max(0, state.queued - 1)
        state.stopping = False
        state.selected_run = None
        state.finished = [row for row in state.finished if row.run_id != event.run_id]  # as "running", or played again
        if state.playback:
            state.editor.follow(event.config)
        state.device = event.device
        asked = state.forecast
        known = asked.forecast if asked is not None and asked.config == event.config else None
        state.expected = known.peak_used if known is not None else None
        state.run = RunView(event.run_id, event.config, event.device, event.started_at)
        state.editor.problem = None
        state.write("run", f"run {event.run_id}: {describe(event.config)} on {event.device.name}")
    elif isinstance(event, RunRefused):
        state.queued = max(0, state.queued - (event.run_id is None))
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
    record = replace(record, message=clean(record.message, SENTENCE) if record.message else None)
    state.stopping = False
    state.finished = sorted(
        [*(row for row in state.finished if row.run_id != record.run_id), record], key=lambda row: row.run_id
    )[-ROWS:]
    run = state.run
    if run is not None and run.run_id == record.run_id:
        run.finish(record)
    bad = record.outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED)
    took = f" after {seconds(record.train_runtime_s)}" if record.train_runtime_s is not None else ""
    text = f"run {record.run_id} {OUTCOME_WORDS[record.outcome]}{took}"
    state.write("run", f"{text}. {record.message}" if record.message else text, "error" if bad else "info")


def _sampled(state: State, event: Sampled) -> None:
    state.gpu, state.host, state.memory = event.gpu, event.host, merged(state.memory, event.memory)
    run = state.run
    if run is not None and run.under_way and event.run_id == run.run_id:
        run.sampled(event.t, event.gpu.utilization if event.gpu is not None else event.host.cpu, event.memory)
