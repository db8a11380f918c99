"""The history's tables: their format, how an older one is brought to it, and the history's name."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from engine.history.errors import HistoryError, is_locked

OPEN_WAIT_S = 10.0
"""How long opening, and any call that a person waits for, stays patient with another writer."""

_APPLICATION_ID = 0x74746F70  # "ttop", so that another program's database is never written to

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: a purged run's number is never given to another
        "CREATE TABLE runs (run_id INTEGER PRIMARY KEY AUTOINCREMENT, outcome TEXT NOT NULL, started_at REAL, "
        "heartbeat REAL NOT NULL, deleted_at REAL, host TEXT NOT NULL, machine TEXT NOT NULL, pid INTEGER NOT NULL, "
        "process_started REAL NOT NULL, config TEXT NOT NULL, device TEXT, figures TEXT NOT NULL, note TEXT)",
        "CREATE INDEX runs_running ON runs (run_id) WHERE outcome = 'running'",
        "CREATE INDEX runs_deleted ON runs (deleted_at) WHERE deleted_at IS NOT NULL",
        "CREATE TABLE batches (run_id INTEGER NOT NULL, last_seq INTEGER NOT NULL, n_events INTEGER NOT NULL, "
        "payload BLOB NOT NULL)",
        "CREATE UNIQUE INDEX batches_of_run ON batches (run_id, last_seq)",
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT)",
    ),
    (
        "CREATE TABLE plans (plan_id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, started_at REAL NOT NULL, "
        "heartbeat REAL NOT NULL, ended TEXT, host TEXT NOT NULL, machine TEXT NOT NULL, pid INTEGER NOT NULL, "
        "process_started REAL NOT NULL, definition TEXT NOT NULL)",
        # item: the place in the plan's list; tries: the batch size of a search's try, else 0
        "CREATE TABLE plan_steps (plan_id INTEGER NOT NULL, item INTEGER NOT NULL, tries INTEGER NOT NULL, "
        "run_id INTEGER, skipped INTEGER NOT NULL, why TEXT, PRIMARY KEY (plan_id, item, tries))",
        "CREATE INDEX plan_of_run ON plan_steps (run_id) WHERE run_id IS NOT NULL",
    ),
)
"""Statements that lead from one format to the next; `PRAGMA user_version` counts those applied."""


def connect(path: Path, uri: str | None = None) -> sqlite3.Connection:
    """A connection that any thread may use and that begins no transaction unasked."""
    connection = sqlite3.connect(
        uri or path, timeout=OPEN_WAIT_S, isolation_level=None, check_same_thread=False, uri=uri is not None
    )
    if uri is None:  # it reads the schema, which may be damaged where a `uri` says that nothing is to be written
        connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def pragma(connection: sqlite3.Connection, words: str) -> str:
    """What a pragma answers, as text; empty where it says nothing."""
    row = connection.execute(f"PRAGMA {words}").fetchone()
    return str(row[0]) if row else ""


def set_format(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a history, or an empty file, to this version's format. Raises `sqlite3.Error` and `HistoryError`."""
    known = len(MIGRATIONS)
    if format_of(connection, path) == known:  # also ends the exclusive lock of the journal's conversion
        return
    deadline = time.monotonic() + OPEN_WAIT_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            break
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > deadline:
                raise
    try:
        for statements in MIGRATIONS[format_of(connection, path) :]:  # again: another process may have been faster
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={known}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def format_of(connection: sqlite3.Connection, path: Path) -> int:
    """How many migrations the file at `path` has seen.

    Raises `HistoryError` when it is another program's, or a newer version's.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application, version = pragma(connection, "application_id"), int(pragma(connection, "user_version"))
    if tables and int(application) != _APPLICATION_ID:
        raise HistoryError(f"{path} is another program's database: give --history-dir another folder.")
    if version > len(MIGRATIONS):
        message = (
            f"The history {path} was made by a newer traintop (format {version}, this one knows {len(MIGRATIONS)}): "
            "update traintop, or give --history-dir another folder."
        )
        raise HistoryError(message)
    return version


def give_name(connection: sqlite3.Connection) -> None:
    """Give the history a name that its copies keep. Raises `sqlite3.OperationalError` when it is read-only."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT OR IGNORE INTO settings VALUES ('name', lower(hex(randomblob(16))))")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if "readonly" in str(error):
            raise
        # locked or full: the next one names it
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(OPEN_WAIT_S * 1000)}")


def name_of(connection: sqlite3.Connection) -> str | None:
    """What `give_name` gave; None where nothing did, or where it cannot be read."""
    try:
        row = connection.execute("SELECT value FROM settings WHERE name = 'name'").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
