"""Canvas: a widget that sends the terminal only the cells that changed. Pane: one that shows the state of the app."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.drawing.cells import Cells, Line, changed_runs, frame, segments, to_cells, wrap

if TYPE_CHECKING:
    from tui.state.state import State

_FAILED = "this pane cannot be drawn: details are in the log file"


class Canvas(Widget):
    """The base of what paints cells.

    It says which lines it wants; this class finds the cells that differ from what is on the screen. Textual repaints
    whole widgets when their content changes, which a slow SSH link would feel.
    Where the lines cannot be made, a sentence is in their place, and they are asked for again with the next paint.
    """

    TITLE = ""
    """Shown in the frame; without one there is no frame."""

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(id=pane_id, markup=False)
        self._lines: list[Line] = []
        self._painted: list[Cells] = []
        self._strips: dict[int, Strip] = {}
        self._has_failed = False

    @property
    def is_on_screen(self) -> bool:
        """False while the layout leaves the pane out."""
        return bool(self.display and self.size)

    def drawn(self, width: int, height: int) -> list[Line]:
        """All lines, at most `height` of them are shown."""
        raise NotImplementedError

    def _fits(self) -> bool:
        """Whether what was painted last has the pane's present size."""
        width, height = self.size
        return len(self._painted) == height and (not height or len(self._painted[0]) == width)

    def _wanted(self) -> list[Line]:
        width, height = self.size
        lines = self._made(width, height)[:height]
        return lines + [[]] * (height - len(lines))

    def _made(self, width: int, height: int) -> list[Line]:
        """All lines; where there is a defect in them, a sentence."""
        try:
            lines = self.drawn(width, height)
        except Exception:
            if not self._has_failed:
                logging.getLogger("traintop").exception("the pane %s cannot be drawn", self.id)
            self._has_failed = True
            sentence: list[Line] = [[(text, "bad")] for text in wrap(_FAILED, width - 2, height)]
            has_frame = self.TITLE and width >= 4 and height >= 3
            return frame(self.TITLE, [], sentence, (width, height), "frame") if has_frame else sentence
        self._has_failed = False
        return lines

    async def _dispatch_message(self, message: Message) -> None:
        try:  # what leaves this ends the pane's loop
            await super()._dispatch_message(message)
        except Exception as error:
            self.app._handle_exception(error)

    def paint(self) -> None:
        """Paint what changed since the last time."""
        if not self._fits():
            self.refresh()  # the lines are laid out when they are asked for
            return
        before, self._lines = self._lines, self._wanted()
        regions: list[Region] = []
        for y, line in enumerate(self._lines):
            if line == before[y]:
                continue
            cells = to_cells(line, self.size.width)
            regions += [Region(first, y, last - first, 1) for first, last in changed_runs(self._painted[y], cells)]
            self._painted[y] = cells
            self._strips.pop(y, None)
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """One line as Textual wants it."""
        if not self._fits():
            self._lines = self._wanted()
            self._painted, self._strips = [to_cells(line, self.size.width) for line in self._lines], {}
        if y >= len(self._painted):
            return Strip.blank(self.size.width, self.rich_style)
        strip = self._strips.get(y)
        if strip is None:
            style = self.screen.get_component_rich_style
            strip = Strip([Segment(text, style(role)) for text, role in segments(self._painted[y])], self.size.width)
            self._strips[y] = strip
        return strip

    def notify_style_update(self) -> None:
        """Colours changed with the theme: no strip is worth keeping."""
        super().notify_style_update()
        self._strips = {}

    def on_resize(self, event: events.Resize) -> None:
        """Lay the lines out for the new size."""
        self.paint()

    def on_focus(self, event: events.Focus) -> None:
        """Mark the frame."""
        self.paint()

    def on_blur(self, event: events.Blur) -> None:
        """Unmark the frame."""
        self.paint()


class Pane(Canvas):
    """The base of the app's panes: given the state, it says which lines it wants."""

    def __init__(self, pane_id: str | None = None) -> None:
        super().__init__(pane_id)
        self.state: State | None = None

    def show(self, state: State) -> None:
        """Paint what changed since the last call."""
        self.state = state
        if self.is_on_screen:
            self.paint()

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The lines inside the frame, at most `height` of them are shown."""
        raise NotImplementedError

    def title(self, state: State) -> str:
        """The title in the frame."""
        return self.TITLE

    def headline(self, state: State, width: int) -> Line:
        """What the frame's top edge says at the right."""
        return []

    def lines(self, state: State, width: int, height: int) -> list[Line]:
        """All lines of the pane."""
        if not self.TITLE:
            return self.body(state, width, height)
        if width < 4 or height < 3:
            return []
        title = self.title(state)
        head = self.headline(state, width - len(title) - 10)
        role = "focus" if self.has_focus else "frame"
        return frame(title, head, self.body(state, width - 2, height - 2), (width, height), role)

    def drawn(self, width: int, height: int) -> list[Line]:
        """The lines for the state; none before there is one."""
        return self.lines(self.state, width, height) if self.state is not None else []


class PlotPane(Pane, can_focus=True):
    """A pane that shows a run; a click focuses it, and then it can fill the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "app.zoom", "zoom", key_display="Enter", show=False)]
