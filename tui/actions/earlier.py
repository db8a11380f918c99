"""What the history has when the app opens: runs, notes, the baseline, a plan that was cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui.actions.baseline import BaselineControl
from tui.desk.desk import Desk
from tui.desk.readings import Readings
from tui.state.state import ROWS

if TYPE_CHECKING:
    from engine.contract.records import RunRecord
    from engine.history.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earlier:
    notes: dict[int, str]
    runs: list[RunRecord]
    baselines: dict[str, int]
    """By job."""
    cut_off: str | None
    """The title of a plan whose process died, and that can go on."""
    notice: str | None
    """What became of a damaged file."""


class EarlierControl:
    """Reads it once. A recording tells its runs one by one (`alone`: then there are notes only)."""

    def __init__(self, desk: Desk, readings: Readings, baseline: BaselineControl) -> None:
        self._desk, self._readings, self._baseline = desk, readings, baseline

    def begin(self, *, alone: bool = False, offers_plans: bool = True) -> None:
        """Ask for it; what comes is shown at once."""

        def read(history: History) -> _Earlier:
            cut_off = [plan for plan in history.plans.interrupted() if plan.ended is None] if offers_plans else []
            return _Earlier(
                notes=history.notes(),
                runs=[] if alone else history.runs(limit=ROWS, newest_first=True),
                baselines={} if alone else history.baselines(),
                cut_off=cut_off[0].plan.title if cut_off else None,
                notice=history.notice,
            )

        self._readings.ask(read, self._take)

    def _take(self, earlier: _Earlier) -> None:
        state = self._desk.state
        state.take_notes(earlier.notes | state.table.notes)
        state.add_history(earlier.runs)
        for job, run_id in earlier.baselines.items():
            if job not in state.baselines:
                self._baseline.take(job, run_id)
        if earlier.cut_off is not None and not state.notice:
            state.notice = f"plan {earlier.cut_off} was cut off: p goes on with it"
        self._desk.painter.paint()
        if earlier.notice is not None:  # longer than a line, and it names a file
            state.write("history", earlier.notice, "warning")
            self._desk.show_error("The history was damaged", earlier.notice)
