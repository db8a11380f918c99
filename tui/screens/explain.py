"""What `e` tells: a text, and how one update of the configuration fills the memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult, RenderResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted
from tui.drawing.cells import Line, wrap
from tui.drawing.text import clean
from tui.drawing.timeline import timeline
from tui.screens.dialog import Dialog
from tui.screens.main import SHORT
from tui.screens.painted import as_text
from tui.state.explain import held_text

LIMIT = 2000
_SMALL_PICTURE = 7
_AROUND = 5
"""Rows of a tight dialog that are neither text nor picture: edges, heading, the sentence on the picture."""


class TimelineView(Widget):
    """The picture, as wide as the dialog; until the forecast is there, a word on it."""

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.answer: Forecasted | None = None

    def render(self) -> RenderResult:
        """The newest answer."""
        width, height = self.size
        lines: list[Line] = [[("forecasting one update …", "muted")]]
        if self.answer is not None:
            made, why = self.answer.forecast, self.answer.message or "there is no forecast of this configuration"
            lines = timeline(made, width, height, shades=self.app.no_color) if made is not None else []
            lines = lines or [[(line, "muted")] for line in wrap(clean(why, 300), width, height)]
        return as_text(lines, self.app)


class ExplainScreen(Dialog[str]):
    """A heading, lines of text, and the timeline of `config`. Dismissed with "propose" when `h` is pressed."""

    TITLE = "The explanation"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,space,e", "dismiss", "close"),
        Binding("h", "dismiss('propose')", "what fits"),
    ]

    def __init__(
        self, heading: str, lines: Sequence[str], config: RunConfig | None, answer: Forecasted | None = None
    ) -> None:
        super().__init__()
        self._heading = clean(heading, 200)
        self._lines = [clean(line, LIMIT) for line in lines]
        self._config = config
        self._answer = answer

    def compose(self) -> ComposeResult:
        """The text, scrolled when it is long, above the picture."""
        with Vertical(classes="dialog -wide"):
            yield Static(self._heading, classes="heading", markup=False)
            with VerticalScroll():
                yield Static("\n".join(self._lines), classes="last", markup=False)
            if self._config is not None:
                yield Static("", id="held", classes="why last", markup=False)
                yield TimelineView()

    def on_mount(self) -> None:
        """Show what is known already."""
        self._fit(self.app.size.height)
        if self._answer is not None:
            self.take(self._answer)

    def take(self, answer: Forecasted) -> None:
        """An answer came: draw it if it is that of what is explained."""
        if self._config is None or answer.config != self._config:
            return
        view = self.query_one(TimelineView)
        view.answer = answer
        view.refresh()
        self.query_one("#held", Static).update(held_text(answer.forecast) if answer.forecast is not None else "")

    def on_resize(self, event: events.Resize) -> None:
        """A higher terminal has a higher picture."""
        self._fit(event.size.height)

    def _fit(self, height: int) -> None:
        """Share the dialog's rows between picture and text, which scrolls in what is left to it."""
        if self._config is None:
            return
        tight = height < SHORT
        picture = _SMALL_PICTURE if tight else min(18, height // 3)
        self.query_one(TimelineView).styles.height = picture
        around = _AROUND if tight else _AROUND + 4
        self.query_one(VerticalScroll).styles.max_height = max(3, height * 96 // 100 - picture - around)
