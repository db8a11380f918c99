"""What the screen asks the history: it goes on while another program keeps the file locked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from tui.desk.desk import Desk

if TYPE_CHECKING:
    from engine.session.engine import Engine
    from engine.session.keeper import Read, Reading

POLL_S = 0.01
"""Between two looks at what is on its way: a key is answered that soon."""
TELL_S = 0.5
WAITING = "waiting for the history: another program keeps it locked"

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class _Asked:
    reading: Reading[Any]
    then: Callable[[Any], object]
    failed: Callable[[str], object]
    since: float


class Readings:
    """Owns what was asked and is not answered."""

    def __init__(self, desk: Desk, session: Engine) -> None:
        self._desk, self._session = desk, session
        self._asked: list[_Asked] = []
        self._will_look = False

    def ask(self, read: Read[T], then: Callable[[T], object], failed: Callable[[str], object] | None = None) -> None:
        """Tell `then` what `read` finds, at once where nobody has to wait, or `failed` why it could not be read."""
        reading = self._session.read(read)
        self._asked.append(_Asked(reading=reading, then=then, failed=failed or self._desk.say, since=monotonic()))
        self._look()

    def _look_again(self) -> None:
        self._will_look = False
        self._look()

    def _look(self) -> None:
        done = [asked for asked in self._asked if asked.reading.done]
        self._asked = [asked for asked in self._asked if not asked.reading.done]
        for asked in done:
            if self._desk.state.notice == WAITING:
                self._desk.say()
            if asked.reading.problem is not None:
                asked.failed(asked.reading.problem)
            else:
                asked.then(asked.reading.value)
        if self._asked:
            if monotonic() - self._asked[0].since > TELL_S and not self._desk.state.notice:
                self._desk.say(WAITING)
            if not self._will_look:
                self._will_look = True
                self._desk.app.set_timer(POLL_S, self._look_again)
