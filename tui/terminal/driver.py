"""Textual's driver for a terminal that may stop reading: the screen's thread never waits for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from textual.drivers.linux_driver import LinuxDriver

from tui.drawing.text import clean

if TYPE_CHECKING:
    from tui.terminal.link import Link

_ROOM = 20
"""Writes that may wait in Textual's queue, which takes 30 and then blocks; later ones are joined to one."""
_CLOSE_S = 2.0
"""How long the end of the app waits for a terminal that does not read."""
_TITLE_LIMIT = 80
_SAVE_TITLE, _RESTORE_TITLE = "\x1b[22;2t", "\x1b[23;2t"


class HasLink(Protocol):
    """What the driver needs of the app."""

    link: Link


class LinkDriver(LinuxDriver):
    """Counts on the app's `Link` what it hands over, and names the terminal's window."""

    def __init__(self, app: HasLink, **options: Any) -> None:
        super().__init__(app, **options)  # type: ignore[arg-type]
        self._link = app.link
        self._held: list[str] = []
        self._title = ""
        self._has_title = has_title(os.environ.get("TERM", ""))
        self._link.show_title = self.show_title

    def write(self, data: str) -> None:
        """Hand `data` to the writer thread, or keep it until that has room."""
        self._held.append(data)
        self._hand_over()

    def _hand_over(self) -> None:
        if self._held and self._link.n_waiting < _ROOM:
            data, self._held = "".join(self._held), []
            self._link.handed_over()
            super().write(data)

    def show_title(self, title: str) -> None:
        """Name the terminal's window, where it has a name."""
        if self._has_title and title != self._title:
            self._title = title
            self.write(f"\x1b]2;{clean(title, _TITLE_LIMIT)}\x07")

    def start_application_mode(self) -> None:
        """Take the terminal; what its window was called is kept by the terminal."""
        before = self._writer_thread
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self._has_title and self._writer_thread is not before:  # else the terminal is not ours
            self.write(_SAVE_TITLE)
            if self._title:
                self.write(f"\x1b]2;{self._title}\x07")

    def stop_application_mode(self) -> None:
        """Give the terminal back, its name too."""
        if self._has_title:
            self.write(_RESTORE_TITLE)
        super().stop_application_mode()

    def close(self) -> None:
        """End the writer thread, or leave it behind when nobody takes what it writes."""
        while self._link.wait_until_sent(_CLOSE_S):
            if not self._held:
                super().close()
                return
            self._hand_over()
        self._link.abandoned = True


def has_title(kind: str) -> bool:
    """Whether a terminal of this kind (`TERM`) takes a title without showing it as text."""
    return kind.partition("-")[0] not in ("linux", "vt52", "vt100", "vt102", "vt220", "cons25", "dumb", "")
