"""The recorded session that traintop brings along: a history, compressed, to be played by `engine.session.playback`.

`tests/benchmarks/record_demo.py` makes it from real runs.
"""

from __future__ import annotations

import lzma
from importlib.resources import files
from pathlib import Path

FILE = "demo.sqlite3.xz"


def unpack_demo(folder: Path) -> Path:
    """Write the recorded history into `folder` and return its path. Raises `OSError`."""
    path = folder / "demo.sqlite3"
    path.write_bytes(lzma.decompress(files("engine.session").joinpath(FILE).read_bytes()))
    return path
