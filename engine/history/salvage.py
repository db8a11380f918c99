"""What is saved of a history whose file is damaged or gone: a new file with every row that can still be read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.contract.paths import make_private
from engine.history.errors import is_locked
from engine.history.schema import connect, set_format

PARTS = ("-wal", "-journal", "-shm", "")
"""Endings of the files that SQLite keeps for one database, the database itself last."""

Identity = tuple[int, int]
"""Device and inode: tells a file from another one of its name."""

Statement = tuple[str, tuple[Any, ...]]
"""SQL and its values."""


def identity_of(path: Path) -> Identity | None:
    """Device and inode of what is at `path`; None when there is nothing, or when nobody can say."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _aside(path: Path) -> Path:
    """A free name for the damaged file at `path`: `history.damaged-20250131-235959.sqlite3` beside it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return next(
        candidate
        for n in range(1, 1_000_000)
        if not (candidate := path.with_name(f"{path.stem}.damaged-{stamp}{f'-{n}' * (n > 1)}{path.suffix}")).exists()
    )


def damaged_files(path: Path) -> list[Path]:
    """The damaged files that were set aside beside the history at `path`, the oldest first."""
    return sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}"))


def replace_damaged(path: Path, identity: Identity | None, reason: str, more: Sequence[Statement] = ()) -> str | None:
    """Set the damaged history at `path` aside and begin a new one, with what can be read of it and `more`.

    The new one is whole before the old one goes. Returns a sentence on it; None when another process was faster, whose
    file then stays. Raises `HistoryError`, `OSError` and `sqlite3.Error`.
    """
    aside = _aside(path)
    with (
        contextlib.closing(connect(path, f"{path.resolve().as_uri()}?mode=ro")) as source,
        _made(path, source, more) as (making, n_runs),
    ):
        if identity_of(path) != identity:
            return None
        for ending in PARTS:
            part = path.with_name(path.name + ending)
            if part.exists():
                part.rename(aside.with_name(aside.name + ending))
        if not _put(making, path):
            n_runs = add_to(path, source, more)
    saved = f"{n_runs:,} of its runs could be read and are in the new one" if n_runs else "none of its runs can be read"
    return (
        f"The history {path} was damaged ({reason}): {saved}. The damaged file is kept as {aside}; "
        f"`sqlite3 {aside} .recover` may find more in it."
    )


def begin_from(
    path: Path,
    source: sqlite3.Connection | None,
    more: Sequence[Statement] = (),
    *,
    folder_mode: int | None = None,
) -> int:
    """Make a history at `path` with all that `source` can tell, changed by the statements `more`; the runs it took.

    The file appears there at once and whole; one that is there by then stays, and gets what it lacks. A folder that
    has to be made gets `folder_mode`. Raises `HistoryError`, `OSError` and `sqlite3.Error`.
    """
    make_private(path.parent, folder_mode)
    with _made(path, source, more) as (making, n_runs):
        return n_runs if _put(making, path) else add_to(path, source, more)


@contextlib.contextmanager
def _made(path: Path, source: sqlite3.Connection | None, more: Sequence[Statement]) -> Iterator[tuple[Path, int]]:
    """A new history under a name of its own beside `path`, until the end of the block; the runs in it."""
    making = path.with_name(f"{path.name}.{os.getpid()}.new")
    making.unlink(missing_ok=True)
    try:
        yield making, add_to(making, source, more)
    finally:
        making.unlink(missing_ok=True)


def _put(making: Path, path: Path) -> bool:
    """Give a file its name; False when another has it."""
    try:
        os.link(making, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        making.rename(path)
    return True


def add_to(path: Path, source: sqlite3.Connection | None, more: Sequence[Statement] = ()) -> int:
    """Give the history at `path` what it lacks and `source` has, and then run `more`; the runs it took.

    Raises as `begin_from` does.
    """
    with contextlib.closing(connect(path)) as target:
        set_format(target, path)
        target.execute("BEGIN IMMEDIATE")
        n_runs = _fill(target, source) if source is not None else 0
        for query, values in more:
            target.execute(query, values)
        target.execute("COMMIT")
    return n_runs


def _fill(target: sqlite3.Connection, source: sqlite3.Connection) -> int:
    n_runs = 0
    for run_id in range(1, _newest_run(source) + 1):  # one by one: a damaged page loses its own rows only
        if _copy(target, source, "runs", "WHERE run_id = ?", (run_id,)):
            n_runs += 1
            _copy(target, source, "batches", "WHERE run_id = ? ORDER BY last_seq", (run_id,))
    for table in ("settings", "plans", "plan_steps"):
        _copy(target, source, table)
    for name, last in _readable(source, "SELECT name, seq FROM sqlite_sequence"):  # numbers are never given again
        target.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (last, name))
    return n_runs


def _newest_run(source: sqlite3.Connection) -> int:
    queries = ("SELECT max(run_id) FROM runs", "SELECT seq FROM sqlite_sequence WHERE name = 'runs'")
    found = (row[0] for query in queries for row in _readable(source, query))
    return max((number for number in found if isinstance(number, int)), default=0)


def _copy(
    target: sqlite3.Connection, source: sqlite3.Connection, table: str, where: str = "", values: tuple[Any, ...] = ()
) -> int:
    """Copy rows that `target` lacks; how many. Other versions' columns are left out."""
    known = {row[1] for row in target.execute(f"PRAGMA table_info({table})")}
    names = [row[1] for row in _readable(source, f"PRAGMA table_info({table})") if row[1] in known]
    columns, marks = ", ".join(names), ", ".join("?" * len(names))
    insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"
    rows = _readable(source, f"SELECT {columns} FROM {table} {where}", values) if names else ()
    return sum(target.execute(insert, row).rowcount for row in rows)


def _readable(source: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows up to the first that cannot be read."""
    try:
        yield from source.execute(query, values)
    except sqlite3.DatabaseError as error:
        if is_locked(error):
            raise  # it can be read, only not now
