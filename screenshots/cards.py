"""Eight cards and who is on them, some full, in slices, slowed down or lost: `traintop top`.

They are those of the tests' stand-in for NVIDIA's library, read through pynvml as a real driver's are. A process can
load that library only once and finds the stand-in by its environment, so this is one: `python cards.py COLUMNSxROWS
FOLDER`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.engine.telemetry.nvml_machine import Machine

FOLDER = Path(__file__).resolve().parent

_SLEEPER = "import sys; sys.stdin.read()"
_READY = "TRAINTOP_SCENE_READY"


async def draw(size: tuple[int, int], home: Path) -> None:
    """The scene at one size."""
    words = [sys.executable, __file__, f"{size[0]}x{size[1]}", str(home)]
    process = await asyncio.create_subprocess_exec(*words)
    assert await process.wait() == 0, "the scene of the cards did not come about"


def main(size: str, folder: Path) -> int:
    """Make the cards, then draw them in this process started anew with their library."""
    sys.path.insert(0, str(FOLDER.parent))
    if _READY in os.environ:
        asyncio.run(_draw(size))
        return 0
    from tests.engine.telemetry.nvml_machine import Machine, build, why_no_library

    if why := why_no_library():
        print(f"top: {why}")
        return 0
    seen = Machine(build(folder), folder / "cards.txt")
    (folder / "train.py").write_text(_SLEEPER, encoding="utf-8")
    words = ["python", "train.py", "--model", "bert-base-uncased", "--batch-size", "8"]
    with subprocess.Popen(words, executable=sys.executable, cwd=folder, stdin=subprocess.PIPE) as own:
        _furnish(seen, own.pid)
        environment = {**os.environ, **seen.environment, _READY: "1"}
        drawn = subprocess.run([sys.executable, *sys.argv], env=environment, check=False)
        own.kill()
    return drawn.returncode


def _furnish(seen: Machine, own: int) -> None:
    for index in range(8):
        seen.card(index)
    seen.card(0, used=7500, gpu=97, memory=61, power=74_500, celsius=71, throttle=4, energy=9_000_000)
    seen.process(0, own, used=6900, sm=87)
    seen.card(1, used=143_000, gpu=100, memory=80, power=171_000, celsius=88, throttle=0x48, ecc=2)
    seen.process(1, 4_000_000, used=142_000, sm=99)
    seen.card(2, used=15_000, mig=1)
    seen.slice(2, name="NVIDIA A100-SXM4-40GB MIG 1g.5gb", uuid="MIG-1", gi=7, ci=0, total=4864, used=15)
    seen.slice(2, name="NVIDIA A100-SXM4-40GB MIG 3g.20gb", uuid="MIG-2", gi=2, ci=0, total=20_096, used=14_900)
    seen.process(2, own, used=14_800, gi=2)
    seen.card(3, used=900, gpu=12, mode=3)
    seen.process(3, 4_000_001, kind="mps", used=400, sm=12)
    seen.write()


async def _draw(size: str) -> None:
    from engine.session.cards import CardWatch
    from tui.app.top import TopApp

    columns, rows = map(int, size.split("x"))
    app = TopApp(CardWatch(), paint_s=0.1)
    state = Path(os.environ["NVML_STUB_STATE"])
    async with app.run_test(size=(columns, rows)) as pilot:
        await pilot.pause(2.0)
        new = state.with_suffix(".new")  # one is lost while it is looked at
        new.write_text(f"{state.read_text(encoding='utf-8')}lost 5\n", encoding="utf-8")
        os.replace(new, state)
        await pilot.pause(2.0)
        app.save_screenshot(f"top-{size}.svg", str(FOLDER))
        print(f"top {size}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
