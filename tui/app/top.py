"""The app of `traintop top`: the screen of the cards alone, without an engine behind it."""

from __future__ import annotations

import logging
import os
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.screen import Screen

from engine.session.cards import CardWatch
from tui.screens.cards import PAINT_S, CardsScreen
from tui.terminal.drivers import patient
from tui.terminal.link import Link
from tui.terminal.palette import DARK, LIGHT, SIXTEEN, THEMES
from tui.terminal.signals import Signals

SIGNALS_S = 1.0


class TopApp(App[str]):
    """All cards of the machine. `run()` returns "quit", "terminated" after a SIGTERM, "hangup" without a terminal."""

    TITLE = "traintop top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q,ctrl+c", "quit_top", "quit", show=False, priority=True)]

    def __init__(
        self,
        watch: CardWatch,
        *,
        signals: Signals | None = None,
        theme: str | None = None,
        link: Link | None = None,
        paint_s: float = PAINT_S,
    ) -> None:
        two_colours = "NO_COLOR" in os.environ
        super().__init__(
            css_path=["app.tcss", "two-colours.tcss"] if two_colours else "app.tcss",
            ansi_color=True if two_colours else None,
        )
        for name in ("COLUMNS", "LINES"):  # an exported size would win over the terminal's own, for good
            os.environ.pop(name, None)
        for each in (SIXTEEN if self.console.color_system == "standard" else THEMES).values():
            self.register_theme(each)
        self.set_reactive(TopApp.theme, theme or next(iter(THEMES)))
        self.stylesheet.set_variables(self.get_css_variables())
        self.link = link or Link()
        self._watch, self._signals, self._paint_s = watch, signals, paint_s

    def get_driver_class(self) -> type[Driver]:
        """A driver that does not wait for a terminal that stops reading, where there is one."""
        return patient(super().get_driver_class())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The categories' colours."""
        return DARK if self.current_theme.dark else LIGHT

    def get_default_screen(self) -> Screen[None]:
        """The cards."""
        return CardsScreen(self._watch, leave=self.action_quit_top, paint_s=self._paint_s)

    def on_mount(self) -> None:
        """Nothing moves, and signals are looked at now and then."""
        self.animation_level = "none"
        if self._signals is not None:
            self.set_interval(SIGNALS_S, self._obey)

    def _obey(self) -> None:
        assert self._signals is not None
        if self._signals.hung_up:
            self.exit("hangup")
        elif self._signals.to_leave:
            self.exit("terminated")

    def action_quit_top(self) -> None:
        """Leave."""
        self.exit("quit")

    def _fatal_error(self) -> None:
        """The traceback belongs in the log file, not on the terminal."""
        logging.getLogger("traintop").error("the screen failed", exc_info=self._exception)
        self._close_messages_no_wait()
