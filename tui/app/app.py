"""TraintopApp: drains the engine's mailbox on a timer, folds it into the state, repaints what changed, obeys keys."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual._context import active_message_pump
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.dom import DOMNode
from textual.driver import Driver
from textual.message import Message
from textual.screen import Screen

from engine.contract.changes import Note, Pin
from engine.contract.config import RunConfig
from engine.contract.events import (
    EngineFailed,
    Event,
    Forecasted,
    HistoryChanged,
    PlanFinished,
    Proposed,
    RunFinished,
    ScriptMade,
    Surveyed,
)
from engine.contract.records import Outcome
from tui.actions.cursor import MOVING
from tui.actions.keys import COMMANDS, CURSOR_KEYS, KEYS, knob_commands
from tui.actions.read_only import LOCAL, LOOKING, PLAYBACK_KEYS
from tui.app.controllers import Controllers
from tui.screens.main import SHORT, MainScreen
from tui.state.fold import fold
from tui.state.knob_list import LETTERS
from tui.state.knobs import KnobEditor
from tui.state.state import State
from tui.terminal.drivers import patient
from tui.terminal.link import Link
from tui.terminal.palette import DARK, LIGHT, SIXTEEN, THEMES

if TYPE_CHECKING:
    from engine.session.engine import Engine
    from tui.terminal.signals import Signals

DRAIN_S = 0.1


class TraintopApp(App[str]):
    """The screen over a training session.

    `run()` returns "quit", "kill" when the person would not wait for the run under way, "terminated" after a SIGTERM,
    or "hangup" when the terminal is gone. The session is opened after the first paint; closing it is left to its
    owner. With `read_only` what would change something is refused. `slow_link` repaints less often.
    """

    TITLE = "traintop"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [*CURSOR_KEYS, *PLAYBACK_KEYS, *KEYS]

    def __init__(
        self,
        session: Engine,
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
        # NO_COLOR: the terminal's own two colours, not shades of grey
        two_colours = "NO_COLOR" in os.environ
        super().__init__(
            css_path=["app.tcss", "two-colours.tcss"] if two_colours else "app.tcss",
            ansi_color=True if two_colours else None,
        )
        if "TEXTUAL_DRIVER" not in os.environ:  # behind a web server they are the browser's size
            for name in ("COLUMNS", "LINES"):  # an exported size would win over the terminal's own, for good
                os.environ.pop(name, None)
        for each in (SIXTEEN if self.console.color_system == "standard" else THEMES).values():
            self.register_theme(each)
        self._begin_with(theme or next(iter(THEMES)))
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (SHORT, "-tall")]
        self.session = session
        self.state = State(editor=KnobEditor(config))
        self.link = link or Link()  # the driver's too
        self.controllers = Controllers(
            self,
            self.state,
            session,
            link=self.link,
            slow_link=slow_link,
            signals=signals,
            rings=rings,
            read_only=read_only,
        )
        self._actions = self.controllers.actions()
        for name, do in self._actions.items():
            setattr(self, f"action_{name}", do)  # where Textual looks an action up
        self.read_only = read_only
        if read_only:
            self.state.loading = None
            self.controllers.read_only.name()
        self._notices = tuple(notices)
        self._has_begun = False
        self.unopened: Exception | None = None
        """Why there is nothing behind the screen; `run()` has returned at once then."""
        self._at_once = False
        """Whether this turn has something that is to be shown at its end."""

    def _begin_with(self, theme: str) -> None:
        """Have a theme from the start. Setting one is a change, after which every rule is parsed and applied again."""
        found = self.get_theme(theme)
        if found is None or not found.dark:
            self.theme = theme
            return
        self.set_reactive(TraintopApp.theme, theme)
        self.stylesheet.set_variables(self.get_css_variables())

    def get_driver_class(self) -> type[Driver]:
        """A driver that does not wait for a terminal that stops reading, where there is one."""
        return patient(super().get_driver_class())

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
        if not gc.isenabled():  # off since the process began
            gc.freeze()
            gc.enable()
        does = self.controllers
        self._has_begun = True
        try:
            self.session.open()
        except Exception as error:
            self.unopened = error
            self.exit()
            return
        self.set_interval(DRAIN_S, self.tick)
        for notice in self._notices:
            self.state.write("engine", notice, "warning")
            self.state.notice = notice
        does.earlier.begin(alone=does.read_only.replay is not None, offers_plans=not self.read_only)
        does.read_only.leave_knobs_alone()
        does.painter.paint()

    # engine to screen -------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Drain the mailbox, fold, and repaint when it is time. A part that fails is told, and keeps no other back."""
        does = self.controllers
        self._try(does.quitting.obey_signals)
        self._at_once = False
        for event in self.session.drain():
            does.painter.mark()
            self._try(partial(self._take, event))
        for step in (
            self._caption,
            does.read_only.name,
            does.baseline.read_on,
            does.ranks.follow,
            lambda: does.forecasts.ask(does.explain.config),
            does.alerts.keep_watch,
            does.asking.turn,
            does.meter.read,
            lambda: does.painter.turn(self._at_once),
            does.quitting.leave_if_stopped,
        ):
            self._try(step)

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            self.controllers.faults.take(error, None)

    def _take(self, event: Event) -> None:
        self._at_once |= fold(self.state, event)
        self._hand_on(event)

    def _caption(self) -> None:
        if self.controllers.presenter.caption():
            self._at_once = True
            self.controllers.painter.mark()

    def _hand_on(self, event: Event) -> None:
        """Let those controllers have an event, just folded, that do more about it than show the state."""
        does = self.controllers
        does.alerts.see(event)
        does.asking.see(event)
        does.read_only.show_baseline(event)
        if isinstance(event, RunFinished):
            does.baseline.ended(event.record)
        if isinstance(event, Forecasted):
            does.explain.show(event)
        elif isinstance(event, Proposed):
            does.forecasts.show(event)
        elif isinstance(event, Surveyed):
            does.cards.show(event)
        elif isinstance(event, ScriptMade):
            does.hand_over.take_script(event)
        elif isinstance(event, HistoryChanged):
            self._settle(event)
        elif isinstance(event, PlanFinished) and not self.read_only and not does.quitting.is_leaving:
            does.plans.finished(event)
        elif isinstance(event, EngineFailed):
            does.desk.show_error("The engine could not start", event.message)
        elif isinstance(event, RunFinished) and event.record.outcome is Outcome.FAILED and self.state.plan is None:
            does.desk.show_error(f"Run {event.record.run_id} failed", event.record.message or "")

    def _settle(self, event: HistoryChanged) -> None:
        change = event.change
        if isinstance(change, Pin):
            self.controllers.baseline.settle(event, change)
        elif isinstance(change, Note):
            self.controllers.results.settle_note(event, change)
        else:
            self.controllers.results.settle_list(event, change)

    # defects of the screen --------------------------------------------------------------------------------------

    def _handle_exception(self, error: Exception) -> None:
        """Textual would end the app. A dialog that fails closes; only before the first paint there is no going on."""
        if not self._has_begun:
            super()._handle_exception(error)
            return
        self.controllers.faults.take(error, active_message_pump.get(None))

    def _fatal_error(self) -> None:
        """Before the first paint: the traceback belongs in the log file, not on the terminal."""
        logging.getLogger("traintop").error("the screen failed", exc_info=self._exception)
        self._close_messages_no_wait()

    async def _dispatch_message(self, message: Message) -> None:
        try:  # what leaves this ends the app's loop
            await super()._dispatch_message(message)
        except Exception as error:
            self._handle_exception(error)

    async def _dispatch_action(self, namespace: DOMNode, action_name: str, params: object) -> bool:
        try:
            return await super()._dispatch_action(namespace, action_name, params)
        except Exception as error:
            self.controllers.faults.take(error, namespace, f"“{action_name.replace('_', ' ')}”")
            return True

    # terminal and keys ------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """The terminal was given a size."""
        self.controllers.painter.resized()

    def post_display_hook(self) -> None:
        """Textual has drawn something, or has let it be."""
        self.controllers.painter.drawn()

    async def on_event(self, event: events.Event) -> None:
        """While presenting, show those who watch which key was pressed."""
        if isinstance(event, events.Key):
            self.controllers.presenter.see_key(event)
        await super().on_event(event)

    def on_key(self, event: events.Key) -> None:
        """Answer a key that does nothing here."""
        self.controllers.read_only.answer(event.key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """False where its key is not there; None, which says so when the key is pressed, where it is refused."""
        if action.startswith("replay_"):
            return self.controllers.read_only.replay is not None
        if self.read_only and not self._is_harmless(action):
            return None
        if action == "step" and parameters[0] not in LETTERS[self.state.editor.config.job]:
            return False  # the key is another knob's in this job
        if action in MOVING:
            return self.controllers.cursor.can_move
        return super().check_action(action, parameters)

    def _is_harmless(self, action: str) -> bool:
        if action in LOCAL:
            return not self.is_web
        if action in self._actions:
            return action in LOOKING
        name = f"action_{action}"
        return getattr(type(self), name, None) is getattr(App, name, None)  # Textual's own

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action, and every knob by name."""
        for name, what, action in (*COMMANDS, *knob_commands(self.state.editor.config)):
            if self.check_action(action.partition("(")[0], ()):
                yield SystemCommand(name, what, partial(self.run_action, action))
