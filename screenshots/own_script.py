"""A script of one's own: while it trains, one of its flags turned, and what a sweep over that flag came to."""

from __future__ import annotations

from pathlib import Path

from screenshots.driving import Size, opened

COMMAND = (
    "python screenshots/train.py --batch_size={batch_size} --dtype={precision:fp32=float32,bf16=bfloat16} "
    "--width={width=64,128,256} --max_steps=120"
)


async def draw(size: Size, home: Path) -> None:
    """All scenes at one size, in one session."""
    from engine.contract.config import RunConfig
    from engine.contract.knob import SCRIPT

    async with opened(RunConfig(job=SCRIPT, command=COMMAND, batch_size=16), size, home) as stage:
        await stage.press("r")
        await stage.under_way(80)
        await stage.press("b")
        await stage.save("script")
        await stage.finished(1)
        await stage.press("u", "p")
        await stage.dialog()
        await stage.press("enter")  # over the script's own knob, which is offered first
        await stage.finished(4)
        await stage.press("tab", "home")
        await stage.save("script-sweep")
