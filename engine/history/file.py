"""Opening the history: its folder, its format, its journal, and what to say when it cannot be opened.

How the journal is chosen. SQLite's write-ahead log (WAL) lets readers and a writer work at once and needs no
disk flush per commit, but its index is a memory map that every user of the file must share: over a network
file system, processes on different hosts do not share it, and commits get lost (https://sqlite.org/wal.html).
So the file system's type decides, read from the longest mount prefix in `/proc/self/mountinfo`: WAL on a local
one, the rollback journal (`DELETE`) on a network one. Where there is no mountinfo (macOS), WAL is tried and
`DELETE` taken when SQLite cannot set it up. `TRAINTOP_JOURNAL=wal` or `=delete` overrides. A file that is in
WAL mode already (made on a local disk, then moved) is converted before anything reads it over the network,
in exclusive mode, which needs no shared memory; while another program holds it in WAL mode that is refused.
`synchronous=NORMAL`: a killed process loses nothing; a power cut may lose the last commits of a WAL.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

OPEN_WAIT_S = 10.0
"""How long opening, and any call that a person waits for, stays patient with another writer."""

_APPLICATION_ID = 0x74746F70  # "ttop", so that another program's database is never written to

_NETWORK = frozenset(
    {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs"}
    | {"lustre", "mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb", "smb2"}
    | {"smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "wekafs"}
)
"""File system types whose memory maps are not shared between all hosts that mount them."""

_LOCAL_FUSE = frozenset(("fuseblk", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.ntfs-3g", "fuse.exfat"))
"""FUSE file systems over a local disk; every other one (sshfs, gcsfuse, s3fs, ...) counts as a network."""

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


class HistoryError(Exception):
    """The history cannot be opened, read or written. The message says what, where, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFile:
    """An open history: one connection for writing, one for reading, both usable from any thread under a lock."""

    write: sqlite3.Connection
    read: sqlite3.Connection
    journal_mode: str
    """`wal` or `delete`."""
    file_system: str | None
    """The type as the kernel names it (`ext4`, `nfs4`); None where the platform does not say."""
    notice: str | None
    """One sentence when a damaged file was set aside."""


def mount_type(mountinfo: str, path: str) -> str | None:
    """The file system type of an absolute, resolved `path`, from the text of `/proc/self/mountinfo`.

    The mount point that is the longest prefix wins; of two on one point the later, which hides the other.
    """
    best, found = -1, None
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(
            " - "
        )  # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
        fields = mount.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
        inside = path == point or path.startswith(point if point.endswith("/") else point + "/")
        if inside and len(point) >= best:
            best, found = len(point), source.split(" ")[0]
    return found


def is_network_type(kind: str | None) -> bool:
    """Whether several hosts may mount a file system of this type without sharing memory maps."""
    return kind is not None and (kind in _NETWORK or (kind.startswith("fuse") and kind not in _LOCAL_FUSE))


def file_system_of(path: Path) -> tuple[str | None, bool]:
    """(type, whether it is a network's) of the file system that holds `path`; (None, False) where nobody says."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        resolved = str(path.expanduser().resolve())
    except (OSError, RuntimeError):
        return None, False
    kind = mount_type(mountinfo, resolved)
    return kind, is_network_type(kind)


def explain(path: Path, error: sqlite3.Error) -> str:
    """What SQLite's error means for the history at `path`, in one sentence with the way out."""
    text = str(error)
    if "full" in text:
        return f"The disk of the history {path} is full: free some space there, or set TRAINTOP_HOME to another disk."
    if "readonly" in text:
        return f"The history {path} is read-only: make it writable, or set TRAINTOP_HOME to a folder of your own."
    if "locked" in text or "busy" in text:
        return f"Another program keeps the history {path} locked: close it, or set TRAINTOP_HOME to another folder."
    if "unable to open" in text:
        return f"The history {path} cannot be opened: make its folder writable, or set TRAINTOP_HOME to another."
    if _is_damage(error):
        return (
            f"The history {path} is damaged ({text}): move it away and start traintop again; nothing in it was changed."
        )
    return f"The history {path} cannot be read or written ({text}): check the disk, or set TRAINTOP_HOME to another."


def _is_damage(error: sqlite3.Error) -> bool:
    return "not a database" in str(error) or "malformed" in str(error)


def open_file(path: Path) -> OpenedFile:
    """Open or create the history at `path`, its folders included, and bring it to this version's format.

    A damaged file is renamed beside itself, never deleted, and an empty history takes its place; `notice` says
    where it is. Raises `HistoryError` when the file cannot be opened, belongs to another program, or was
    made by a newer version.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        message = f"The folder {path.parent} for the history cannot be made ({why}): set TRAINTOP_HOME to another one."
        raise HistoryError(message) from None
    if path.is_dir():
        raise HistoryError(f"The history {path} is a folder: move it away, or set TRAINTOP_HOME to another folder.")
    identity = _identity(path)
    try:
        return _open(path, notice=None)
    except sqlite3.Error as error:
        if not _is_damage(error):
            raise HistoryError(explain(path, error)) from None
        reason = str(error)
    notice = _set_aside(path, identity, reason)
    try:
        return _open(path, notice)
    except sqlite3.Error as error:
        raise HistoryError(explain(path, error)) from None


def _open(path: Path, notice: str | None) -> OpenedFile:
    kind, is_network = file_system_of(path)
    wanted = os.environ.get("TRAINTOP_JOURNAL", "").strip().lower() or ("delete" if is_network else "wal")
    if wanted == "delete":
        return _open_in(wanted, path, kind, is_network, notice)
    if wanted != "wal":
        raise HistoryError(f"TRAINTOP_JOURNAL is {wanted!r}: set it to wal or delete, or unset it.")
    try:
        return _open_in("wal", path, kind, is_network, notice)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
        return _open_in("delete", path, kind, is_network, notice)  # no shared memory here, whatever the mount says


def _open_in(journal: str, path: Path, kind: str | None, is_network: bool, notice: str | None) -> OpenedFile:
    with contextlib.ExitStack() as undo:
        write = _connect(path)
        undo.callback(write.close)
        mode = _set_wal(write) if journal == "wal" else _set_delete(write, path, is_network)
        _set_format(write, path)
        read = _connect(path)
        undo.callback(read.close)
        read.execute("PRAGMA query_only=ON")
        read.execute("SELECT run_id FROM runs ORDER BY run_id DESC LIMIT 1").fetchall()
        undo.pop_all()
    return OpenedFile(write=write, read=read, journal_mode=mode, file_system=kind, notice=notice)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=OPEN_WAIT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _set_wal(connection: sqlite3.Connection) -> str:
    try:
        return _pragma(connection, "journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error) and "readonly" not in str(error):
            raise
        return _pragma(connection, "journal_mode")  # all users of a file share its mode


def _set_delete(connection: sqlite3.Connection, path: Path, is_network: bool) -> str:
    try:
        # first of all, so that a file in WAL mode is opened without the memory map that the network lacks
        _pragma(connection, "locking_mode=EXCLUSIVE")
        _pragma(connection, "journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        if is_network:
            message = (
                f"The history {path} is on a network file system and another program uses it in a mode (WAL) "
                "that cannot be shared there: close that program and start again."
            )
            raise HistoryError(message) from None
    _pragma(connection, "locking_mode=NORMAL")
    return _pragma(connection, "journal_mode")


def _pragma(connection: sqlite3.Connection, pragma: str) -> str:
    row = connection.execute(f"PRAGMA {pragma}").fetchone()
    return str(row[0]) if row else ""


def _set_format(connection: sqlite3.Connection, path: Path) -> None:
    known = len(MIGRATIONS)
    if _format(connection, path) == known:  # also ends the exclusive lock of the journal's conversion
        return
    deadline = time.monotonic() + OPEN_WAIT_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
    try:
        for statements in MIGRATIONS[_format(connection, path) :]:  # again: another process may have been faster
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={known}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _format(connection: sqlite3.Connection, path: Path) -> int:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application, version = _pragma(connection, "application_id"), int(_pragma(connection, "user_version"))
    if tables and int(application) != _APPLICATION_ID:
        raise HistoryError(f"{path} is another program's database: set TRAINTOP_HOME to another folder.")
    if version > len(MIGRATIONS):
        message = (
            f"The history {path} was made by a newer traintop (format {version}, this one knows {len(MIGRATIONS)}): "
            "update traintop, or set TRAINTOP_HOME to another folder."
        )
        raise HistoryError(message)
    return version


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_aside(path: Path, identity: tuple[int, int] | None, reason: str) -> str | None:
    """Rename the damaged file, its journal and its WAL with it; a file that another process put there stays."""
    if _identity(path) != identity:
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = next(
        candidate
        for n in range(1, 1_000_000)
        if not (candidate := path.with_name(f"{path.stem}.damaged-{stamp}{f'-{n}' * (n > 1)}{path.suffix}")).exists()
    )
    try:
        for suffix in ("-wal", "-journal", "-shm", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(target.with_name(target.name + suffix))
    except OSError as error:
        message = f"The history {path} is damaged ({reason}) and cannot be renamed ({error.strerror}): move it away."
        raise HistoryError(message) from None
    return f"The history {path} was damaged ({reason}); it is kept as {target} and a new one was begun."
