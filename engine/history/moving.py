"""Going on when the history's file was deleted, replaced or damaged while it was in use."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.contract.numbers import n_of
from engine.history.errors import HistoryError, explain
from engine.history.file import OpenedFile, open_file
from engine.history.records import this_process
from engine.history.salvage import Statement, add_to, begin_from, identity_of, replace_damaged
from engine.history.schema import connect, name_of

Restated = Mapping[int, list[Statement]]
"""For each run under way the statements that write all of it that this process remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Where the history goes on, and a sentence on it."""

    opened: OpenedFile
    sentence: str


def go_on(opened: OpenedFile, under_way: Restated) -> Moved:
    """A history in the place of `opened`, whose file is no longer at its path. Raises `HistoryError`.

    A file that is gone is made again, with all that its open connection still reads. A copy of the same history is
    filled up. Another file is left alone: the history goes on in a folder beside it, or in the temporary folder.
    """
    path = opened.path
    more = [statement for statements in under_way.values() for statement in statements]
    _drop_leftovers(opened)
    if identity_of(path) is None:
        what = f"The history {path} was deleted or moved away while it was in use"
        with contextlib.suppress(HistoryError, OSError, sqlite3.Error):
            n_runs = begin_from(path, opened.read, more, folder_mode=opened.folder_mode)
            return Moved(opened=open_file(path), sentence=f"{what}: it was written there again ({_runs(n_runs)}).")
    else:
        what = f"The history {path} was replaced by another file while it was in use"
        with contextlib.suppress(HistoryError, OSError, sqlite3.Error):
            if _is_copy(opened, list(under_way)):
                add_to(path, opened.read, more)
                return Moved(opened=open_file(path), sentence=f"{what}, a copy of it, and goes on there.")
    folder = keep_elsewhere(path, lambda target: begin_from(target, opened.read, more))
    sentence = f"{what}: it goes on in {folder}; `traintop runs --history-dir {folder}` shows it."
    return Moved(opened=open_file(folder / path.name), sentence=sentence)


def go_on_without_damage(opened: OpenedFile, under_way: Restated, reason: str) -> Moved:
    """A new history in the place of `opened`, whose content is damaged. Raises `HistoryError`."""
    more = [statement for statements in under_way.values() for statement in statements]
    try:
        sentence = replace_damaged(opened.path, opened.identity, reason, more)
    except sqlite3.Error as error:
        raise explain(opened.path, error) from None
    except OSError as error:
        message = f"The history {opened.path} is damaged ({reason}), and no new one can be made ({error.strerror})."
        raise HistoryError(message) from None
    if sentence is None:  # another process was faster
        return go_on(opened, under_way)
    return Moved(opened=open_file(opened.path), sentence=sentence)


def keep_elsewhere(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` make a history for `path` in another folder, beside it or for temporary files, and return that.

    Raises `HistoryError` when neither can be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    problem: Exception | None = None
    for parent, name in ((path.parent, "continued"), (Path(tempfile.gettempdir()), "traintop")):
        folder: Path | None = None
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-{stamp}-", dir=parent))  # for its owner alone
            write(folder / path.name)
            return folder
        except (OSError, sqlite3.Error, HistoryError) as error:
            problem = error
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
    raise HistoryError(f"The history {path} is gone, and nothing can be written beside it or in {parent} ({problem}).")


def _runs(n_runs: int) -> str:
    return n_of(n_runs, "run")


def _drop_leftovers(opened: OpenedFile) -> None:
    """Finish what SQLite keeps beside a file that is gone, and take it away: it would be read into another file.

    What another process has made there since is left alone.
    """
    path = opened.path
    if opened.write is not None:
        with contextlib.suppress(sqlite3.Error):  # for whoever has moved the file away
            opened.write.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for ending, identity in opened.parts.items():
        part = path.with_name(path.name + ending)
        if identity is not None and identity_of(part) == identity:
            with contextlib.suppress(OSError):
                os.unlink(part)


def _is_copy(opened: OpenedFile, run_ids: list[int]) -> bool:
    """Whether the file at the path is a copy of this history in which no other process has taken our runs' numbers."""
    name = name_of(opened.read)
    with contextlib.closing(connect(opened.path, f"{opened.path.resolve().as_uri()}?mode=ro")) as there:
        if name is None or name_of(there) != name:
            return False
        owner = this_process()
        marks = ", ".join("?" * len(run_ids))
        query = (
            f"SELECT count(*) FROM runs WHERE run_id IN ({marks}) AND NOT "
            "(machine = ? AND pid = ? AND abs(process_started - ?) < 2)"  # the clock's steps shift it a little
        )
        taken = there.execute(query, (*run_ids, owner.machine, owner.pid, owner.process_started)).fetchone()[0]
        return not taken
