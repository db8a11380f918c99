"""What changed last, for those who watch a presenter."""

from __future__ import annotations

from rich.cells import cell_len

from tui.drawing.cells import Line, pad, wrap
from tui.panes.base import Pane
from tui.state.state import State

_BAD, _OVER = "out of memory", "was out of memory"


class CaptionPane(Pane):
    """A band across the screen; it is there while somebody presents."""

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The caption in the middle of the band, in the colour of bad news where it is some."""
        caption = state.view.caption
        role = "caption-bad" if _BAD in caption and _OVER not in caption else "caption"
        lines = wrap(caption, width - 2, height)
        above = (height - len(lines)) // 2
        band = [""] * above + lines + [""] * (height - len(lines) - above)
        return [pad([(" " * ((width - cell_len(text)) // 2) + text, role)], width, role) for text in band]
