"""Where traintop keeps its files. `TRAINTOP_HOME` moves all of them; else the platform's user folders."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import PlatformDirs

_DIRS = PlatformDirs("traintop", appauthor=False)


def data_dir() -> Path:
    """The folder of the history and the log."""
    home = os.environ.get("TRAINTOP_HOME")
    return Path(home).expanduser() if home else Path(_DIRS.user_data_dir)


def cache_dir() -> Path:
    """The folder of what can be made or fetched again."""
    home = os.environ.get("TRAINTOP_HOME")
    return Path(home).expanduser() / "cache" if home else Path(_DIRS.user_cache_dir)


def history_file() -> Path:
    """The SQLite file of all runs."""
    return data_dir() / "history.sqlite3"


def log_file() -> Path:
    """Tracebacks and what the engine's libraries print."""
    return data_dir() / "traintop.log"
