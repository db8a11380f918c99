"""All cards of the machine, a line each, and below each who is on it."""

from __future__ import annotations

from textual import events
from textual.message import Message

from tui.drawing.cells import Line
from tui.drawing.text import clean
from tui.panes.base import Canvas
from tui.state.card_lines import HEAD, screen_lines
from tui.state.cards import CardsView


class CardsPane(Canvas, can_focus=True):
    """Paints a `CardsView`. A click puts the cursor on a row."""

    class Clicked(Message):
        """A row was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, view: CardsView, heading: str, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self.view, self._heading = view, clean(heading, 60)

    def drawn(self, width: int, height: int) -> list[Line]:
        """Title, headings, rows and the keys."""
        return screen_lines(self.view, self._heading, width, height)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row that was clicked."""
        if event.y >= HEAD:
            self.post_message(self.Clicked(self.view.top + event.y - HEAD))
