"""Which of the drivers an app draws with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.driver import Driver


def patient(textuals: type[Driver]) -> type[Driver]:
    """A driver that does not wait for a terminal that stops reading, where there is one; else Textual's own."""
    if textuals.__name__ != "LinuxDriver":
        return textuals
    from tui.terminal.driver import LinkDriver

    return LinkDriver
