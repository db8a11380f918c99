"""What can go wrong with the history, and what to say of it."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from pathlib import Path

_NO_SPACE = {errno.ENOSPC: "The disk is full", errno.EDQUOT: "The disk quota is used up"}
_MAKE_ROOM = "free some space there, or give --history-dir a folder on another disk"
_PROBE_BYTES = 65_536


class HistoryError(Exception):
    """The history cannot be opened, read or written. The message says what, where, and what to do."""


class NoRoomError(HistoryError):
    """Its disk is full, or the quota there is used up: there may be room again."""


def is_damage(error: Exception) -> bool:
    """Whether the file's content is at fault, so that trying again cannot help."""
    return "not a database" in str(error) or "image is malformed" in str(error)


def is_locked(error: Exception) -> bool:
    """Whether another program holds the file; it may let go."""
    return "locked" in str(error) or "busy" in str(error)


def no_room(path: Path, problem: OSError) -> NoRoomError | None:
    """What to say where the operating system has no room for the history at `path`; None for another problem."""
    what = _NO_SPACE.get(problem.errno or 0)
    return NoRoomError(f"{what} where the history {path} is: {_MAKE_ROOM}.") if what else None


def explain(path: Path, error: sqlite3.Error) -> HistoryError:
    """What SQLite's error means for the history at `path`, in one sentence with the way out."""
    if "full" in str(error):
        return NoRoomError(f"The disk of the history {path} is full: {_MAKE_ROOM}.")
    problem = _writing_problem(path.parent) if "I/O" in str(error) else None
    # SQLite knows a full disk, but takes a used-up quota for a broken one
    return (problem and no_room(path, problem)) or HistoryError(_sentence(path, error, problem))


def _sentence(path: Path, error: sqlite3.Error, problem: OSError | None) -> str:
    text = str(error)
    if "readonly" in text:
        return f"The history {path} is read-only: make it writable, or give --history-dir a folder of your own."
    if is_locked(error):
        return f"Another program keeps the history {path} locked: close it, or give --history-dir another folder."
    if "unable to open" in text:
        return f"The history {path} cannot be opened: make its folder writable, or give --history-dir another."
    if is_damage(error):
        return (
            f"The history {path} is damaged ({text}): start `traintop` on it, which sets the file aside and takes over "
            "what can be read."
        )
    text = problem.strerror or text if problem is not None else text
    return f"The history {path} cannot be read or written ({text}): check the disk, or give --history-dir another."


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
