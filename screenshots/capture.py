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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.app.app import TraintopApp
    from tui.state.state import State

FOLDER = Path(__file__).resolve().parent
SIZES = ((120, 40), (80, 24), (200, 60))


async def until(pilot: object, true: Callable[[], bool], timeout_s: float = 180.0) -> None:
    """Let the app live until `true`; a scene that never comes is an error."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not true():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError("the scene did not come about")
        await pilot.pause(0.1)  # type: ignore[attr-defined]


async def capture(size: tuple[int, int], home: Path) -> None:
    """All scenes at one size, in one session."""
    from engine.contract.config import RunConfig
    from engine.history.history import History
    from engine.session.session import Session
    from tui.app.app import TraintopApp

    with History(home / "history.sqlite3") as history:
        session = Session(history, keeps_model=True)
        app = TraintopApp(session, RunConfig(samples=256, device="virtual:tesla-p4"))

        def save(scene: str) -> None:
            app.save_screenshot(f"{scene}-{size[0]}x{size[1]}.svg", str(FOLDER))
            print(f"{scene} {size[0]}x{size[1]}")

        async with app.run_test(size=size) as pilot:
            state = app.state
            await until(pilot, lambda: state.loading is None and state.forecast is not None)
            await pilot.press("r")
            await until(pilot, lambda: len(state.finished) == 1)
            await pilot.press("c")
            await until(pilot, lambda: is_forecast(state))
            save("idle")
            await pilot.press("r")
            await until(pilot, lambda: state.running and state.run is not None and state.run.reached >= 18)
            await pilot.pause(0.6)
            save("training")
            await pilot.press("v", *["left"] * 5)
            await pilot.pause(0.6)
            save("cursor")
            await pilot.press("escape", "b")
            await until(pilot, lambda: is_forecast(state))
            save("pending")
            await until(pilot, lambda: len(state.finished) == 2)
            await pilot.press("u", "tab", "home", "space", "down")
            await pilot.pause(0.6)
            save("compare")
            await pilot.press("shift+tab")
            state.editor.select("gradient_checkpointing")
            await pilot.press("e")
            await dialog(pilot, app)
            save("explain")
            await pilot.press("escape", "K", "down", "down")
            await dialog(pilot, app)
            save("configurations")
            await pilot.press("escape")
            state.editor.replace(RunConfig(samples=256, batch_size=16, device="virtual:tesla-p4", vram_limit=725))
            await until(pilot, lambda: is_forecast(state))
            await pilot.press("r", "r")  # the forecast asks first
            await until(pilot, lambda: len(state.finished) == 3)
            await pilot.pause(0.6)
            save("out-of-memory")
            await pilot.press("tab", "e")
            await dialog(pilot, app)
            save("explain-out-of-memory")
            await pilot.press("escape", "shift+tab", "h")
            await dialog(pilot, app)
            save("what-fits")
            await pilot.press("escape", "u", "p")
            await dialog(pilot, app)
            save("plans")
            await pilot.press("enter")
            await until(pilot, lambda: in_plan(state))
            await pilot.pause(0.6)
            save("plan")
            await pilot.press("s", "p")
            await until(pilot, lambda: not session.busy and state.plan is None)
            await pilot.press("V", "b")
            await until(pilot, lambda: is_forecast(state) and "forecast" in state.view.caption)
            await pilot.pause(0.6)
            save("presenter")
            await pilot.press("V")
            state.editor.replace(RunConfig(samples=2048, parallel="zero1", gpus=2, device="virtual:tesla-p4"))
            await until(pilot, lambda: is_forecast(state))
            await pilot.press("r")
            await until(pilot, lambda: state.running and state.run is not None and state.run.reached >= 18)
            await pilot.press("right_square_bracket")
            await pilot.pause(0.6)
            save("two-gpus")
            await pilot.press("i")
            await dialog(pilot, app)
            save("ranks")
            await pilot.press("escape", "s")
            await until(pilot, lambda: not session.busy)
            n_runs = len(state.finished)
            language = {"model": "gpt2-tiny", "task": "causal-lm", "workload": "text", "device": "virtual:tesla-p4"}
            state.editor.replace(RunConfig(samples=2048, seq_len=128, **language))
            await pilot.press("r")
            await until(pilot, lambda: len(state.finished) == n_runs + 1 and not session.busy)
            await pilot.press("Q")
            await until(pilot, lambda: len(app.screen_stack) == 2)
            await pilot.press(*"The", "space", *"film", "enter")
            await until(pilot, lambda: len(state.finished) == n_runs + 2 and not session.busy)
            await dialog(pilot, app)
            save("asked")
            await pilot.press("escape", "J", "r")
            await until(pilot, lambda: len(state.finished) == n_runs + 3 and not session.busy)
            await pilot.press("o", "r")
            await until(pilot, lambda: state.running and state.run is not None and state.run.progress >= 300)
            await pilot.pause(0.6)
            save("answers")
            await pilot.press("s")
            await until(pilot, lambda: not session.busy)
        session.close()


async def cards(size: tuple[int, int], folder: Path) -> None:
    """`traintop top`: one, four and eight cards, some full, in slices, slowed down or lost.

    They are those of the tests' stand-in for NVIDIA's library, read through pynvml as a real driver's are.
    """
    script = FOLDER.parent / "screenshots" / "cards.py"
    for count in (1, 4, 8):
        home = folder / str(count)
        home.mkdir()
        words = [sys.executable, str(script), str(count), f"{size[0]}x{size[1]}", str(home)]
        process = await asyncio.create_subprocess_exec(*words)
        assert await process.wait() == 0, f"the scene of {count} cards did not come about"


async def dialog(pilot: object, app: TraintopApp) -> None:
    """Wait for a dialog, and a moment for what it asks the engine."""
    await until(pilot, lambda: len(app.screen_stack) == 2)
    await pilot.pause(1.5)  # type: ignore[attr-defined]


def in_plan(state: State) -> bool:
    """Whether a later run of a plan is well under way."""
    run = state.run
    return (
        state.plan is not None and state.plan.position > 1 and run is not None and run.under_way and run.reached >= 10
    )


def is_forecast(state: State) -> bool:
    """Whether the forecast on the screen is that of the next run."""
    return state.forecast is not None and state.forecast.config == state.editor.config


async def in_browser() -> None:
    """The recorded session as a browser shows it, far on; nothing where there is no browser."""
    from tests.tui.commands.browser import open_page, program

    if program() is None:
        print("serve: this machine has no Chromium or Chrome")
        return
    command = (sys.executable, "-m", "tui.cli", "serve", "--demo", "--port", "0")
    server = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        assert server.stderr is not None
        address = (await server.stderr.readline()).decode().split()[2]
        async with open_page(address) as page:
            await page.until('document.body.classList.contains("-first-byte")')
            await page.value("document.querySelector('.xterm-helper-textarea').focus()")
            for _ in range(11):
                await page.press("ArrowRight", 39)  # ten seconds of the recording
            await asyncio.sleep(4)
            (FOLDER / "serve.png").write_bytes(await page.picture())
            print("serve")
    finally:
        server.kill()
        await server.wait()


def main() -> int:
    """Every size in a home of its own."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(FOLDER.parent))
    asyncio.run(in_browser())
    for size in SIZES:
        with tempfile.TemporaryDirectory() as home:
            os.environ["TRAINTOP_HOME"] = home
            asyncio.run(cards(size, Path(home)))
            asyncio.run(capture(size, Path(home)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
