"""Screens as text files, one a scene and size, beside the tests. `TRAINTOP_SNAPSHOTS=write` draws them anew."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent / "snapshots"
SWITCH = "TRAINTOP_SNAPSHOTS"


def check(name: str, lines: Sequence[str]) -> None:
    """Compare a screen with the stored one, or store it; blanks at the ends of lines do not count."""
    path = FOLDER / f"{name}.txt"
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    if os.environ.get(SWITCH) == "write":
        path.write_text(text, encoding="utf-8")
        return
    stored = path.read_text(encoding="utf-8") if path.exists() else ""
    changes = difflib.unified_diff(stored.splitlines(), text.splitlines(), "stored", "now", lineterm="", n=0)
    assert text == stored, "\n".join(
        [f"{path.name} is another screen now. If it should be: {SWITCH}=write, then look at it.", *changes]
    )
