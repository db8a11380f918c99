"""A feed of made-up events that goes on by the clock, to look at a screen: `fake_answers` and `fake_scripts`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from time import monotonic

from engine.contract.config import RunConfig
from engine.contract.events import Event, RunFinished
from tests.tui.fake_session import FakeHistory, FakeSession

Told = Iterator[tuple[float, tuple[Event, ...]]]
"""What is told, and when: seconds from the start."""


class LiveFeed(FakeSession):
    """A session with one run under way, of which `told` tells."""

    def __init__(self, config: RunConfig, told: Told, history: FakeHistory) -> None:
        super().__init__(history=history)
        self.config = config
        self._told = told
        self._next: tuple[float, tuple[Event, ...]] | None = None
        self._began = monotonic()

    def drain(self) -> list[Event]:
        """What is due by now."""
        events = super().drain()
        self._next = self._next or next(self._told, None)
        while self._next is not None and monotonic() - self._began >= self._next[0]:
            events += self._next[1]
            self.busy = self.busy and not any(isinstance(event, RunFinished) for event in self._next[1])
            self._next = next(self._told, None)
        return events


def show(feed: LiveFeed, words: Sequence[str]) -> None:
    """Show a feed until q is pressed."""
    from tui.app.app import TraintopApp
    from tui.terminal.ascii import stream_to
    from tui.terminal.link import Link

    link = Link()
    app = TraintopApp(feed, feed.config, link=link)
    sys.__stderr__ = stream_to(sys.stderr, link, in_ascii="--ascii" in words)  # type: ignore[misc, assignment]
    app.run()
