"""Dialog: what lies over the main screen, and writes to the terminal as that does."""

from __future__ import annotations

from textual.screen import ModalScreen, ScreenResultType

from tui.terminal.spans import SpanCompositor


class Dialog(ModalScreen[ScreenResultType]):
    """The base of all dialogs: nothing in them is obeyed by the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = SpanCompositor()
