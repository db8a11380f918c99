"""The results table: one row a run, the newest at the bottom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from engine.config import KNOBS
from engine.events import Outcome, RunRecord
from tui.cells import Line, cut, pad, wrap
from tui.formatting import delta_percent, duration, loss, mib, number, rate
from tui.knobs import short_name, shown
from tui.panes.base import Pane
from tui.panes.drawing import OUTCOME_ROLES
from tui.state import OUTCOME_WORDS, State, describe
from tui.text import clean

_NARROW = 70
"""Columns below which outcomes are written short."""
_SHORT_WORDS = {Outcome.COMPLETED: "done", Outcome.OUT_OF_MEMORY: "OOM", Outcome.INTERRUPTED: "died"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, its width, whether it gives way early, and what its cells say."""

    heading: str
    width: int
    keep: int
    """Columns with the smallest number are left out first where the table is narrow."""
    cell: Callable[[RunRecord, RunRecord | None], str]
    left: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("model", 6, 80, lambda row, base: short_name(clean(row.config.model, 40)).removeprefix("bert-"), left=True),
    Column("batch", 5, 90, lambda row, base: str(row.config.batch_size)),
    Column("acc", 3, 50, lambda row, base: str(row.config.gradient_accumulation_steps)),
    Column("ckpt", 4, 60, lambda row, base: _checkpointing(row), left=True),
    Column("prec", 4, 61, lambda row, base: row.config.precision, left=True),
    Column("time s", 6, 55, lambda row, base: duration(row.train_runtime_s)),
    Column("samples/s", 9, 95, lambda row, base: rate(row.samples_per_s)),
    Column("peak MiB", 8, 94, lambda row, base: mib(row.peak_used)),
    Column("%", 4, 40, lambda row, base: _percent(row)),
    Column("loss", 5, 45, lambda row, base: loss(row.train_loss)),
    Column("eval", 5, 30, lambda row, base: loss(row.eval_accuracy)),
    Column("Δ", 5, 70, lambda row, base: _difference(row, base)),
)


class ResultsPane(Pane, can_focus=True):
    """All runs, with a cursor; space pins the row under it as the baseline."""

    TITLE = "Results"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "app.move_row(-1)", "row", key_display="↑↓"),
        Binding("down,j", "app.move_row(1)", "next row", show=False),
        Binding("pageup", "app.move_row(-10)", "10 rows up", show=False),
        Binding("pagedown", "app.move_row(10)", "10 rows down", show=False),
        Binding("home", "app.move_row(-1000)", "oldest", show=False),
        Binding("end", "app.move_row(1000)", "newest", show=False),
        Binding("enter", "app.run_details", "details", key_display="Enter"),
    ]

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._top = 0
        self._shown: list[int] = []

    def headline(self, state: State, width: int) -> Line:
        """What the differences are to."""
        base = state.record_of(state.baseline)
        if base is not None:
            return [("Δ samples/s to run ", "muted"), (f"{base.run_id}*", "pending")]
        return []

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """Headings, rows, and a line on the row under the cursor where it has something to say."""
        rows, base = state.rows, state.record_of(state.baseline)
        if not rows:
            self._shown = []
            return [[(" no runs yet: press r", "muted")]]
        id_width = max(2, len(str(rows[-1].run_id))) + 1
        columns, status = fitting(width, id_width, base is not None)
        room = max(1, height - 1)
        note = _note(state, width - 2, 2 if room >= 8 else 1) if room >= 4 else []
        room -= len(note)
        current = state.selected
        index = rows.index(current) if current is not None else len(rows) - 1
        self._top = max(0, min(self._top, index), index - room + 1, 0)
        if state.selected_run is None:
            self._top = max(0, len(rows) - room)
        shown_rows = rows[self._top : self._top + room]
        self._shown = [row.run_id for row in shown_rows]
        lines = [_heading(columns, id_width, status)]
        for row in shown_rows:
            role = "cursor" if self.has_focus and current is not None and row.run_id == current.run_id else None
            lines.append(_row(row, base, columns, id_width, status, role, width))
        lines += [[]] * (height - len(lines) - len(note))
        return lines + note

    async def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row that was clicked."""
        index = event.y - 2
        if 0 <= index < len(self._shown):
            await self.run_action(f"app.select_row({self._shown[index]})")


def fitting(width: int, id_width: int, with_baseline: bool) -> tuple[list[Column], int]:
    """The columns for `width`, and the width of the status: those that matter least are left out."""
    status = 13 if width >= _NARROW else 7
    columns = [column for column in COLUMNS if with_baseline or column.heading != "Δ"]
    while columns and id_width + status + 2 + sum(column.width + 1 for column in columns) > width:
        columns.remove(min(columns, key=lambda column: column.keep))
    return columns, status


def _heading(columns: list[Column], id_width: int, status: int) -> Line:
    text = f" {'#':<{id_width}}"
    for column in columns:
        text += f" {column.heading:<{column.width}}" if column.left else f" {column.heading:>{column.width}}"
    return [(f"{text} {'status':<{status}}", "muted")]


def _row(
    row: RunRecord,
    base: RunRecord | None,
    columns: list[Column],
    id_width: int,
    status: int,
    cursor: str | None,
    width: int,
) -> Line:
    is_base = base is not None and row.run_id == base.run_id
    name = f"{row.run_id}{'*' if is_base else ''}"
    line: Line = [(f" {name:<{id_width}}", cursor or ("pending" if is_base else "value"))]
    for column in columns:
        text = cut(column.cell(row, base), column.width)
        filled = pad([(text, "")], column.width)
        cell = "".join(part for part, _ in (filled if column.left else reversed(filled)))
        role = "value" if column.heading in ("samples/s", "peak MiB", "batch") else "text"
        line.append((f" {cell}", cursor or role))
    word = _status(row, short=status < 13)
    line.append((f" {cut(word, status):<{status}}", cursor or OUTCOME_ROLES[row.outcome]))
    return pad(line, width, cursor or "text")


def _status(row: RunRecord, short: bool) -> str:
    if row.outcome is Outcome.RUNNING and row.planned_updates:
        share = f"{int(row.updates / row.planned_updates * 100)} %"
        return share if short else f"running {share}"
    words = OUTCOME_WORDS[row.outcome]
    return _SHORT_WORDS.get(row.outcome, words) if short else words


def _note(state: State, width: int, limit: int) -> list[Line]:
    """Why the run under the cursor ended, or which configuration it was."""
    row = state.selected
    if row is None:
        return []
    role = OUTCOME_ROLES[row.outcome] if row.message else "muted"
    text = row.message or _against(row, state.record_of(state.baseline)) or f"run {row.run_id}: {describe(row.config)}"
    return [[(" ", "text"), (line, role)] for line in wrap(text, width, limit)]


def _against(row: RunRecord, base: RunRecord | None) -> str:
    """What the run's knobs cost or gained against the baseline."""
    if base is None or base.run_id == row.run_id or row.outcome is not Outcome.COMPLETED:
        return ""
    from engine.compare import compare, explain, row_of  # not needed for the first paint

    return f"run {row.run_id}: {clean(explain(compare(row_of([row]), row_of([base]))), 300)}"


def _checkpointing(row: RunRecord) -> str:
    value = row.config.gradient_checkpointing
    return "2nd" if value == "every-second" else shown(KNOBS["gradient_checkpointing"], value)


def _percent(row: RunRecord) -> str:
    """The peak's share of the device's memory."""
    if row.peak_used is None or not row.memory_total:
        return number(None)
    share = row.peak_used / row.memory_total * 100
    return number(share, 1 if share < 99.95 else 0)


def _difference(row: RunRecord, base: RunRecord | None) -> str:
    if base is None or base.run_id == row.run_id:
        return "" if base is not None else "–"
    return delta_percent(row.samples_per_s, base.samples_per_s).replace(" ", "")
