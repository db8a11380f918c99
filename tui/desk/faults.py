"""What becomes of a defect of the screen: the dialog it is in closes, one sentence tells, and the run goes on."""

from __future__ import annotations

import logging
import traceback

from textual.dom import DOMNode, NoScreen
from textual.message_pump import MessagePump
from textual.screen import ModalScreen, Screen

from tui.desk.desk import Desk

DETAILS = "details are in the log file"

log = logging.getLogger("traintop")


class Faults:
    """Owns which defects were told: one in a place that is drawn ten times a second is told once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told: set[str] = set()
        self.errors: list[Exception] = []
        """The defects, each once."""

    def take(self, error: Exception, where: MessagePump | None, what: str = "Something on the screen") -> None:
        """Close the dialog that `where` belongs to, or (there is none) say that `what` failed."""
        dialog = _dialog_of(where)
        if dialog is not None:
            what = str(dialog.TITLE or "The dialog")
        place = _place(error)
        is_new = place not in self._told
        if is_new:
            self._told.add(place)
            self.errors.append(error)
            log.error("%s failed on the screen", what, exc_info=error)
        if dialog is not None and dialog in self._desk.app.screen_stack:
            self._close(dialog)
            self._tell(f"{what} could not be shown: {DETAILS}")
        elif is_new and dialog is None:
            self._tell(f"{what} failed: {DETAILS}")

    def _close(self, dialog: Screen[object]) -> None:
        """Close a dialog, and those above it, as if each had been left without an answer."""
        stack = self._desk.app.screen_stack
        for screen in reversed(stack[stack.index(dialog) :]):
            screen.dismiss()

    def _tell(self, sentence: str) -> None:
        self._desk.state.write("screen", sentence, "error")
        self._desk.state.notice = sentence
        self._desk.paint_soon()


def _dialog_of(where: MessagePump | None) -> Screen[object] | None:
    if not isinstance(where, DOMNode):
        return None
    try:
        screen = where if isinstance(where, Screen) else where.screen
    except NoScreen:
        return None
    return screen if isinstance(screen, ModalScreen) else None


def _place(error: Exception) -> str:
    """What failed where: the kind of the error and the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return f"{type(error).__name__} {last[0].filename}:{last[0].lineno}" if last else repr(error)
