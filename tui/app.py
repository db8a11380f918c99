"""TraintopApp: drains the engine's mailbox on a timer, folds it into the state, repaints what changed, obeys keys."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from engine.config import KNOBS, RunConfig
from engine.events import EngineFailed, Outcome, RunFinished
from engine.history import HistoryError
from tui.keys import COMMANDS, KEYS
from tui.knobs import KnobEditor, shown
from tui.palette import DARK, LIGHT
from tui.screens.main import MainScreen
from tui.state import ROWS, State, fold

if TYPE_CHECKING:
    from engine.history import History
    from engine.session import Session

DRAIN_S = 0.1
PAINT_EVERY = 5
"""Drains between two repaints of running numbers and plots; keys and a run's start and end are shown at once."""


class TraintopApp(App[str]):
    """The screen over a training session.

    `run()` returns "quit", or "kill" when the person would not wait for the run under way. The session is opened
    after the first paint; closing it is left to its owner.
    """

    TITLE = "traintop"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    def __init__(self, session: Session, history: History, config: RunConfig) -> None:
        super().__init__()
        for name in ("COLUMNS", "LINES"):  # an exported size would win over the terminal's own, and resizing do nothing
            os.environ.pop(name, None)
        self.session = session
        self.history = history
        self.state = State(editor=KnobEditor(config))
        self._unpainted = False
        self._ticks = 0
        self._leaving = False

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
            self.state.add_history(self.history.runs(limit=ROWS, newest_first=True))
            self.state.baseline = self.history.baseline()
        except HistoryError as error:
            self._say(str(error))
        self._paint()

    def _fatal_error(self) -> None:
        """A defect of the screen: its traceback belongs in the log file, not on the terminal."""
        logging.getLogger("traintop").error("the screen failed", exc_info=self._exception)
        self._close_messages_no_wait()

    # engine to screen -------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Drain the mailbox, fold, and repaint when it is time."""
        at_once = False
        for event in self.session.drain():
            at_once |= fold(self.state, event)
            self._unpainted = True
            if isinstance(event, EngineFailed):
                self._show_error("The engine could not start", event.message)
            elif isinstance(event, RunFinished) and event.record.outcome is Outcome.FAILED:
                self._show_error(f"Run {event.record.run_id} failed", event.record.message or "")
        self._ticks += 1
        if self._unpainted and (at_once or self._ticks % PAINT_EVERY == 0):
            self._paint()
        if self._leaving and not self.session.busy:
            self.exit("quit")

    def _paint(self) -> None:
        main: Screen[None] = self.screen_stack[0]
        # under a dialog every changed cell would make Textual repaint the dialog over it
        if self.screen is main and isinstance(main, MainScreen):
            self._unpainted = False
            main.show(self.state)

    def _say(self, notice: str = "") -> None:
        """Answer a key in the last line, or take the last answer away; then paint."""
        self.state.notice = notice
        self._paint()

    def _show_error(self, heading: str, message: str) -> None:
        from tui.screens.details import DetailsScreen

        self.push_screen(DetailsScreen(heading, [message], bad=True), self._back)

    def _back(self, _: object = None) -> None:
        """A dialog is gone: show what happened meanwhile."""
        self.call_after_refresh(self._paint)

    # keys: runs -------------------------------------------------------------------------------------------------

    def action_run(self) -> None:
        """Start a run with the knobs as they are; before the engine is ready it waits for it."""
        if self.state.failed:
            self._show_error("The engine could not start", self.state.failed)
        elif self.state.queued or self.state.running or self.session.busy:
            self._say("a run is under way: s stops it")
        else:
            self.state.queued += 1
            self.state.editor.problem = None
            self.session.start(self.state.editor.config)
            self._say()

    def action_stop(self) -> None:
        """Stop after the current micro-step; the row is kept."""
        if not self.session.busy:
            self._say("nothing is running")
            return
        self.state.stopping, self.state.queued = self.state.running, 0
        self.session.stop()
        self._say()

    def action_pin(self) -> None:
        """Make the selected run the baseline, or let go of it."""
        row = self.state.selected
        if row is None or row.outcome is Outcome.RUNNING:
            self._say("pin a finished run")
            return
        pinned = None if row.run_id == self.state.baseline else row.run_id
        try:
            self.history.set_baseline(pinned)
        except HistoryError as error:
            self._say(str(error))
            return
        self.state.baseline = pinned
        self._say("no baseline" if pinned is None else f"run {pinned} is the baseline")

    async def action_quit(self) -> None:
        """Leave; while a run is under way, ask how."""
        if not self.session.busy or self.state.failed:
            self.exit("quit")
            return
        from tui.screens.quit import QuitScreen

        if not isinstance(self.screen, QuitScreen):
            self.push_screen(QuitScreen(self.state), self._leave)

    def _leave(self, how: str | None) -> None:
        if how == "kill":
            self.exit("kill")
            return
        if how == "stop":
            self._leaving = True
            self.action_stop()
            self.state.notice = "quitting when the run has stopped"
        self._back()

    # keys: knobs ------------------------------------------------------------------------------------------------

    def action_step(self, name: str, direction: int) -> None:
        """Turn one knob; at the end of its steps it goes round when it has one key only."""
        self.state.editor.step(name, direction, wrap=name == "dataloader_num_workers")
        self._say()

    def action_turn(self, direction: int) -> None:
        """Turn the knob under the cursor."""
        self.action_step(self.state.editor.selected, direction)

    def action_move_knob(self, delta: int) -> None:
        """Move the cursor through the knobs."""
        self.state.editor.move(delta)
        self._say()

    def action_select_knob(self, name: str) -> None:
        """Put the cursor on a knob."""
        self.state.editor.select(name)
        self._say()

    def action_type_value(self, name: str = "") -> None:
        """Ask for a value of a knob."""
        from tui.screens.value import ValueScreen

        self.push_screen(ValueScreen(self.state.editor, name or self.state.editor.selected), self._back)

    def action_undo(self) -> None:
        """Take the last change of a knob back."""
        name = self.state.editor.undo()
        if name is None:
            self._say("nothing to undo")
            return
        self._say(f"undone: {KNOBS[name].label} {shown(KNOBS[name], getattr(self.state.editor.config, name))}")

    # keys: looking ----------------------------------------------------------------------------------------------

    def action_move_row(self, delta: int) -> None:
        """Move the cursor of the results table."""
        self.state.select(delta)
        self._say()

    def action_select_row(self, run_id: int) -> None:
        """Put the cursor on a run."""
        self.state.selected_run = run_id
        self._say()

    def action_scroll_log(self, delta: int) -> None:
        """Show older or newer lines of the log."""
        self.state.scroll_log(delta)
        self._say()

    def action_log(self) -> None:
        """Show or hide the log."""
        main = self.screen_stack[0]
        if isinstance(main, MainScreen):
            main.toggle_log()
            self.call_after_refresh(self._paint)

    def action_run_details(self) -> None:
        """Everything known about the selected run."""
        from tui.screens.details import run_details

        row = self.state.selected
        if row is not None:
            self.push_screen(run_details(row), self._back)

    def action_help(self) -> None:
        """The keys of where you are."""
        from tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen.active_bindings.values(), self.state.editor), self._back)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action, and every knob by name."""
        for name, what, action in COMMANDS:
            yield SystemCommand(name, what, partial(self.run_action, action))
