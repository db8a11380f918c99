"""What came of one of the lecture's experiments: this machine's table beside the lecture's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.console import Console
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import HorizontalScroll, VerticalScroll
from textual.widgets import Static

from engine.contract.records import RunRecord
from engine.plans.course import Plan
from tui.console.sweep_tables import plan_table
from tui.screens.dialog import Dialog

_WIDE = 110
"""Columns of a terminal that has room for every figure."""
_NATURAL = 300
"""Cells that no table of ours needs: each is drawn in its own width, and scrolled where that is too much."""


class PlanTableScreen(Dialog[None]):
    """A table and sentences on how to read it; any of the usual keys closes it."""

    TITLE = "The table"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,space,t", "dismiss", "close")]

    def __init__(self, plan: Plan, records: Sequence[RunRecord]) -> None:
        super().__init__()
        self._plan, self._records = plan, records

    def compose(self) -> ComposeResult:
        """The table in the form that the terminal has room for."""
        made = plan_table(self._plan, self._records, narrow=self.app.size.width < _WIDE)
        with VerticalScroll(classes="dialog -table"):
            if made is not None:
                table, notes = made
                with HorizontalScroll():
                    yield Static(_drawn(table), classes="table")
                point, *how = notes
                yield Static(point, classes="heading", markup=False)
                yield Static("\n".join(how), classes="why", markup=False)
            yield Static("↑↓ ← → scroll   Esc closes; p and then t shows it again", classes="why last", markup=False)


def _drawn(table: Table) -> Text:
    """The table as text: a widget that is as wide as its content needs one."""
    console = Console(width=_NATURAL, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    n_heads = 1 + max(str(column.header).count("\n") for column in table.columns)
    return Text("\n").join(Text(line, style="bold" if i < n_heads else "") for i, line in enumerate(lines))
