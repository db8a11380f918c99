"""What the screen knows. `tui.state.fold` fills it from the engine's events. No Textual, no clock, no engine thread."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted, Neighbours
from engine.contract.job import BatchJob
from engine.contract.knob import JOBS, OWN_JOBS
from engine.contract.records import DeviceInfo, GpuSample, HostSample, Memory, RunRecord
from tui.drawing.text import clean
from tui.state.answer_view import AnswerView
from tui.state.foreign import clean_notes, clean_record
from tui.state.knobs import KnobEditor
from tui.state.plan_view import PlanView, QueuedPlan
from tui.state.ranks import RankView
from tui.state.result_rows import Rows, place_of
from tui.state.run_view import RunView
from tui.state.view import View

LOG_LINES = 2000
ROWS = 500
"""Earlier runs in the results table; `traintop runs` lists them all."""


UNDER_WAY = "a run is under way: s stops it"
"""A notice that is over with the run."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log pane. `source` is `run`, `engine`, or what printed it; `level` as in `Logged`."""

    source: str
    text: str
    level: str = "info"


@dataclass(frozen=True, slots=True)
class RankLog:
    """The end of what a rank printed."""

    rank: int
    lines: Sequence[LogLine] = ()


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
    gpu_lost: bool = False
    """Whether the GPU that was read before does not answer."""
    unread_s: float | None = None
    """How long no reading has come, which is too long; None while they come."""
    host: HostSample = field(default_factory=HostSample)
    memory: Memory = field(default_factory=Memory)
    run: RunView | None = None
    plan: PlanView | None = None
    ready: DeviceInfo | None = None
    """The device of the next run, or what `auto` stands for where that is not there; None until the engine is ready."""
    neighbours: Neighbours | None = None
    """Who else computes on the card that is read; None while nobody was seen yet."""
    job: BatchJob | None = None
    """The batch system's job that the engine runs in."""
    queued: int = 0
    """Runs and plans asked for that have not begun."""
    queued_plans: list[QueuedPlan] = field(default_factory=list)
    """The plans among them, the next one first."""
    before_plan: RunConfig | None = None
    """The knobs as they were when the plan under way began."""
    stopping: bool = False
    pausing: bool = False
    """The plan was asked to wait after its current run."""
    finished: list[RunRecord] = field(default_factory=list)
    """Rows of the results table, oldest first."""
    trained: RunRecord | None = None
    """The last training that ended here."""
    baselines: dict[str, int] = field(default_factory=dict)
    """By job, the run that its others are compared with."""
    awaited_baseline: int | None = None
    """The run under way that is to be the baseline when it has ended."""
    shown_job: str | None = None
    """Whose runs are in the results table; None: those of the next run's job."""
    selected_run: int | None = None
    """The row under the cursor; None follows the newest one."""
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    rank_log: RankLog | None = None
    """What the chosen rank printed; None while all are looked at, or it has no log."""
    log_scroll: int = 0
    """Lines between the newest line and the last one shown."""
    stalled_s: float | None = None
    """How long the run under way has stood still; None while it goes on."""
    history_trouble: str = ""
    """What is wrong with where runs are kept, in two or three words; empty while nothing is."""
    notice: str = ""
    """A sentence that answers the last key, such as why nothing happened."""
    playback: str = ""
    """What is shown instead of an engine of one's own: `watching`, `recorded on …`. Nothing can be changed then."""
    forecast: Forecasted | None = None
    """The newest answer; stale while its configuration is not that of the next run."""
    expected: int | None = None
    """Bytes of used memory that were forecast for the run that is shown."""
    expected_by_rank: tuple[int, ...] = ()
    """The same of each of several ranks; empty where it was not told of each."""
    table: Rows = field(default_factory=Rows)
    view: View = field(default_factory=View)

    @property
    def rank(self) -> RankView | None:
        """The rank that a person chose among several of the run that is shown; None where that is all of them."""
        return self.run.ranks.chosen(self.view.rank) if self.run is not None else None

    @property
    def log_lines(self) -> Sequence[LogLine]:
        """What the log pane shows, oldest first: the app's own, or that of the chosen rank."""
        return self.log if self.rank_log is None else self.rank_log.lines

    @property
    def is_stale(self) -> bool:
        """Whether what the screen knows of the GPU and the host is not of now."""
        return self.unread_s is not None or self.gpu_lost

    @property
    def answer(self) -> AnswerView | None:
        """Of the run that is shown, where it answers."""
        return self.run.answer if self.run is not None else None

    @property
    def shows_answers(self) -> bool:
        """Whether the panes show a run that answers, or are about to."""
        return (self.run.config if self.run is not None else self.editor.config).answers

    @property
    def scores(self) -> bool | None:
        """Of a run that answers, whether it is a classifier that scores; None where the panes show a training."""
        config = self.run.config if self.run is not None else self.editor.config
        return config.task == "classification" if config.answers else None

    @property
    def will_answer(self) -> bool:
        """Whether the next run answers."""
        return self.editor.config.answers

    @property
    def running(self) -> bool:
        """True while a run is under way."""
        return self.run is not None and self.run.under_way

    @property
    def reference(self) -> RunConfig | None:
        """What the knobs are compared with: the run that is shown, where it has their job; in a plan, which turns them
        itself, its beginning.

        Runs of the history may be another program's.
        """
        job = self.editor.config.job
        before = self.run.config if self.run is not None else None
        if self.plan is not None and not self.playback:
            before = self.before_plan
        return before if before is not None and before.job == job else None

    @property
    def following(self) -> str | None:
        """The next run where a plan's comes before that of the knobs; None where theirs is the next."""
        if self.plan is not None:
            return self.plan.next
        if self.running and self.queued_plans:
            queued = self.queued_plans[0]
            return f"{queued.title}, {queued.first}" if queued.first else queued.title
        return None

    @property
    def rows(self) -> list[RunRecord]:
        """The rows of the results table: finished runs of a job and the one under way, filtered and sorted."""
        job = self.table_job
        return self.table.arranged([row for row in self._every if row.config.job == job], job)

    @property
    def _every(self) -> Sequence[RunRecord]:
        run = self.run
        return [*self.finished, run.as_record()] if run is not None and run.under_way else self.finished

    @property
    def table_job(self) -> str:
        """Whose runs are in the results table: figures of a training and of an answering are not compared."""
        return self.shown_job or self.editor.config.job

    @property
    def jobs(self) -> list[str]:
        """Whose runs the table can show: scripts' where there are some."""
        there = {*OWN_JOBS, self.table_job, *(row.config.job for row in self._every)}
        return [job for job in JOBS if job in there]

    @property
    def other_jobs(self) -> Counter[str]:
        """Runs that the table leaves out as they are of another job, by job."""
        job = self.table_job
        return Counter(row.config.job for row in self._every if row.config.job != job)

    @property
    def n_of_other_jobs(self) -> int:
        """How many there are of them all."""
        return self.other_jobs.total()

    @property
    def baseline(self) -> int | None:
        """The run that those in the table are compared with."""
        return self.baselines.get(self.table_job)

    @property
    def base(self) -> RunRecord | None:
        """The baseline, where it is one of the rows."""
        return self.record_of(self.baseline)

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
        index = max(0, min(len(rows) - 1, place_of(current, rows) + delta))
        self.selected_run = None if self.table.as_run and index == len(rows) - 1 else rows[index].run_id

    def scroll_log(self, delta: int) -> None:
        """Show older (positive) or newer lines of the log."""
        self.log_scroll = max(0, min(self.log_scroll + delta, len(self.log_lines) - 1))

    def forget(self) -> None:
        """Begin again, as a recording does that is wound back."""
        self.run = self.plan = self.selected_run = None
        self.finished = []
        self.shown_job = None
        self.gpu, self.host, self.memory = None, HostSample(), Memory()
        self.log.clear()
        self.rank_log, self.log_scroll = None, 0

    def add_history(self, records: Iterable[RunRecord]) -> None:
        """Take runs of the history, in any order; runs already known keep their newer record, as one under way does."""
        known = {row.run_id for row in self.finished}
        current = self.run.run_id if self.run is not None and self.run.under_way else None
        fresh = [clean_record(row) for row in records if row.run_id not in known and row.run_id != current]
        self.finished = sorted([*fresh, *self.finished], key=lambda row: row.run_id)[-ROWS:]

    def take_notes(self, notes: Mapping[int, str]) -> None:
        """Take people's notes by the number of their run, in place of those so far."""
        self.table.notes = clean_notes(notes)

    def write(self, source: str, text: str, level: str = "info") -> None:
        """Add a line to the log."""
        self.log.append(LogLine(clean(source, 40), clean(text, 2000), level))
        if self.log_scroll and self.rank_log is None:
            self.log_scroll = min(self.log_scroll + 1, len(self.log) - 1)
