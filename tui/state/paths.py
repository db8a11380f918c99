"""Where a file that the user asks for goes."""

from __future__ import annotations

from pathlib import Path


def free_path(stem: str, ending: str) -> Path:
    """`stem.ending` in the current folder, or with the first number that makes it a new file."""
    path, number = Path(f"{stem}{ending}"), 2
    while path.exists():
        path, number = Path(f"{stem}-{number}{ending}"), number + 1
    return path
