"""What can go wrong with the history, and what to say of it."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from pathlib import Path

_NO_SPACE = {errno.ENOSPC: "The disk is full", errno.EDQUOT: "The disk quota is used up"}
_PROBE_BYTES = 65_536


class HistoryError(Exception):
    """The history cannot be opened, read or written. The message says what, where, and what to do."""


def is_damage(error: Exception) -> bool:
    """Whether the file's content is at fault, so that trying again cannot help."""
    return "not a database" in str(error) or "image is malformed" in str(error)


def is_locked(error: Exception) -> bool:
    """Whether another program holds the file; it may let go."""
    return "locked" in str(error) or "busy" in str(error)


def explain(path: Path, error: sqlite3.Error) -> str:
    """What SQLite's error means for the history at `path`, in one sentence with the way out."""
    text = str(error)
    if "full" in text:
        return f"The disk of the history {path} is full: free some space there, or set TRAINTOP_HOME to another disk."
    if "readonly" in text:
        return f"The history {path} is read-only: make it writable, or set TRAINTOP_HOME to a folder of your own."
    if is_locked(error):
        return f"Another program keeps the history {path} locked: close it, or set TRAINTOP_HOME to another folder."
    if "unable to open" in text:
        return f"The history {path} cannot be opened: make its folder writable, or set TRAINTOP_HOME to another."
    if is_damage(error):
        return (
            f"The history {path} is damaged ({text}): start `traintop` on it, which sets the file aside and takes over "
            "what can be read."
        )
    if "I/O" in text:  # SQLite knows a full disk, but takes a used-up quota for a broken one
        problem = _writing_problem(path.parent)
        if problem is not None and problem.errno in _NO_SPACE:
            what = _NO_SPACE[problem.errno]
            return f"{what} where the history {path} is: free some space there, or set TRAINTOP_HOME to another disk."
        text = problem.strerror or text if problem is not None else text
    return f"The history {path} cannot be read or written ({text}): check the disk, or set TRAINTOP_HOME to another."


def _writing_problem(folder: Path) -> OSError | None:
    """What the operating system says when a little is written in `folder`; None when it can be."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error
    return None
