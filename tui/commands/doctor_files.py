"""What the doctor says about the history, the log and the disk they are on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from engine.contract import paths
from engine.contract.numbers import mib, n_of
from engine.history.file_system import file_system_of
from engine.history.history import History, HistoryError
from tui.commands.finding import Finding

LOW_DISK = 500 * 2**20
"""Bytes. A run of 1,000 updates takes about 100 KB; below this, other programs make the disk full first."""


def files() -> Iterator[Finding]:
    """The history, as the next run would open it, and its disk."""
    path = paths.history_file()
    variable = paths.history_moved_by()
    moved = f" ({variable})" if variable else ""
    try:
        with History() as history:
            n_runs, journal = history.n_runs(), history.journal_mode
            notice, damaged, writable = history.notice, history.damaged_files, history.can_write
    except HistoryError as error:
        yield Finding(check="history", found=f"{path}{moved} cannot be used", status="fatal", fix=str(error))
        return
    size = sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*") if part.is_file())
    can = "writable" if writable else "not writable"
    yield Finding(check="history", found=f"{path}{moved}: {n_of(n_runs, 'run')}, {mib(size)} MiB, {can}")
    if notice:
        yield Finding(check="history", found=notice, status="problem")
    elif damaged:
        found = f"{len(damaged)} damaged, kept beside it; the newest is {damaged[-1]}"
        fix = f"`sqlite3 {damaged[-1]} .recover` may find runs in it; delete it when you need none of them."
        yield Finding(check="history", found=found, status="problem", fix=fix)
    kind, is_network = file_system_of(path)
    where = "on a network" if is_network else "local"
    yield Finding(check="file system", found=f"{kind or 'unknown'}, {where}; journal mode {journal}")
    yield _disk(path.parent)
    yield _log()


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{mib(free)} MiB free at {folder}"
    if free < LOW_DISK:
        fix = "free some space, or give --history-dir a folder on another disk."
        return Finding(check="disk", found=text, status="problem", fix=fix)
    return Finding(check="disk", found=text)


def _log() -> Finding:
    path = paths.log_file()
    if os.access(path if path.exists() else path.parent, os.W_OK):
        return Finding(check="log", found=str(path))
    return Finding(
        check="log",
        found=f"{path} cannot be written",
        status="problem",
        fix="set TRAINTOP_HOME to a folder of your own.",
    )
