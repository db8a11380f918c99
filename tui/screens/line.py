"""One line to type in: a note, a filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from tui.drawing.text import clean
from tui.screens.dialog import Dialog


class LineScreen(Dialog[str]):
    """Dismissed with the text; with None when it was left. `on_change` hears of every letter."""

    TITLE = "The line"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "cancel")]

    def __init__(
        self, heading: str, why: str, value: str = "", *, on_change: Callable[[str], object] | None = None
    ) -> None:
        super().__init__()
        self._heading, self._why, self._value = heading, why, value
        self._on_change = on_change

    def compose(self) -> ComposeResult:
        """What is asked for, and the line."""
        with Vertical(classes="dialog"):
            yield Static(self._heading, classes="heading", markup=False)
            field = Input(clean(self._value), select_on_focus=True)
            field.cursor_blink = False
            yield field
            yield Static(self._why, id="why", classes="why last", markup=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what the text would do."""
        if self._on_change is not None:
            self.query_one("#why", Static).update(f"{self._why}\n{self._on_change(event.value)}")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the text."""
        self.dismiss(event.value)
