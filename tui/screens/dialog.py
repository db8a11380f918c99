"""Dialog: what lies over the main screen, and writes to the terminal as that does."""

from __future__ import annotations

from textual.message import Message
from textual.screen import ModalScreen, ScreenResultType

from tui.terminal.spans import SpanCompositor


class Dialog(ModalScreen[ScreenResultType]):
    """The base of all dialogs: nothing in them is obeyed by the terminal, and one that fails closes."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = SpanCompositor()

    async def _dispatch_message(self, message: Message) -> None:
        try:  # what leaves this would end the dialog's loop before it can be closed in order
            await super()._dispatch_message(message)
        except Exception as error:
            self.app._handle_exception(error)
