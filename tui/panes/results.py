"""The results table: one row a run, the newest at the bottom unless it is sorted otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from engine.contract import answer_entries, figures, script_entries
from engine.contract.accuracy import accuracy_sentence, no_better
from engine.contract.figures import heading_of
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.marks import marks_of, sentences
from engine.contract.numbers import n_of
from engine.contract.own_data import data_name
from engine.contract.records import Outcome, RunRecord
from tui.drawing.cells import Line, cut, join, pad, wrap
from tui.drawing.text import clean
from tui.panes.answer_columns import ANSWER_COLUMNS
from tui.panes.base import Pane
from tui.panes.columns import COLUMNS, Column, columns_for
from tui.panes.drawing import OUTCOME_ROLES
from tui.panes.script_columns import script_columns
from tui.state.deltas import Deltas
from tui.state.knobs import describe
from tui.state.result_rows import SHORT_WORDS, note_of, place_of
from tui.state.state import State

_NARROW = 70
"""Columns below which outcomes are written short."""
_STRONG = (
    *(figures.SPEED, figures.MEMORY, figures.BATCH, answer_entries.TG, answer_entries.TTFT_P50),
    *(script_entries.BATCH, script_entries.UPDATE_SPEED),
)
MARK, BASE, NOTE = "•", "*", "+"
"""Before a marked row; behind the number of the baseline (also of one to be), and of a run with a note."""


class ResultsPane(Pane, can_focus=True):
    """All runs, with a cursor; space pins the row under it as the baseline."""

    TITLE = "Results"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "app.move_row(-1)", "row", key_display="↑↓"),
        Binding("down,j", "app.move_row(1)", "next row", show=False),
        Binding("pageup", "app.move_row(-10)", "10 rows up", show=False),
        Binding("pagedown", "app.move_row(10)", "10 rows down", show=False),
        Binding("home", "app.move_row(-1000)", "first row", show=False),
        Binding("end", "app.move_row(1000)", "last row", show=False),
        Binding("enter", "app.run_details", "details", key_display="Enter"),
        Binding("t", "app.mark", "mark"),
        Binding("slash", "app.filter", "filter", key_display="/"),
        Binding("less_than_sign", "app.sort(-1)", "sort, the other way", show=False),
        Binding("greater_than_sign", "app.sort(1)", "sort", key_display="< >"),
        Binding("R", "app.reverse_sort", "reverse the order", show=False),
        Binding("N", "app.note", "note"),
        Binding("d", "app.delete", "delete"),
        Binding("delete", "app.delete", "delete", show=False),
        Binding("U", "app.restore", "undelete", show=False),
    ]

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self._top = 0
        self._shown: list[int] = []
        self._deltas = Deltas()

    def headline(self, state: State, width: int) -> Line:
        """The plan under way, how the rows were chosen, and what the differences are to."""
        parts: list[Line] = []
        table, plan = state.table, state.plan
        if plan is not None:
            parts.append([(f"{plan.title} ", "value"), (plan.where, "accent"), (f" {plan.label}".rstrip(), "muted")])
        if state.queued_plans:
            parts.append([("then ", "muted"), (state.queued_plans[0].title, "value")])
        if state.n_of_other_jobs:
            many = state.n_of_other_jobs
            kinds = " and ".join(_KINDS[job] for job in state.jobs if job in state.other_jobs)
            parts.append([(f"{n_of(many, f'{kinds} run')}: ", "muted"), ("J", "key")])
        if table.folded and not table.query:
            parts.append([(f"{n_of(table.folded, 'question')} before: ", "muted"), ("/", "key")])
        if table.query:
            parts.append([("/", "muted"), (note_of(table.query), "pending")])
        if table.marked:
            parts.append([(f"{len(table.marked)} marked", "pending")])
        if not table.as_run:
            way = "↓" if table.descending else "↑"
            parts.append([(f"{way} {heading_of(table.sorted_by(state.table_job, state.rows), state.rows)}", "accent")])
        base = state.base
        if base is not None:
            parts.append([("Δ to run ", "muted"), (f"{base.run_id}{BASE}", "pending")])
        return join(parts, " · ")

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """Headings, rows, and a line on the row under the cursor where it has something to say."""
        rows, base = state.rows, state.base
        if not rows:
            self._shown = []
            return [[(_nothing(state), "muted")]]
        id_width = max(2, len(str(max(row.run_id for row in rows)))) + 2
        status = 13 if width >= _NARROW else 7
        room = max(1, height - 1)
        roomy = room >= 8 or room >= len(rows) + 2
        note = self._note(state, width - 2, 2 if roomy else 1) if room >= 4 else []
        room -= len(note)
        current = state.selected
        index = place_of(current, rows) if current is not None else len(rows) - 1
        self._top = max(0, min(max(self._top, index - room + 1), index, len(rows) - room))
        shown_rows = rows[self._top : self._top + room]
        self._shown = [row.run_id for row in shown_rows]
        if any(figures.is_on_several(row) for row in shown_rows):
            self._deltas.measure_by(state.finished, base)
        has = _columns(state.table_job, shown_rows)
        drawn = columns_for(width, id_width + status + 2, shown_rows, base, self._deltas, has)
        columns = [column for column, _ in drawn]
        lines = [_heading(columns, rows, id_width, status, state.table.sorted_by(state.table_job, rows).heading)]
        for at, row in enumerate(shown_rows):
            at_cursor = self.has_focus and current is not None and row.run_id == current.run_id
            texts = [cells[at] for _, cells in drawn]
            lines.append(_row(state, row, columns, texts, (id_width, status, width), "cursor" if at_cursor else None))
        lines += [[]] * (height - len(lines) - len(note))
        return lines + note

    def _note(self, state: State, width: int, limit: int) -> list[Line]:
        """A person's note, why the run under the cursor ended, or which configuration it was."""
        row = state.selected
        if row is None:
            return []
        marks = " ".join(sentences(row))
        role = OUTCOME_ROLES[row.outcome] if row.message else "warn" if marks else "muted"
        told = row.message or self._deltas.sentence(row, state.base)
        if told and marks:
            told += " " if told.endswith(".") else ". "
        text = f"{told}{marks}" if told else f"{marks} {described(row)}".strip()
        written = state.table.notes.get(row.run_id, "")
        text = f"run {row.run_id}: {f'“{written}” · ' if written else ''}{text}"
        return [[(" ", "text"), (line, role)] for line in wrap(text, width, limit)]

    async def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row that was clicked."""
        index = event.y - 2
        if 0 <= index < len(self._shown):
            await self.run_action(f"app.select_row({self._shown[index]})")


def described(row: RunRecord) -> str:
    """A run in a few words: what it was, and that its accuracy is worth nothing where that is so."""
    if not row.config.trains or row.config.workload == "dummy":
        return describe(row.config, row.run_id)
    many = f", {row.n_train:,} samples" if row.n_train is not None else ""
    text = f"{describe(row.config, row.run_id)}, {clean(data_name(row.config), 40)}{many}"
    return f"{accuracy_sentence(row)} {text}" if no_better(row) else text


def _nothing(state: State) -> str:
    if state.table.query:
        return f" no run has {note_of(state.table.query)!r}: Esc shows all {len(state.finished)}, / changes the filter"
    none = " no runs yet" if not state.n_of_other_jobs else f" no run {_DOES[state.table_job]} yet"
    return none if state.playback else f"{none}: press r"


_DOES = {TRAIN: "trains", ANSWER: "answers", SCRIPT: "of a script"}
_KINDS = {TRAIN: "training", ANSWER: "answering", SCRIPT: "script"}


def _columns(job: str, rows: Sequence[RunRecord]) -> Sequence[Column]:
    """Those of a job's table; of scripts they depend on what the rows' commands carry."""
    return script_columns(rows) if job == SCRIPT else ANSWER_COLUMNS if job == ANSWER else COLUMNS


def _heading(columns: list[Column], rows: Sequence[RunRecord], id_width: int, status: int, sort: str) -> Line:
    first, last = figures.RUN_ID.heading, figures.STATUS.heading
    line: Line = [(f" {first:<{id_width}}", "accent" if sort == first else "muted")]
    for column in columns:
        name = cut(column.named(rows), column.width)
        text = f" {name:<{column.width}}" if column.left else f" {name:>{column.width}}"
        line.append((text, "accent" if sort == column.heading else "muted"))
    return [*line, (f" {last:<{status}}", "accent" if sort == last else "muted")]


def _row(
    state: State,
    row: RunRecord,
    columns: list[Column],
    cells: list[str],
    widths: tuple[int, int, int],
    cursor: str | None,
) -> Line:
    id_width, status, width = widths
    is_base = row.run_id == state.baseline
    is_marked = row.run_id in state.table.marked
    has_star = is_base or row.run_id == state.awaited_baseline
    name = f"{row.run_id}{BASE if has_star else ''}{NOTE if row.run_id in state.table.notes else ''}"
    line: Line = [
        (MARK if is_marked else " ", cursor or "pending"),
        (f"{name:<{id_width}}", cursor or ("pending" if is_base or is_marked else "value")),
    ]
    for column, text in zip(columns, cells, strict=True):
        filled = pad([(cut(text, column.width), "")], column.width)
        cell = "".join(part for part, _ in (filled if column.left else reversed(filled)))
        line.append((f" {cell}", cursor or ("value" if column.entry in _STRONG else "text")))
    word = _status(row, short=status < 13)
    role = "warn" if row.outcome is Outcome.COMPLETED and marks_of(row) else OUTCOME_ROLES[row.outcome]
    line.append((f" {cut(word, status):<{status}}", cursor or role))
    return pad(line, width, cursor or "text")


def _status(row: RunRecord, short: bool) -> str:
    if row.outcome is Outcome.RUNNING and row.answer is not None and row.answer.planned_requests:
        share = f"{int(row.answer.n_requests / row.answer.planned_requests * 100)} %"
        return share if short else f"running {share}"
    if row.outcome is Outcome.RUNNING and row.planned_updates:
        share = f"{int(row.updates / row.planned_updates * 100)} %"
        return share if short else f"running {share}"
    words = row.outcome.words
    code = row.script.exit_code if row.script is not None else None
    if row.outcome is Outcome.FAILED and code:
        words = f"exit {code}"
    marks = marks_of(row)
    if row.outcome is Outcome.COMPLETED and marks:
        return marks[0].short if short else marks[0].word
    return SHORT_WORDS.get(row.outcome, words) if short else words
