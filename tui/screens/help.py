"""The keys of where you are, by what they are for, and what the knob under the cursor does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from engine.contract.config import KNOBS, RunConfig
from tui.drawing.cells import cut
from tui.drawing.key_names import key_name
from tui.screens.dialog import Dialog
from tui.screens.main import SHORT
from tui.state.key_groups import in_order
from tui.state.knob_list import Row, label_of
from tui.state.knobs import bounds, why

_COLUMN, _KEY = 41, 7
"""Columns of a key with what it does, at most, and of the key alone."""
_NARROW = 20
"""Columns below which a key with what it does has a line to itself."""
_AROUND, _TIGHT_AROUND = 5, 3
"""Rows of the dialog that are not its text: edges and the last line; in a low terminal there are no blank ones."""
_UNSAID = {"ctrl+q", "ctrl+c", "super+c"}

Keys = list[tuple[str, str]]
"""Keys, and what they do."""


class HelpScreen(Dialog[None]):
    """Closed by any of the usual keys."""

    TITLE = "The help"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,question_mark,space", "dismiss", "close")]

    def __init__(self, bindings: Iterable[ActiveBinding], pane: str, row: Row, config: RunConfig) -> None:
        super().__init__()
        by_action: dict[str, dict[str, list[str]]] = {}
        for active in bindings:
            binding = active.binding
            if active.enabled and binding.description and binding.key not in _UNSAID:
                names = by_action.setdefault(binding.action, {}).setdefault(binding.description, [])
                names.append(key_name(binding.key))
        self._groups: dict[str, Keys] = {
            heading: [(" ".join(names), what) for action in actions for what, names in by_action[action].items()]
            for heading, actions in in_order(by_action, pane).items()
        }
        self._row, self._config = row, config

    def compose(self) -> ComposeResult:
        """The knob, then the keys by group, in two columns where there is room."""
        with Vertical(classes="dialog -wide"):
            with VerticalScroll():
                if self._row.knob:
                    knob = KNOBS[self._row.knob]
                    yield Static(f"{label_of(self._row)}   {knob.flag}", classes="heading", markup=False)
                    may = "" if self._row.own else bounds(knob)
                    yield Static(f"{why(self._config, self._row)}\n{may}".strip(), classes="why", markup=False)
                width = min(_COLUMN, (self.app.size.width - 12) // 2)
                yield Static(_grouped(self._groups, width), classes="last")
            yield Static("↑↓ scroll   Esc closes", classes="why last", markup=False)

    def on_mount(self) -> None:
        """Leave room for the last line."""
        height = self.app.size.height
        around = _TIGHT_AROUND if height < SHORT else _AROUND
        self.query_one(VerticalScroll).styles.max_height = max(3, height * 96 // 100 - around)


def _grouped(groups: dict[str, Keys], width: int) -> Text:
    text = Text()
    for heading, keys in groups.items():
        text.append(f"{heading}\n" if not text else f"\n{heading}\n", "bold underline")
        text.append_text(_two_columns(keys, width) if width >= _NARROW else _one_column(keys))
    return text


def _two_columns(keys: Keys, width: int) -> Text:
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


def _one_column(keys: Keys) -> Text:
    """The keys one by one; what is too long for its line goes on in the next."""
    return Text("\n").join(Text.assemble((f"{key:>{_KEY}}", "bold"), f"  {what}") for key, what in keys)
