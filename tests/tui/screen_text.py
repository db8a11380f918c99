"""What a pilot's screen shows, and a pilot for `TraintopApp` with a session that tests control."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from textual.pilot import Pilot

from engine.contract.config import RunConfig
from engine.contract.events import Event
from engine.contract.records import RunRecord
from tests.tui.fake_session import FakeHistory, FakeSession, ready
from tui.app.app import TraintopApp

SIZES = [(80, 24), (120, 40), pytest.param((200, 60), marks=pytest.mark.slow)]
"""Of screens, as parameters. The largest has room for all, and costs the most to draw."""


@dataclass
class Stage:
    """An app on its stage: keys go in, text comes out."""

    app: TraintopApp
    pilot: Pilot[str]
    session: FakeSession
    history: FakeHistory
    may_fail: bool = False
    """Whether the test means the screen to have a defect."""

    async def feed(self, *events: Event) -> None:
        """Let the engine say something, and the screen show it."""
        self.session.feed(*events)
        self.app.tick()
        self.app.controllers.painter.paint()
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, part: str, timeout_s: float = 30.0) -> None:
        """Let the app live until its screen holds `part`, which comes from another thread."""
        deadline = time.monotonic() + timeout_s
        while part not in self.text:
            assert time.monotonic() < deadline, f"{part!r} did not come:\n{self.text}"
            await self.pilot.pause(0.01)

    @property
    def lines(self) -> list[str]:
        """The screen, line by line."""
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def dialog(self) -> str:
        """What the dialog says, its lines joined by single spaces."""
        top = self.line("╭")
        first, last = top.index("╭") + 1, top.index("╮")
        inside = [line[first:last] for line in self.lines if line[first - 1] == "│" and line[last] == "│"]
        return " ".join(" ".join(inside).split())

    def line(self, part: str) -> str:
        """The first line that holds `part`."""
        return next((line for line in self.lines if part in line), "")


@asynccontextmanager
async def stage(
    size: tuple[int, int] = (120, 40),
    runs: Iterable[RunRecord] = (),
    *events: Event,
    config: RunConfig | None = None,
    engine_ready: bool = True,
    history: FakeHistory | None = None,
) -> AsyncIterator[Stage]:
    """The app, mounted and painted, with earlier `runs` (or a whole `history`) and an engine that has said `events`."""
    history = history or FakeHistory(runs)
    session = FakeSession(history=history)
    app = TraintopApp(session, config or RunConfig())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        on_stage = Stage(app, pilot, session, history)
        await on_stage.feed(*([ready()] if engine_ready else []), *events)
        yield on_stage
        assert on_stage.may_fail or not app.controllers.faults.errors
