"""Leaving while a run is under way."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.state import State, describe

_CHOICES = (
    ("stop", "s  stop and quit: ends after this micro-step, the row is kept"),
    ("wait", "w  keep waiting: the run goes on"),
    ("kill", "k  quit now: the run ends as interrupted"),
)


class QuitScreen(ModalScreen[str]):
    """Dismissed with "stop", "wait" or "kill"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "choose('stop')", "stop and quit"),
        Binding("w,escape,q", "choose('wait')", "keep waiting"),
        Binding("k", "choose('kill')", "quit now"),
    ]

    def __init__(self, state: State) -> None:
        super().__init__()
        run = state.run if state.running else None
        self._what = f"Run {run.run_id} is under way: {describe(run.config)}." if run else "A run is about to start."

    def compose(self) -> ComposeResult:
        """What is under way, and three ways on."""
        with Vertical(classes="dialog"):
            yield Static("Quit?", classes="heading", markup=False)
            yield Static(self._what, classes="why", markup=False)
            yield OptionList(*(Option(text, id=name) for name, text in _CHOICES), markup=False)

    def action_choose(self, how: str) -> None:
        """Take a choice by its letter."""
        self.dismiss(how)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the choice under the cursor."""
        self.dismiss(event.option_id or "wait")
