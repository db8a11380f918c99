"""A Python process that finds our packages, and not files of the same names in the user's folder."""

from __future__ import annotations

import sys
from pathlib import Path

import tui

_ROOT = str(Path(tui.__file__).parents[1])


def own_python(program: str) -> list[str]:
    """The command that runs `program` with this interpreter; more words of it are in `sys.argv[1:]`.

    `python -c` looks for modules in the working directory first; -P, against that, came with Python 3.11.
    """
    path = f"import sys; sys.path[:] = [*filter(None, sys.path), {_ROOT!r}]"
    return [sys.executable, "-c", f"{path}\n{program}"]
