"""What all groups of the app's actions stand on: the session, the history, the state, painting and answering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import App
from textual.screen import Screen

from tui.screens.main import MainScreen
from tui.state.state import State

if TYPE_CHECKING:
    from engine.history.history import History
    from engine.session.engine import Engine


class ActionsBase(App[str]):
    """The app as its actions see it. Each group of actions is a class; `tui.app.app.TraintopApp` is all of them."""

    session: Engine
    history: History
    state: State

    @property
    def main(self) -> MainScreen | None:
        """The panes' screen, below any dialog."""
        main = self.screen_stack[0]
        return main if isinstance(main, MainScreen) else None

    @property
    def _on_results(self) -> bool:
        """Whether keys mean the run under the cursor, not the next one."""
        return self.focused is not None and self.focused.id == "results"

    def _paint(self) -> None:
        main: Screen[None] = self.screen_stack[0]
        # under a dialog every changed cell would make Textual repaint the dialog over it
        if self.screen is main and isinstance(main, MainScreen):
            main.show(self.state)

    def _say(self, notice: str = "") -> None:
        """Answer a key in the last line, or take the last answer away; then paint."""
        self.state.notice = notice
        self._paint()

    def _show_error(self, heading: str, message: str) -> None:
        from tui.screens.details import DetailsScreen

        self.push_screen(DetailsScreen(heading, [message], bad=True), self._back)

    def _pinned(self, run_id: int | None) -> None:
        """Show which run is the baseline."""
        self.state.baseline = run_id

    def _back(self, _: object = None) -> None:
        """A dialog is gone: show what happened meanwhile."""
        self.call_after_refresh(self._paint)
