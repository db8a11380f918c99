"""Painting the panes at the pace of the terminal's link."""

from __future__ import annotations

from contextlib import ExitStack

from textual.app import App

from tui.screens.main import MainScreen
from tui.state.state import State
from tui.terminal.link import Link

HOLD_S = 0.3
"""After so long without anything taken nothing at all is drawn, dialogs and new sizes neither."""
PAINT_EVERY, SLOW_PAINT_EVERY = 5, 25
"""Turns between two repaints of running numbers and plots; keys and a run's start and end are shown at once."""
WRITTEN_EVERY = 2
"""Of these repaints, while a model writes: the others show its answer alone. Whoever draws takes from who computes."""


class Painter:
    """Paints nothing while what was painted before has not left. Owns what is still to be painted, and the hold."""

    def __init__(self, app: App[str], state: State, link: Link, *, slow_link: bool = False) -> None:
        self._app, self._state, self.link = app, state, link
        self._every = SLOW_PAINT_EVERY if slow_link else PAINT_EVERY
        self._whole_every = self._every if slow_link else self._every * WRITTEN_EVERY
        self._turns = 0
        self._unpainted = False
        self._owed = False
        """Something should have been shown while the link was behind."""
        self._hold: ExitStack | None = None
        self._missed = False
        """A dialog or a new size was to be drawn while all drawing was held."""
        self._resized: bool | None = None
        """The terminal was given a size since the last turn; None before the first, which draws everything anyway."""

    @property
    def main(self) -> MainScreen | None:
        """The panes' screen, below any dialog."""
        main = self._app.screen_stack[0]
        return main if isinstance(main, MainScreen) else None

    def paint(self, *, answer_alone: bool = False) -> None:
        """Show the state in all panes, or in that of the answer, which leaves the others still to be painted."""
        main = self.main
        # an app that is being left takes its panes away first;
        # under a dialog every changed cell would make Textual repaint the dialog over it
        if main is None or not self._app.is_running or self._app.screen is not main:
            return
        self._owed = self.link.behind
        if self._owed:
            return
        if answer_alone:
            main.show_answer(self._state)
        else:
            self._unpainted = False
            main.show(self._state)

    def mark(self) -> None:
        """Something changed that one of the next turns shows."""
        self._unpainted = True

    def turn(self, at_once: bool) -> None:
        """Paint when it is time, or `at_once` where something changed; stop and go on as the terminal reads."""
        self._turns += 1
        if self._unpainted and (at_once or self._turns % self._every == 0):
            writes = self._state.running and self._state.scores is False
            self.paint(answer_alone=writes and not at_once and self._turns % self._whole_every != 0)
        self._mind_link()

    def resized(self) -> None:
        """Draw everything again: a size that went there and back looks like none, but the terminal cut what it had."""
        self._resized = None if self._resized is None else True

    def drawn(self) -> None:
        """Textual has drawn something, or has let it be: while held, that is lost."""
        self._missed |= self._hold is not None

    def _mind_link(self) -> None:
        """Stop drawing while the terminal does not read; once it does again, draw the newest screen."""
        if self._resized:
            self._app.screen.refresh()
        self._resized = False
        if self._hold is None and self.link.waiting_s > HOLD_S:
            self._hold = ExitStack()
            self._hold.enter_context(self._app.batch_update())
        elif self._hold is not None and not self.link.behind:
            self._hold.close()
            self._hold = None
            if self._missed:
                self._app.screen.refresh()
            self._missed = False
            self.paint()
        elif self._owed and not self.link.behind:
            self.paint()
