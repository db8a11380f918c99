"""Finding a knob by its name."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.contract.config import KNOBS, RunConfig
from tui.drawing.cells import cut
from tui.screens.dialog import Dialog
from tui.state.knob_list import Row, found, label_of
from tui.state.knobs import said_row

_LABEL, _VALUE = 18, 14
"""Columns of a knob's label and of its value."""
_KEYS = "↑↓ choose   Enter goes there   Esc stays"


class FindKnobScreen(Dialog[Row]):
    """Dismissed with the knob that was chosen, or with None."""

    TITLE = "The search"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "cancel"),
        Binding("up", "move(-1)", "the one above", priority=True),
        Binding("down", "move(1)", "the one below", priority=True),
    ]

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self._config = config
        self._rows: list[Row] = []

    def compose(self) -> ComposeResult:
        """The line, and beneath it the knobs that have its words."""
        with Vertical(classes="dialog"):
            yield Static("Find a knob", classes="heading", markup=False)
            field = Input(placeholder="its name, its flag or its group")
            field.cursor_blink = False
            yield field
            choices = OptionList(markup=False, classes="more lines")
            choices.can_focus = False
            yield choices
            yield Static(_KEYS, id="hint", classes="why last", markup=False)

    def on_mount(self) -> None:
        """All knobs, until something is typed."""
        self._list("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """List what has the words."""
        self._list(event.value)

    def _list(self, query: str) -> None:
        self._rows = found(query, self._config)
        choices = self.query_one(OptionList)
        choices.clear_options()
        choices.add_options(Option(self._line(row)) for row in self._rows)
        choices.highlighted = 0 if self._rows else None
        self.query_one("#hint", Static).update(_KEYS if self._rows else "No knob has these words.")

    def _line(self, row: Row) -> Text:
        value = cut(said_row(self._config, row), _VALUE)
        flag = "" if row.own else KNOBS[row.knob].flag
        return Text.assemble(f"{label_of(row):<{_LABEL}}{value:<{_VALUE + 1}}", (flag, "dim"))

    def action_move(self, delta: int) -> None:
        """Move through the list; what is typed stays."""
        choices = self.query_one(OptionList)
        if self._rows:
            choices.highlighted = max(0, min(len(self._rows) - 1, (choices.highlighted or 0) + delta))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the one under the cursor."""
        choices = self.query_one(OptionList)
        if choices.highlighted is not None:
            self.dismiss(self._rows[choices.highlighted])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the one that was clicked."""
        self.dismiss(self._rows[event.option_index])
