"""Choosing a model: one of those that are known by name, or what is typed."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.contract.config import KNOBS
from engine.contract.numbers import UNKNOWN
from engine.models.catalogue import ARCHITECTURES, matching
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.state.knobs import KnobEditor

_KEYS = "↑↓ choose   Enter takes it   a hub name or a folder as it is typed   Esc stays"
_NAME, _SIZE = 30, 9
"""Columns of a model's name and of its size."""


class ChooseModelScreen(Dialog[None]):
    """A line, and beneath it the models that have its words. What the configuration refuses is said here."""

    TITLE = "The model"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "cancel"),
        Binding("up", "move(-1)", "the one above", priority=True),
        Binding("down", "move(1)", "the one below", priority=True),
    ]

    def __init__(self, editor: KnobEditor) -> None:
        super().__init__()
        self._editor = editor
        self._names: list[str] = []

    def compose(self) -> ComposeResult:
        """The line with the model of now, why one turns it, and the list."""
        with Vertical(classes="dialog -wide"):
            yield Static("model", classes="heading", markup=False)
            yield Static(KNOBS["model"].why, classes="why", markup=False)
            field = Input(clean(self._editor.config.model), placeholder="a name, a hub name or a local folder")
            field.cursor_blink = False
            yield field
            choices = OptionList(markup=False, classes="more lines")
            choices.can_focus = False
            yield choices
            yield Static(_KEYS, id="bounds", classes="why last", markup=False)

    def on_mount(self) -> None:
        """Every model, with the cursor on that of the configuration."""
        self._list("")
        own = self._editor.config.model.lower()
        self.query_one(OptionList).highlighted = self._names.index(own) if own in self._names else 0
        self.query_one(Input).action_select_all()

    def on_input_changed(self, event: Input.Changed) -> None:
        """List what has the words; the model of now is shown among all."""
        if event.value != self._editor.config.model:
            self._list(event.value)

    def _list(self, query: str) -> None:
        self._names = matching(query)
        choices = self.query_one(OptionList)
        choices.clear_options()
        choices.add_options(Option(_line(name)) for name in self._names)
        choices.highlighted = 0 if self._names else None

    def action_move(self, delta: int) -> None:
        """Move through the list; what is typed stays."""
        choices = self.query_one(OptionList)
        if self._names:
            choices.highlighted = max(0, min(len(self._names) - 1, (choices.highlighted or 0) + delta))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the one under the cursor, or what was typed where that is a hub name, a folder or none of them."""
        typed, place = event.value.strip(), self.query_one(OptionList).highlighted
        is_elsewhere = "/" in typed or "\\" in typed or typed.startswith((".", "~"))
        self._take(typed if is_elsewhere or place is None else self._names[place])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the one that was clicked."""
        self._take(self._names[event.option_index])

    def _take(self, name: str) -> None:
        if self._editor.type("model", name):
            self.dismiss()
            return
        hint = self.query_one("#bounds", Static)
        hint.add_class("refusal")
        hint.update(self._editor.problem.message if self._editor.problem else "")


def _line(name: str) -> Text:
    each = ARCHITECTURES[name]
    size = _size(each.n_parameters)
    return Text.assemble(f"{name:<{_NAME}}", f"{size:>{_SIZE}}  ", (each.hub_name or "random weights only", "dim"))


def _size(n_parameters: int | None) -> str:
    """Three digits of it, in millions or billions."""
    if n_parameters is None:
        return UNKNOWN
    return f"{n_parameters / 1e9:,.3g} B" if n_parameters >= 1e9 else f"{n_parameters / 1e6:,.3g} M"
