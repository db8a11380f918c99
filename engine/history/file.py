"""Opening the history: its folder, its format, its journal, and a damaged one.

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
import sqlite3
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from engine.contract.paths import make_private
from engine.history.errors import HistoryError, explain, is_damage, is_locked, no_room
from engine.history.file_system import file_system_of
from engine.history.salvage import PARTS, Identity, identity_of, replace_damaged
from engine.history.schema import MIGRATIONS, connect, format_of, give_name, pragma, set_format


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFile:
    """An open history: a connection for writing and one for reading, both usable from any thread under a lock."""

    path: Path
    write: sqlite3.Connection | None
    """None where it was opened to be read only, and while there is no room to write."""
    read: sqlite3.Connection
    journal_mode: str
    """`wal` or `delete`."""
    file_system: str | None
    """The type as the kernel names it (`ext4`, `nfs4`); None where the platform does not say."""
    parts: dict[str, Identity | None]
    """The file (under the empty name) and what SQLite keeps beside it, by the ending of their names."""
    folder_mode: int | None = None
    """Who may do what in its folder, as `chmod` takes it; None where nobody says."""
    notice: str | None = None
    """One sentence when a damaged file was set aside."""

    @property
    def identity(self) -> Identity | None:
        """That of the file itself."""
        return self.parts[""]

    def close(self) -> None:
        """Let go of the file."""
        self.read.close()
        if self.write is not None:
            self.write.close()


def open_file(path: Path) -> OpenedFile:
    """Open or create the history at `path`, its folders included, and bring it to this version's format.

    A damaged file is renamed beside itself, never deleted, and a new history takes its place, with all that can
    still be read; `notice` says so. Raises `HistoryError` when the file cannot be opened or written, belongs to another
    program, or was made by a newer version.
    """
    try:
        make_private(path.parent)
    except OSError as error:
        if full := no_room(path, error):
            raise full from None
        why = error.strerror or error
        message = f"The folder {path.parent} for the history cannot be made ({why}): give --history-dir another one."
        raise HistoryError(message) from None
    if (what := _no_file(path)) is not None:
        raise HistoryError(f"The history {path} is {what}: move it away, or give --history-dir another folder.")
    identity = identity_of(path)
    try:
        return _open(path)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise explain(path, error) from None
        reason = str(error)
    try:
        return _open(path, replace_damaged(path, identity, reason))
    except sqlite3.Error as error:
        raise explain(path, error) from None
    except OSError as error:
        message = f"The history {path} is damaged ({reason}) and cannot be renamed ({error.strerror}): move it away."
        raise HistoryError(message) from None


def _no_file(path: Path) -> str | None:
    """What is at `path` where that is no file: SQLite would say that the disk is broken, or full. Else None."""
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else next((what for is_one, what in kinds.items() if is_one(mode)), "a device")


def open_to_read(path: Path) -> OpenedFile:
    """Open the history at `path` without changing it, also where it is read-only or locked.

    A missing, older or damaged one is opened as `open_file` does. Raises `HistoryError` as that does.
    """
    kind, is_network = file_system_of(path)
    # over a network a WAL's index may be another host's: such a file is converted first
    if not path.is_file() or (is_network and _is_in_wal_mode(path)):
        return open_file(path)
    try:
        return _open_as_it_is(path, kind, "mode=ro") or open_file(path)
    except sqlite3.Error as error:
        if is_locked(error):
            raise explain(path, error) from None
        wal = path.with_name(path.name + "-wal")
        if is_damage(error) or (wal.exists() and wal.stat().st_size):
            return open_file(path)
    try:
        # where a folder is read-only or full, SQLite cannot make a WAL's index; but then nobody writes there either
        return _open_as_it_is(path, kind, "mode=ro&immutable=1") or open_file(path)
    except sqlite3.Error as error:
        raise explain(path, error) from None


def open_without_room(path: Path, notice: str) -> OpenedFile:
    """What can be read of the history at `path` where there is no room to open it for writing; maybe nothing."""
    with contextlib.suppress(HistoryError, OSError, sqlite3.Error):
        for how in ("mode=ro", "mode=ro&immutable=1"):
            with contextlib.suppress(sqlite3.Error):
                if path.is_file() and (opened := _open_as_it_is(path, file_system_of(path)[0], how)):
                    return replace(opened, notice=notice)
    read = connect(Path(":memory:"))
    set_format(read, path)
    kind = file_system_of(path)[0]
    return OpenedFile(
        path=path, write=None, read=read, journal_mode="", file_system=kind, parts=_parts_of(path), notice=notice
    )


def _open_as_it_is(path: Path, kind: str | None, how: str) -> OpenedFile | None:
    """The file opened without a connection that writes; None when it is of another format."""
    with contextlib.ExitStack() as undo:
        read = connect(path, f"{path.resolve().as_uri()}?{how}")
        undo.callback(read.close)
        if format_of(read, path) != len(MIGRATIONS):
            return None
        read.execute("SELECT run_id FROM runs ORDER BY run_id DESC LIMIT 1").fetchall()
        mode = pragma(read, "journal_mode")
        undo.pop_all()
    return OpenedFile(
        path=path,
        write=None,
        read=read,
        journal_mode=mode,
        file_system=kind,
        parts=_parts_of(path),
        folder_mode=_folder_mode(path),
    )


def _is_in_wal_mode(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(20)[18:19] == b"\x02"  # https://sqlite.org/fileformat2.html, "file format version numbers"
    return False


def _parts_of(path: Path) -> dict[str, Identity | None]:
    return {ending: identity_of(path.with_name(path.name + ending)) for ending in PARTS}


def _folder_mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.parent.stat().st_mode)
    except OSError:
        return None


def _open(path: Path, notice: str | None = None) -> OpenedFile:
    kind, is_network = file_system_of(path)
    wanted = os.environ.get("TRAINTOP_JOURNAL", "").strip().lower() or ("delete" if is_network else "wal")
    if wanted == "delete":
        return _open_in(wanted, path, kind, is_network, notice)
    if wanted != "wal":
        raise HistoryError(f"TRAINTOP_JOURNAL is {wanted!r}: set it to wal or delete, or unset it.")
    try:
        return _open_in("wal", path, kind, is_network, notice)
    except sqlite3.OperationalError as error:
        if is_locked(error):
            raise
        return _open_in("delete", path, kind, is_network, notice)  # no shared memory here, whatever the mount says


def _open_in(journal: str, path: Path, kind: str | None, is_network: bool, notice: str | None) -> OpenedFile:
    with contextlib.ExitStack() as undo:
        write = connect(path)
        undo.callback(write.close)
        mode = _set_wal(write, path) if journal == "wal" else _set_delete(write, path, is_network)
        set_format(write, path)
        give_name(write)
        read = connect(path)
        undo.callback(read.close)
        read.execute("PRAGMA query_only=ON")
        read.execute("SELECT run_id FROM runs ORDER BY run_id DESC LIMIT 1").fetchall()
        undo.pop_all()
    return OpenedFile(
        path=path,
        write=write,
        read=read,
        journal_mode=mode,
        file_system=kind,
        parts=_parts_of(path),
        folder_mode=_folder_mode(path),
        notice=notice,
    )


def _set_wal(connection: sqlite3.Connection, path: Path) -> str:
    format_of(connection, path)  # first: the journal's mode is written into the file, which may be another program's
    try:
        return pragma(connection, "journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if not is_locked(error) and "readonly" not in str(error):
            raise
        return pragma(connection, "journal_mode")  # all users of a file share its mode


def _set_delete(connection: sqlite3.Connection, path: Path, is_network: bool) -> str:
    try:
        # first of all, so that a file in WAL mode is opened without the memory map that the network lacks
        pragma(connection, "locking_mode=EXCLUSIVE")
        format_of(connection, path)
        pragma(connection, "journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        if not is_locked(error):
            raise
        if is_network:
            message = (
                f"The history {path} is on a network file system and another program uses it in a mode (WAL) "
                "that cannot be shared there: close that program and start again."
            )
            raise HistoryError(message) from None
    pragma(connection, "locking_mode=NORMAL")
    return pragma(connection, "journal_mode")
