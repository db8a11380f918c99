"""The bounded mailbox between the engine's threads and the screen, and between a rank and the process that started it:
neither side ever waits for the other.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

from engine.contract.events import FREQUENT, EventsDropped

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Many writers, one reader.

    When `capacity` frequent events wait unread, the oldest frequent one makes room and is counted;
    the reader learns the count as `EventsDropped`. Rare events (a run's start, its end) are always
    kept: there are at most a handful per run.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._events: deque[T] = deque()
        self._frequent = 0
        self._dropped = 0
        self._changed = threading.Condition()

    def put(self, event: T) -> None:
        """Add an event; never blocks for longer than another `put` or `drain`."""
        with self._changed:
            self._events.append(event)
            if isinstance(event, FREQUENT):
                self._frequent += 1
                if self._frequent > self._capacity:
                    self._drop_oldest()
            self._changed.notify()

    def _drop_oldest(self) -> None:
        for index, event in enumerate(self._events):  # rare events at the front are few
            if isinstance(event, FREQUENT):
                del self._events[index]
                self._frequent -= 1
                self._dropped += 1
                return

    def drain(self) -> list[T | EventsDropped]:
        """Everything that waits, oldest first; an empty list when nothing does."""
        with self._changed:
            return self._take()

    def wait(self, timeout_s: float | None = None) -> list[T | EventsDropped]:
        """Like `drain`, but waits up to `timeout_s` for the first event."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events), timeout_s)
            return self._take()

    def _take(self) -> list[T | EventsDropped]:
        events: list[T | EventsDropped] = [EventsDropped(count=self._dropped)] if self._dropped else []
        events.extend(self._events)
        self._events.clear()
        self._frequent = self._dropped = 0
        return events
