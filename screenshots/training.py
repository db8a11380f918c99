"""Runs that train: live, explained, out of memory, on two GPUs, on a projector."""

from __future__ import annotations

from pathlib import Path

from screenshots.driving import Size, opened

VIRTUAL = "virtual:tesla-p4"


async def draw(size: Size, home: Path) -> None:
    """All scenes at one size, in one session."""
    from engine.contract.config import RunConfig

    first = RunConfig(samples=256, device=VIRTUAL)
    async with opened(first, size, home) as stage:
        state = stage.state
        await stage.forecast()
        await stage.press("r")
        await stage.finished(1)
        await stage.press("c")
        await stage.forecast()
        await stage.press("r")
        await stage.under_way(18)
        await stage.save("training")
        await stage.finished(2)
        await stage.press("tab", "home", "space", "shift+tab")
        state.editor.select("gradient_checkpointing")
        await stage.press("e")
        await stage.dialog()
        await stage.save("explain")
        await stage.press("escape")
        state.editor.replace(first.with_values(batch_size=16, vram_limit=725))
        await stage.forecast()
        await stage.press("r", "r")  # the forecast asks first
        await stage.finished(3)
        await stage.save("out-of-memory")
        await stage.press("u", "V", "b")
        await stage.forecast()
        await stage.until(lambda: "forecast" in state.view.caption)
        await stage.save("presenter")
        await stage.press("V")
        state.editor.replace(RunConfig(samples=2048, parallel="zero1", gpus=2, device=VIRTUAL))
        await stage.forecast()
        await stage.press("r")
        await stage.under_way(18)
        await stage.press("right_square_bracket")
        await stage.save("two-gpus")
        await stage.press("s")
        await stage.until(lambda: not stage.session.busy)
