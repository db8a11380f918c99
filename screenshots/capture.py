"""Make the README's screenshots from real runs: `make screenshots`, or `make screenshots ARGS="script cards"` for some.

Each scene drives the app as a person would, with a real engine behind it, and saves what the screen shows as SVG.
The figures are those of the machine that it runs on. The answers take the longest: their model is trained first.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = ((120, 40), (80, 24), (200, 60))
GROUPS = ("cards", "training", "script", "answers")


def main(groups: list[str]) -> int:
    """Every group at every size: answers over one history, as their model takes minutes; all else each in a new one."""
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)  # the command of the script's scenes is that of the README
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    from screenshots import answers, cards, own_script, training

    draw = {"cards": cards.draw, "training": training.draw, "script": own_script.draw, "answers": answers.draw}
    for group in groups or GROUPS:
        with tempfile.TemporaryDirectory() as folder:
            for size in SIZES:
                home = Path(folder) if group == "answers" else Path(folder) / f"{size[0]}"
                home.mkdir(exist_ok=True)
                os.environ["TRAINTOP_HOME"] = str(home)
                asyncio.run(draw[group](size, home))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
