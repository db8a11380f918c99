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
from tui.state.knobs import KnobEditor, bounds


class ValueScreen(Dialog[None]):
    """One line to type in. What the configuration refuses is said here, and the dialog stays."""

    TITLE = "The line"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "cancel")]

    def __init__(self, editor: KnobEditor, name: str) -> None:
        super().__init__()
        self._editor = editor
        self._knob_name = name

    def compose(self) -> ComposeResult:
        """The knob, why one turns it, what may be typed, and the line."""
        knob = KNOBS[self._knob_name]
        value = getattr(self._editor.config, self._knob_name)
        with Vertical(classes="dialog"):
            yield Static(knob.label, classes="heading", markup=False)
            yield Static(knob.why_in(self._editor.config.job), classes="why", markup=False)
            field = Input(
                "" if value is None else clean(typed(value)),
                placeholder=knob.hint,
                select_on_focus=True,
            )
            field.cursor_blink = False
            yield field
            yield Static(bounds(knob), id="bounds", classes="last", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the value, or say why not."""
        if self._editor.type(self._knob_name, event.value):
            self.dismiss()
            return
        problem = self._editor.problem
        hint = self.query_one("#bounds", Static)
        hint.add_class("refusal")
        hint.update(problem.message if problem else "")
