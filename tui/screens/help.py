"""The keys of where you are, and what the knob under the cursor does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from tui.drawing.cells import cut
from tui.drawing.key_names import key_name
from tui.screens.dialog import Dialog
from tui.state.knobs import KnobEditor, bounds

_COLUMN, _KEY = 41, 7
"""Columns of a key with what it does, at most, and of the key alone."""
_NARROW = 20
"""Columns below which a key with what it does has a line to itself."""
_UNSAID = {"ctrl+q", "ctrl+c", "super+c"}


class HelpScreen(Dialog[None]):
    """Closed by any of the usual keys."""

    TITLE = "The help"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,question_mark,space", "dismiss", "close")]

    def __init__(self, bindings: Iterable[ActiveBinding], editor: KnobEditor) -> None:
        super().__init__()
        keys: dict[tuple[str, str], list[str]] = {}
        for active in bindings:
            binding = active.binding
            if active.enabled and binding.description and binding.key not in _UNSAID:
                keys.setdefault((binding.action, binding.description), []).append(key_name(binding.key))
        self._keys = [(" ".join(names), what) for (_, what), names in keys.items()]
        self._editor = editor

    def compose(self) -> ComposeResult:
        """The knob, then the keys, in two columns where there is room."""
        knob = self._editor.knob
        with Vertical(classes="dialog -wide"), VerticalScroll():
            yield Static(f"{knob.label}   {knob.flag}", classes="heading", markup=False)
            yield Static(f"{knob.why}\n{bounds(knob)}", classes="why", markup=False)
            yield Static("Keys here", classes="heading", markup=False)
            width = min(_COLUMN, (self.app.size.width - 10) // 2)
            keys = _two_columns(self._keys, width) if width >= _NARROW else _one_column(self._keys)
            yield Static(keys, classes="last")


def _two_columns(keys: list[tuple[str, str]], width: int) -> Text:
    """The keys in two columns of `width`, the first half on the left."""
    half = (len(keys) + 1) // 2
    text = Text()
    for index in range(half):
        for key, what in keys[index::half]:
            text.append(f"{key:>{_KEY}}  ", "bold")
            text.append(f"{cut(what, width - _KEY - 3):<{width - _KEY - 2}}")
        text.append("\n")
    text.rstrip()
    return text


def _one_column(keys: list[tuple[str, str]]) -> Text:
    """The keys one by one; what is too long for its line goes on in the next."""
    return Text("\n").join(Text.assemble((f"{key:>{_KEY}}", "bold"), f"  {what}") for key, what in keys)
