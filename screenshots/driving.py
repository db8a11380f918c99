"""Driving the app as a person would, until a scene has come about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from engine.contract.config import RunConfig
    from engine.session.session import Session
    from tui.app.app import TraintopApp
    from tui.state.state import State

FOLDER = Path(__file__).resolve().parent
PATIENCE_S = 600.0
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The app at one size, with a real engine behind it."""

    app: TraintopApp
    session: Session
    pilot: Pilot[int]
    size: Size

    @property
    def state(self) -> State:
        """What the screen shows."""
        return self.app.state

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        await self.pilot.press(*keys)

    async def until(self, true: Callable[[], bool]) -> None:
        """Let the app live until `true`; a scene that never comes is an error."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not true():
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("the scene did not come about")
            await self.pilot.pause(0.1)

    async def forecast(self) -> None:
        """Wait until the forecast on the screen is that of the next run."""
        state = self.state
        await self.until(lambda: state.forecast is not None and state.forecast.config == state.editor.config)

    async def under_way(self, steps: int) -> None:
        """Wait until a run has come so far, in updates or tokens."""
        state = self.state
        await self.until(lambda: state.running and state.run is not None and state.run.progress >= steps)

    async def finished(self, count: int) -> None:
        """Wait until so many runs of this session have ended, and nothing is under way."""
        await self.until(lambda: len(self.state.finished) >= count and not self.session.busy)

    async def dialog(self) -> None:
        """Wait for a dialog, and a moment for what it asks the engine."""
        await self.until(lambda: len(self.app.screen_stack) == 2)
        await self.pilot.pause(1.5)

    async def save(self, scene: str) -> None:
        """Draw what the screen shows, once it is painted."""
        await self.pilot.pause(0.6)
        columns, rows = self.size
        self.app.save_screenshot(f"{scene}-{columns}x{rows}.svg", str(FOLDER))
        print(f"{scene} {columns}x{rows}", flush=True)


@asynccontextmanager
async def opened(config: RunConfig, size: Size, home: Path) -> AsyncIterator[Stage]:
    """The app, ready, with the knobs of `config` and the history in `home`."""
    from engine.history.history import History
    from engine.session.session import Session
    from tui.app.app import TraintopApp

    with History(home / "history.sqlite3") as history:
        session = Session(history, device=config.device, measures=not config.is_script, keeps_model=True)
        app = TraintopApp(session, config)
        async with app.run_test(size=size) as pilot:
            stage = Stage(app=app, session=session, pilot=pilot, size=size)
            await stage.until(lambda: stage.state.loading is None and stage.state.ready is not None)
            yield stage
        session.close()
