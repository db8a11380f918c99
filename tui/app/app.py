"""TraintopApp: drains the engine's mailbox on a timer, folds it into the state, repaints what changed, obeys keys."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.driver import Driver
from textual.screen import Screen

from engine.contract.config import RunConfig
from engine.contract.events import EngineFailed, Forecasted, PlanFinished, Proposed, RunFinished
from engine.contract.records import Outcome
from engine.history.history import HistoryError
from tui.actions.alerts import AlertActions
from tui.actions.cursor import CursorActions
from tui.actions.keys import COMMANDS, CURSOR_KEYS, KEYS
from tui.actions.knobs import KnobActions
from tui.actions.plans import RunActions
from tui.actions.read_only import PLAYBACK_KEYS, ReadOnlyActions
from tui.actions.view import ViewActions
from tui.drawing.key_names import key_name
from tui.screens.main import SHORT, MainScreen
from tui.state.alerts import Alerts
from tui.state.fold import fold
from tui.state.knobs import KnobEditor
from tui.state.state import ROWS, State
from tui.terminal.link import Link
from tui.terminal.palette import DARK, LIGHT, SIXTEEN, THEMES

if TYPE_CHECKING:
    from engine.history.history import History
    from engine.session.engine import Engine
    from tui.terminal.signals import Signals

DRAIN_S = 0.1
PAINT_EVERY, SLOW_PAINT_EVERY = 5, 25
"""Drains between two repaints of running numbers and plots; keys and a run's start and end are shown at once."""
STOP_WAIT_S = 8.0
"""How long a SIGTERM waits for the micro-step under way."""


class TraintopApp(ReadOnlyActions, CursorActions, RunActions, KnobActions, ViewActions, AlertActions):
    """The screen over a training session.

    `run()` returns "quit", "kill" when the person would not wait for the run under way, "terminated" after a SIGTERM,
    or "hangup" when the terminal is gone. The session is opened after the first paint; closing it is left to its
    owner. With `read_only` what would change something is refused. `slow_link` repaints less often.
    """

    TITLE = "traintop"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [*CURSOR_KEYS, *PLAYBACK_KEYS, *KEYS]

    def __init__(
        self,
        session: Engine,
        history: History,
        config: RunConfig,
        *,
        read_only: bool = False,
        signals: Signals | None = None,
        theme: str | None = None,
        notices: Iterable[str] = (),
        link: Link | None = None,
        slow_link: bool = False,
        rings: bool = True,
    ) -> None:
        self.link = link or Link()
        # NO_COLOR: the terminal's own two colours, not shades of grey
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        if "TEXTUAL_DRIVER" not in os.environ:  # behind a web server they are the browser's size
            for name in ("COLUMNS", "LINES"):  # an exported size would win over the terminal's own, for good
                os.environ.pop(name, None)
        for each in (SIXTEEN if self.console.color_system == "standard" else THEMES).values():
            self.register_theme(each)
        self.theme = theme or next(iter(THEMES))
        self.session = session
        self.history = history
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (SHORT, "-tall")]
        self.state = State(editor=KnobEditor(config))
        self.read_only = read_only
        if read_only:
            self.state.playback, self.state.loading = self.playback_label, None
        self._signals = signals
        self._notices = tuple(notices)
        self._shown_key: events.Key | None = None
        self.alerts, self.rings = Alerts(), rings
        self._paint_every = SLOW_PAINT_EVERY if slow_link else PAINT_EVERY
        self._ticks = 0
        self._leaving: str | None = None
        """What `run()` returns once the run under way has stopped."""

    def get_driver_class(self) -> type[Driver]:
        """A driver that does not wait for a terminal that stops reading, where there is one."""
        textuals = super().get_driver_class()
        if textuals.__name__ != "LinuxDriver":
            return textuals
        from tui.terminal.driver import LinkDriver

        return LinkDriver

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The categories' colours."""
        return DARK if self.current_theme.dark else LIGHT

    def get_default_screen(self) -> Screen[None]:
        """The panes."""
        return MainScreen(self.state)

    def on_mount(self) -> None:
        """Paint first; the engine's imports and the history come after."""
        self.animation_level = "none"
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.session.open()
        self.set_interval(DRAIN_S, self.tick)
        try:
            if self.replay is None:  # a recording tells its runs one by one
                self.state.add_history(self.history.runs(limit=ROWS, newest_first=True))
                self._pinned(self.history.baseline())
            self.state.take_notes(self.history.notes())
        except HistoryError as error:
            self._say(str(error))
        if self.read_only:
            self._leave_knobs_alone()
        else:
            self._offer_plans()
        for notice in self._notices:
            self.state.write("engine", notice, "warning")
            self.state.notice = notice
        self._paint()
        if self.history.notice:  # longer than a line, and it names a file
            self.state.write("history", self.history.notice, "warning")
            self._show_error("The history was damaged", self.history.notice)

    def _fatal_error(self) -> None:
        """A defect of the screen: its traceback belongs in the log file, not on the terminal."""
        logging.getLogger("traintop").error("the screen failed", exc_info=self._exception)
        self._close_messages_no_wait()

    # engine to screen -------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Drain the mailbox, fold, and repaint when it is time."""
        if self._signals is not None:
            self._obey(self._signals)
        at_once = False
        for event in self.session.drain():
            at_once |= fold(self.state, event)
            self._unpainted = True
            self._see(event)
            self._show_baseline(event)
            if isinstance(event, Forecasted):
                self._show_timeline(event)
            elif isinstance(event, PlanFinished) and not self.read_only and self._leaving is None:
                self._plan_finished(event)
            elif isinstance(event, Proposed):
                self._show_proposals(event)
            elif isinstance(event, EngineFailed):
                self._show_error("The engine could not start", event.message)
            elif isinstance(event, RunFinished) and event.record.outcome is Outcome.FAILED:
                self._show_error(f"Run {event.record.run_id} failed", event.record.message or "")
        if self._caption():
            at_once = self._unpainted = True
        self._read_ghost()
        self._ask_forecast()
        self._keep_watch()
        self._read_meter()
        self._ticks += 1
        if self._unpainted and (at_once or self._ticks % self._paint_every == 0):
            self._paint()
        self._mind_link()
        if self._leaving is not None and not self.session.busy:
            self.exit(self._leaving)

    def _obey(self, signals: Signals) -> None:
        """Leave when the process is asked to end, or its terminal is gone."""
        if signals.hung_up:
            self.exit("hangup")
        elif signals.terminations > 1:
            self.exit("kill")
        elif signals.terminations and self._leaving != "terminated":
            self._leaving = "terminated"
            self._stop_all()
            self.set_timer(STOP_WAIT_S, lambda: self.exit("terminated"))

    def _paint(self) -> None:
        # under a dialog every changed cell would make Textual repaint the dialog over it
        if self.main is None or self.screen is not self.main:
            return
        self._owed = self.link.behind
        if not self._owed:
            self._unpainted = False
            self.state.playback = self.playback_label
            self.main.show(self.state)

    async def on_event(self, event: events.Event) -> None:
        """While presenting, show those who watch which key was pressed."""
        # a key that a pane has no use for comes back here
        if isinstance(event, events.Key) and self.state.view.presenter and event is not self._shown_key:
            self._shown_key = event
            self.state.view.pressed(key_name(event.key))
            self.call_after_refresh(self._paint)
        await super().on_event(event)

    # keys -------------------------------------------------------------------------------------------------------

    async def action_quit(self) -> None:
        """Leave; while a run is under way, ask how."""
        if not self.session.busy or self.state.failed:
            self.exit("quit")
            return
        from tui.screens.question import QuitScreen

        if isinstance(self.screen, QuitScreen):  # Ctrl-C: the second time it stops the run, the third it is left
            self.screen.dismiss("stop" if self._leaving is None else "kill")
        else:
            self.push_screen(QuitScreen(self.state), self._leave)

    def _leave(self, how: str | None) -> None:
        if how == "kill":
            self.exit("kill")
            return
        if how == "stop":
            self._leaving = "quit"
            self._stop_all()
            self.state.notice = "quitting when the run has stopped"
        self._back()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action, and every knob by name."""
        for name, what, action in COMMANDS:
            if self.check_action(action.partition("(")[0], ()):
                yield SystemCommand(name, what, partial(self.run_action, action))
