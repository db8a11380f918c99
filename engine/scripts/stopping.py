"""How a script is stopped: it is asked as by Ctrl-C, then told, then ended, with time in between."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

_ORDER = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds that are waited after each signal before the next one."""

    asked_s: float = 10.0
    """After SIGINT."""
    told_s: float = 10.0
    """After SIGTERM."""
    terminated_s: float = 2.5
    """After either, where this process was told to end: who did that waits some ten seconds before it is killed."""
    hurried_s: float = 1.0
    """After either, where the program ends now."""
    behind_s: float = 2.0
    """For what the command leaves behind when it was stopped or killed: it is told to end, and then ended."""
    draining_s: float = 1.0
    """For what its processes have still to tell when it has ended."""


class Stopping:
    """The signals that one script gets. `send` sends one; `wait_s` says how long to wait when so many were sent."""

    def __init__(
        self,
        send: Callable[[int], None],
        wait_s: Callable[[int], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._wait_s, self._clock = send, wait_s, clock
        self._sent: list[signal.Signals] = []
        self._sent_at = 0.0

    @property
    def sent(self) -> tuple[signal.Signals, ...]:
        """What it got so far."""
        return tuple(self._sent)

    def step(self, asked: int) -> str | None:
        """Send what is due; what is waited for, in words, where that is new.

        `asked`: how often the user has asked for it. Who asks again waits no longer.
        """
        if len(self._sent) == len(_ORDER):
            return None
        if len(self._sent) >= max(1, asked) and self._clock() - self._sent_at < self._wait_s(len(self._sent)):
            return None
        number = _ORDER[len(self._sent)]
        self._send(number)
        self._sent.append(number)
        self._sent_at = self._clock()
        following = _ORDER[len(self._sent)] if len(self._sent) < len(_ORDER) else None
        if following is None:
            return f"{number.name} sent: it is gone in a moment"
        in_s = self._wait_s(len(self._sent))
        return f"{number.name} sent: waiting for the script to end; {following.name} in {in_s:g} s"
