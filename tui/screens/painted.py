"""The panes' lines in a dialog: the same roles, the same colours."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import App

from tui.drawing.cells import Line


def as_text(lines: Sequence[Line], app: App[str]) -> Text:
    """`lines` with the colours that their roles have on the main screen."""
    style = app.screen_stack[0].get_component_rich_style
    text = Text(no_wrap=True, overflow="crop")
    for index, line in enumerate(lines):
        if index:
            text.append("\n")
        for part, role in line:
            text.append(part, style(role))
    return text
