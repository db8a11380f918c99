"""Files that belong to runs, `run-7…`, in a folder of their own: only those of the newest runs stay. Standard library
only."""

from __future__ import annotations

import re
from pathlib import Path

KEPT_RUNS = 20
_OF_RUN = re.compile(r"run-\d+(?=\D)")


def make_room(folder: Path, kept: int = KEPT_RUNS) -> None:
    """Leave the files of the newest `kept` - 1 runs: one more is about to begin. Raises `OSError`."""
    written: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        if (found := _OF_RUN.match(path.name)) is not None:
            written.setdefault(found[0], []).append(path)
    newest = sorted(written, key=lambda run: max(path.stat().st_mtime for path in written[run]), reverse=True)
    for run in newest[kept - 1 :]:
        for path in written[run]:
            path.unlink(missing_ok=True)
