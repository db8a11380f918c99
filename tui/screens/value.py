"""Typing a knob's value."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from engine.contract.config import KNOBS
from engine.contract.knob import typed
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.state.knob_list import Row, label_of
from tui.state.knobs import KnobEditor, bounds, why
from tui.state.script_knobs import own_choices, own_value


class ValueScreen(Dialog[None]):
    """One line to type in. What the configuration refuses is said here, and the dialog stays."""

    TITLE = "The line"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "cancel")]

    def __init__(self, editor: KnobEditor, row: Row) -> None:
        super().__init__()
        self._editor = editor
        self._row = row

    def compose(self) -> ComposeResult:
        """The knob, why one turns it, what may be typed, and the line; of a long command all of it."""
        knob, config, own = KNOBS[self._row.knob], self._editor.config, self._row.own
        value = own_value(config, own) if own else getattr(config, knob.name)
        text = "" if value is None else clean(typed(value))
        is_command = knob.name == "command"
        with Vertical(classes="dialog -wide" if is_command else "dialog"):
            yield Static(label_of(self._row), classes="heading", markup=False)
            yield Static(why(config, self._row), classes="why", markup=False)
            if is_command and text:
                yield Static(text, id="whole", classes="more", markup=False)
            field = Input(text, placeholder="" if own else knob.hint, select_on_focus=not is_command)
            field.cursor_blink = False
            yield field
            may = f"or any other value; first {own_choices(config)[own][0]}" if own else bounds(knob)
            yield Static(may, id="bounds", classes="last", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the value, or say why not."""
        if self._editor.type(self._row.knob, event.value, self._row.own):
            self.dismiss()
            return
        problem = self._editor.problem
        hint = self.query_one("#bounds", Static)
        hint.add_class("refusal")
        hint.update(problem.message if problem else "")
