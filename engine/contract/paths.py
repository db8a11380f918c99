"""Where traintop keeps its files. `TRAINTOP_HOME` moves all of them; else the platform's user folders.

`TRAINTOP_HISTORY_DIR`, which `--history-dir` sets, moves the history alone, to another disk or into a project's own
folder; the log, named configurations and the cache stay where they are.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import PlatformDirs

from engine.contract.knob import ConfigError

_HISTORY_DIR = "TRAINTOP_HISTORY_DIR"
_DIRS = PlatformDirs("traintop", appauthor=False)


def data_dir() -> Path:
    """The folder of the history and the log. Raises `ConfigError` when `TRAINTOP_HOME` names none."""
    return _home() or Path(_DIRS.user_data_dir)


def cache_dir() -> Path:
    """The folder of what can be made or fetched again. Raises `ConfigError` as `data_dir` does."""
    home = _home()
    return home / "cache" if home is not None else Path(_DIRS.user_cache_dir)


def _home() -> Path | None:
    return _folder_in("TRAINTOP_HOME")


def _folder_in(variable: str) -> Path | None:
    home = os.environ.get(variable)
    if not home:
        return None
    try:
        return Path(home).expanduser()
    except RuntimeError:  # `~name` of nobody, or `~` of a user without a home
        user = Path(home).parts[0]
        message = f"{variable} is {home!r}, and there is no home folder for {user}: set it to a folder of your own."
        raise ConfigError("", message) from None


def make_private(folder: Path, mode: int | None = None) -> None:
    """Make a folder of the user's own where there is none, its parents too; the folder itself is for its owner alone,
    as the XDG base directory specification asks, or gets `mode`. Raises `OSError`.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    if mode is not None:
        folder.chmod(mode)  # whatever the umask


def history_file() -> Path:
    """The SQLite file of all runs. Raises `ConfigError` as `data_dir` does."""
    return (_folder_in(_HISTORY_DIR) or data_dir()) / "history.sqlite3"


def use_history_dir(folder: str) -> None:
    """Keep the history in `folder` from now on, here and in processes that this one starts."""
    os.environ[_HISTORY_DIR] = folder if folder.startswith("~") else os.path.abspath(folder)


def history_moved_by() -> str | None:
    """The variable that says where the history is, where one does."""
    return next((name for name in (_HISTORY_DIR, "TRAINTOP_HOME") if os.environ.get(name)), None)


def log_file(rank: int = 0) -> Path:
    """Tracebacks and what the engine's libraries print; those of the other ranks of a run have files of their own."""
    return data_dir() / (f"traintop.rank-{rank}.log" if rank else "traintop.log")


def script_log(run_id: int) -> Path:
    """What a run of the user's own command prints to stdout; what it prints to stderr is beside it."""
    return data_dir() / "scripts" / f"run-{run_id}.log"


def script_errors(run_id: int) -> Path:
    """What a run of the user's own command prints to stderr."""
    return script_log(run_id).with_suffix(".err.log")
