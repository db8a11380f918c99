"""The history's file while it is open: rows read, statements written, and what happens when the file is lost."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.history.errors import HistoryError, NoRoomError, explain, is_damage, is_locked
from engine.history.file import OpenedFile, open_file, open_to_read, open_without_room
from engine.history.moving import Moved, Restated, go_on, go_on_without_damage
from engine.history.salvage import Statement, identity_of
from engine.history.schema import OPEN_WAIT_S

_LOOK_EVERY_S = 2.0
"""Where there was no room, between two looks whether there is."""


class Store:
    """One connection that writes and one that reads, each under its own lock. Any thread may call anything."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create the file; raises `HistoryError` as `engine.history.file.open_file` does.

        Where there is no room for it, what is there is read, and each change looks whether there is room again.
        """
        self.asked_for = path
        self._read_only = read_only
        self._no_room: NoRoomError | None = None
        self._look_at = 0.0
        self._opened: OpenedFile = open_to_read(path) if read_only else self._open(path)
        self.under_way: Callable[[], Restated] = dict
        """Asked for what is to be written again when the file is lost."""
        self._news: list[str] = []
        self._owed: list[Statement] = []
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()

    def _open(self, path: Path) -> OpenedFile:
        try:
            return open_file(path)
        except NoRoomError as error:
            self._no_room = error
            return open_without_room(path, f"{error} Until then runs are kept in memory.")

    def _look_for_room(self, wait_s: float) -> None:
        """Open the file for writing where there was no room for it before. Raises `HistoryError`."""
        if self._no_room is None:
            return
        if wait_s < OPEN_WAIT_S and time.monotonic() < self._look_at:
            raise self._no_room
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        try:
            opened = open_file(self.asked_for)
        except NoRoomError as error:
            self._no_room = error
            raise
        with self._read_lock:
            self._opened.close()
            self._opened, self._no_room = opened, None

    @property
    def can_write(self) -> bool:
        """False where nothing is to be written, and while there is no room for the file."""
        return not self._read_only and self._no_room is None

    @property
    def read_only(self) -> bool:
        """Whether nothing is to be written."""
        return self._read_only

    @property
    def opened(self) -> OpenedFile:
        """The file in use."""
        return self._opened

    @property
    def path(self) -> Path:
        """Of the file in use; another one than was `asked_for` when that one was lost and could not be made again."""
        return self._opened.path

    def close(self) -> None:
        """Let go of the file."""
        with self._write_lock, self._read_lock:
            self._opened.close()

    def tell(self, sentence: str) -> None:
        """Add to what `take_news` tells."""
        self._news.append(sentence)

    def take_news(self) -> str | None:
        """What happened to the file since the last call, in a sentence."""
        news, self._news = self._news, []
        return " ".join(news) or None

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query finds. Raises `HistoryError`."""
        opened = self._opened
        try:
            return self._query(query, values)
        except sqlite3.Error as error:
            if not is_damage(error) or self._read_only:
                raise explain(self.path, error) from None
            reason = str(error)
        with self._write_lock:
            self._replace_damaged(opened, reason)
        try:
            return self._query(query, values)
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def _query(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._read_lock:
            if self._read_only:
                self._read_what_is_there()
            return self._opened.read.execute(query, values).fetchall()

    def _read_what_is_there(self) -> None:
        """Where another program has written the file again, read that one."""
        there = identity_of(self.path)
        if there is not None and there != self._opened.identity:
            with contextlib.suppress(HistoryError):  # tried again at the next query
                opened = open_to_read(self.path)
                self._opened.close()
                self._opened = opened

    def change(self, statements: list[Statement]) -> int:
        """Run statements in one transaction, patiently; the id of the last row inserted. Raises `HistoryError`."""
        try:
            return self.apply(statements, OPEN_WAIT_S)
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def change_or_owe(self, statements: list[Statement]) -> None:
        """As `change`; what cannot be written now is written before whatever is written next."""
        try:
            self.change(statements)
        except HistoryError:
            with self._write_lock:
                self._owed += statements
            raise

    @property
    def owes(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._owed)

    def apply(self, statements: list[Statement], wait_s: float) -> int:
        """As `change`, waiting up to `wait_s` for another writer. Raises `sqlite3.Error` and `HistoryError`."""
        with self._write_lock:
            self._look_for_room(wait_s)
            self._mind_the_file()
            every = [*self._owed, *statements]
            try:
                last_row = self._transaction(every, wait_s)
            except sqlite3.Error as error:
                if is_damage(error):
                    self._replace_damaged(self._opened, str(error))
                elif is_locked(error) or not self._make_room():
                    raise
                last_row = self._transaction(every, wait_s)
            self._owed = []
            return last_row

    def _mind_the_file(self) -> None:
        """Go on in another file when this one is no longer at its path, or is empty."""
        if identity_of(self.path) != self._opened.identity:
            self._replace(go_on)
        elif self.path.stat().st_size == 0:  # SQLite may not notice before its caches are empty too
            self._replace_damaged(self._opened, "somebody has emptied it")

    def _transaction(self, statements: list[Statement], wait_s: float) -> int:
        write, last_row = self._opened.write, 0
        if write is None:
            raise HistoryError(f"The history {self.path} was opened to be read only.")
        deadline = time.monotonic() + wait_s
        write.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
        while True:
            try:
                write.execute("BEGIN IMMEDIATE")  # takes the write lock first: nobody is locked out halfway
                for query, values in statements:
                    last_row = write.execute(query, values).lastrowid or 0
                write.execute("COMMIT")
                return last_row
            except sqlite3.Error as error:
                if write.in_transaction:
                    write.execute("ROLLBACK")
                if not is_locked(error) or time.monotonic() >= deadline:
                    raise

    def _make_room(self) -> bool:
        """Empty the write-ahead log, which gives its space back on a full disk; whether it could be."""
        write = self._opened.write
        if write is None or self._opened.journal_mode != "wal":
            return False
        try:
            return bool(write.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        except sqlite3.Error:
            return False

    def _replace_damaged(self, damaged: OpenedFile, reason: str) -> None:
        if self._opened is damaged:  # else another thread was faster
            self._replace(lambda opened, under_way: go_on_without_damage(opened, under_way, reason))

    def _replace(self, go_on: Callable[[OpenedFile, Restated], Moved]) -> None:
        """Go on in another file, under the lock of whoever writes. Raises `HistoryError`; then nothing has changed."""
        under_way = self.under_way()
        with self._read_lock:
            moved = go_on(self._opened, under_way)
            self._opened.close()
            self._opened = moved.opened
        self._news.append(moved.sentence)
