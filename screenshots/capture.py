"""Make the README's screenshots from real runs: `make screenshots`.

Each scene drives the app as a person would, with a real engine behind it, and saves what the screen shows as SVG.
The figures are those of the machine that it runs on.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SIZES = ((80, 24), (120, 40), (200, 60))


async def until(pilot: object, true: Callable[[], bool], timeout_s: float = 180.0) -> None:
    """Let the app live until `true`; a scene that never comes is an error."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not true():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError("the scene did not come about")
        await pilot.pause(0.1)  # type: ignore[attr-defined]


async def capture(size: tuple[int, int], home: Path) -> None:
    """All scenes at one size, in one session."""
    from engine.config import RunConfig
    from engine.history import History
    from engine.session import Session
    from tui.app import TraintopApp

    with History(home / "history.sqlite3") as history:
        session = Session(history)
        app = TraintopApp(session, history, RunConfig(samples=256, device="cpu"))

        def save(scene: str) -> None:
            app.save_screenshot(f"{scene}-{size[0]}x{size[1]}.svg", str(FOLDER))
            print(f"{scene} {size[0]}x{size[1]}")

        async with app.run_test(size=size) as pilot:
            state = app.state
            await until(pilot, lambda: state.loading is None)
            await pilot.press("r")
            await until(pilot, lambda: len(state.finished) == 1)
            await pilot.press("space", "c")
            save("idle")
            await pilot.press("r")
            await until(pilot, lambda: state.running and state.run is not None and state.run.update >= 18)
            save("training")
            await pilot.press("b", "f", "f", "f")
            await pilot.pause(0.6)
            save("pending")
            await until(pilot, lambda: len(state.finished) == 2)
            await pilot.press("question_mark")
            await pilot.pause(0.3)
            save("help")
            await pilot.press("escape")
        session.close()


def main() -> int:
    """Every size in a home of its own."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as home:
            os.environ["TRAINTOP_HOME"] = home
            asyncio.run(capture(size, Path(home)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
