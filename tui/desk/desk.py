"""Desk: the screen as the controllers see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from textual.app import App
from textual.screen import Screen
from textual.widget import Widget

from tui.desk.painter import Painter
from tui.screens.main import MainScreen
from tui.state.state import State

Answer = TypeVar("Answer")


class Desk:
    """What is shown, where the focus is, answering a key, opening a dialog. Owns nothing: it brings together."""

    def __init__(self, app: App[str], state: State, painter: Painter) -> None:
        self.app, self.state, self.painter = app, state, painter

    @property
    def main(self) -> MainScreen | None:
        """The panes' screen, below any dialog."""
        return self.painter.main

    @property
    def shows_panes(self) -> bool:
        """Whether no dialog is open."""
        return self.app.screen is self.main

    @property
    def focused(self) -> Widget | None:
        """The pane, or the part of a dialog, that keys go to."""
        return self.app.focused

    @property
    def on_results(self) -> bool:
        """Whether keys mean the run under the cursor, not the next one."""
        return self.focused is not None and self.focused.id == "results"

    def say(self, notice: str = "") -> None:
        """Answer a key in the last line, or take the last answer away; then paint."""
        self.state.notice = notice
        self.painter.paint()

    def open(self, dialog: Screen[Answer], then: Callable[[Answer | None], object] | None = None) -> None:
        """Open a dialog; `then` is told its answer, None where it has none, and the panes are shown anew."""

        def closed(answer: Answer | None) -> None:
            if then is not None:
                then(answer)
            self.paint_soon()

        self.app.push_screen(dialog, closed)

    def show_error(self, heading: str, message: str) -> None:
        """Say something that must not be overlooked."""
        from tui.screens.details import DetailsScreen

        self.painter.paint()  # under the dialog the panes stand still: not as they were before what it tells
        self.open(DetailsScreen(heading, [message], bad=True))

    def paint_soon(self) -> None:
        """Show what happened once Textual has laid out what it is about to."""
        self.app.call_after_refresh(self.painter.paint)
