"""One scene of `traintop top`: `python cards.py COUNT COLUMNSxROWS FOLDER`, in a process of its own.

A process can load NVIDIA's library only once, and finds the tests' stand-in for it by its environment.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

_SLEEPER = "import sys; sys.stdin.read()"
_READY = "TRAINTOP_SCENE_READY"


def main(count: int, size: str, folder: Path) -> int:
    """Make the cards, then draw them in this process started anew with their library."""
    if _READY in os.environ:
        asyncio.run(_draw(count, size))
        return 0
    from tests.engine.telemetry.nvml_machine import Machine, build, why_no_library

    if why := why_no_library():
        print(f"top: {why}")
        return 0
    seen = Machine(build(folder), folder / "cards.txt")
    (folder / "train.py").write_text(_SLEEPER, encoding="utf-8")
    words = ["python", "train.py", "--model", "bert-base-uncased", "--batch-size", "8"]
    with subprocess.Popen(words, executable=sys.executable, cwd=folder, stdin=subprocess.PIPE) as own:
        _furnish(seen, count, own.pid)
        environment = {**os.environ, **seen.environment, _READY: "1"}
        drawn = subprocess.run([sys.executable, *sys.argv], env=environment, check=False)
        own.kill()
    return drawn.returncode


def _furnish(seen, count: int, own: int) -> None:  # type: ignore[no-untyped-def]
    for index in range(count):
        seen.card(index)
    seen.card(0, used=7500, gpu=97, memory=61, power=74_500, celsius=71, throttle=4, energy=9_000_000)
    seen.process(0, own, used=6900, sm=87)
    if count > 1:
        seen.card(1, used=143_000, gpu=100, memory=80, power=171_000, celsius=88, throttle=0x48, ecc=2)
        seen.process(1, 4_000_000, used=142_000, sm=99)
        seen.card(2, used=15_000, mig=1)
        seen.slice(2, name="NVIDIA A100-SXM4-40GB MIG 1g.5gb", uuid="MIG-1", gi=7, ci=0, total=4864, used=15)
        seen.slice(2, name="NVIDIA A100-SXM4-40GB MIG 3g.20gb", uuid="MIG-2", gi=2, ci=0, total=20_096, used=14_900)
        seen.process(2, own, used=14_800, gi=2)
        seen.card(3, used=900, gpu=12, mode=3)
        seen.process(3, 4_000_001, kind="mps", used=400, sm=12)
    seen.write()


async def _draw(count: int, size: str) -> None:
    from engine.session.cards import CardWatch
    from tui.app.top import TopApp

    columns, rows = map(int, size.split("x"))
    app = TopApp(CardWatch(), paint_s=0.1)
    state = Path(os.environ["NVML_STUB_STATE"])
    async with app.run_test(size=(columns, rows)) as pilot:
        await pilot.pause(2.0)
        if count > 4:  # lost while it is looked at
            new = state.with_suffix(".new")
            new.write_text(f"{state.read_text(encoding='utf-8')}lost 5\n", encoding="utf-8")
            os.replace(new, state)
            await pilot.pause(2.0)
        app.save_screenshot(f"top-{count}-{size}.svg", str(FOLDER))
        print(f"top {count} {size}")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
