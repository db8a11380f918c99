"""Opening the history: journals and file systems, damage, other programs' and newer versions' files."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

import engine.history.file
import engine.history.schema
from engine.contract import paths
from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.history.file_system import file_system_of, is_network_type, mount_type
from engine.history.history import History, HistoryError
from engine.plans.course import sweep
from tests.engine.history.history_process import update

DEVICE = DeviceInfo(name="cpu", kind="cpu")

MOUNTINFO = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:40 / /home rw,relatime - autofs systemd-1 rw,fd=30
31 30 0:41 / /home/ada rw,relatime shared:7 master:2 - nfs4 filer:/home/ada rw,vers=4.2
32 31 0:42 / /home/ada/scratch\040space\134x rw - xfs /dev/sdb1 rw
33 22 0:43 / /home/ada/remote rw - fuse.sshfs ada@host:/ rw
34 22 0:44 / /data rw - ext4 /dev/sdc1 rw
35 34 0:45 / /data rw - lustre mgs@tcp:/data rw
not a line of the kernel's
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/lib/x", "ext4", False),
        ("/", "ext4", False),
        ("/home/ada/.local/share/traintop/history.sqlite3", "nfs4", True),
        ("/home/adam/history", "autofs", False),  # a longer name is not inside
        (r"/home/ada/scratch space\x/history", "xfs", False),
        ("/home/ada/remote/history", "fuse.sshfs", True),
        ("/data/history", "lustre", True),  # mounted over the other
    ],
)
def test_the_file_system_is_that_of_the_longest_mount_prefix(path: str, kind: str, network: bool) -> None:
    assert mount_type(MOUNTINFO, path) == kind
    assert is_network_type(kind) is network


def test_without_a_mount_table_nothing_is_claimed() -> None:
    assert mount_type("", "/x") is None
    assert is_network_type(None) is False
    assert is_network_type("fuseblk") is False


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux")
def test_the_file_system_of_a_real_path() -> None:
    assert file_system_of(Path("/proc/self/status")) == ("proc", False)
    assert file_system_of(Path("/proc/is/not/there")) == ("proc", False)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TRAINTOP_JOURNAL", raising=False)
    on_file_system(monkeypatch, "ext4")
    return tmp_path / "history.sqlite3"


def on_file_system(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(engine.history.file, "file_system_of", lambda _: (kind, is_network_type(kind)))


def sql(path: Path, statement: str) -> Any:
    connection = sqlite3.connect(path, isolation_level=None)
    rows = connection.execute(statement).fetchall()
    connection.close()
    return rows[0][0] if rows else None


def test_a_local_disk_gets_wal_and_a_network_the_rollback_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with History(path) as history:
        assert (history.journal_mode, history.file_system) == ("wal", "ext4")
    on_file_system(monkeypatch, "nfs4")
    with History(path.with_name("other.sqlite3")) as history:
        assert (history.journal_mode, history.file_system) == ("delete", "nfs4")
        history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0)
        assert history.n_runs() == 1
        assert not path.with_name("other.sqlite3-wal").exists()


def test_the_environment_overrides(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_JOURNAL", "DELETE")
    with History(path) as history:
        assert history.journal_mode == "delete"
    monkeypatch.setenv("TRAINTOP_JOURNAL", "wal")
    on_file_system(monkeypatch, "nfs4")
    with History(path) as history:
        assert history.journal_mode == "wal"
    monkeypatch.setenv("TRAINTOP_JOURNAL", "fast")
    with pytest.raises(HistoryError, match="TRAINTOP_JOURNAL is 'fast': set it to wal or delete"):
        History(path)


def test_a_wal_file_moved_to_a_network_is_converted_with_all_it_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = path.with_name("moved.sqlite3")
    with History(path) as history:
        history.writer.begin_run(RunConfig(seed=5), DEVICE, started_at=1.0)
        for suffix in ("", "-wal"):  # what a crash leaves: the row is in the log alone
            shutil.copy(f"{path}{suffix}", f"{moved}{suffix}")
    on_file_system(monkeypatch, "nfs4")
    with History(moved) as first, History(moved) as second:
        assert first.journal_mode == second.journal_mode == "delete"
        assert [record.config.seed for record in second.runs()] == [5]
        second.note(1, "written while the other is open")
        assert first.notes() == {1: "written while the other is open"}
    assert moved.read_bytes()[18] == 1  # the header's format: rollback journal
    assert not Path(f"{moved}-wal").exists()


def test_a_wal_file_in_use_is_refused_on_a_network_and_shared_on_a_local_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.history.schema, "OPEN_WAIT_S", 0.05)
    with History(path) as first:
        first.writer.begin_run(RunConfig(), DEVICE, started_at=1.0)
        monkeypatch.setenv("TRAINTOP_JOURNAL", "delete")
        with History(path) as second:
            assert second.journal_mode == "wal"
            assert second.n_runs() == 1
        on_file_system(monkeypatch, "nfs4")
        with pytest.raises(HistoryError, match=r"network file system .* close that program"):
            History(path)


def test_without_shared_memory_wal_gives_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_shared_memory(_: sqlite3.Connection, path: Path) -> str:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(engine.history.file, "_set_wal", no_shared_memory)
    with History(path) as history:
        assert history.journal_mode == "delete"


@pytest.mark.parametrize("damage", ["text", "zeros", "half"])
def test_a_damaged_file_is_set_aside_and_kept(path: Path, damage: str) -> None:
    with History(path) as history:
        history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0)
    whole = path.read_bytes()
    broken = {"text": b"not a database\n" * 300, "zeros": bytes(8192), "half": whole[:4096] + b"\xaa" * 12_000}[damage]
    path.write_bytes(broken)
    with History(path) as history:
        assert history.runs() == []
        assert history.notice is not None
        assert "damaged" in history.notice
        assert history.writer.begin_run(RunConfig(), DEVICE, started_at=2.0) == 1
    (aside,) = path.parent.glob("history.damaged-*.sqlite3")
    assert str(aside) in history.notice
    assert aside.read_bytes() == broken
    path.write_bytes(broken)
    with History(path) as history:
        assert len(list(path.parent.glob("history.damaged-*.sqlite3"))) == 2


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_what_can_be_read_of_a_damaged_file_is_in_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    monkeypatch.setenv("TRAINTOP_JOURNAL", journal)
    notes = {}
    with History(path) as history:
        for run_id in range(1, 41):
            history.writer.begin_run(RunConfig(seed=run_id), DEVICE, started_at=1.0)
            history.writer.append(update(run_id, 1))
            history.writer.finish_run(
                RunRecord(run_id=run_id, config=RunConfig(seed=run_id), outcome=Outcome.COMPLETED)
            )
            notes[run_id] = f"note {run_id} " * 20
            history.note(run_id, notes[run_id])
        history.set_baseline(3)
        plan_id = history.plans.begin(sweep(RunConfig(), {"batch_size": ["1", "2"]}))
        history.plans.record_step(plan_id, (0, 0), run_id=1)
        history.delete([40])
    content = bytearray(path.read_bytes())
    page = content.index(notes[20].encode()) // 4096 * 4096
    content[page : page + 4096] = b"\xaa" * 4096
    path.write_bytes(content)

    with History(path, read_only=True) as reader, pytest.raises(HistoryError, match="start `traintop` on it"):
        reader.runs()
    assert path.read_bytes() == content
    with History(path) as history:
        assert history.notice is None  # the damage is further in
        found = {record.run_id: record for record in history.runs()}  # until somebody comes there
        assert found.keys() < set(range(1, 40))
        assert {1, 39} <= found.keys()
        assert 20 not in found
        said = history.writer.flush()
        assert said is not None
        (aside,) = history.damaged_files
        assert f"{len(found) + 1} of its runs could be read" in said  # with the deleted one
        assert f"`sqlite3 {aside} .recover`" in said
        for run_id, record in found.items():
            assert record.config.seed == run_id
            assert [event for _, event in history.series(run_id)] == [update(run_id, 1)]
        assert history.notes() == {run_id: notes[run_id] for run_id in (*found, 40)}
        assert history.baseline() == 3
        assert set(history.plans.steps(plan_id)) == {(0, 0)}
        assert history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0) == 41
    assert aside.read_bytes() == content


def test_a_newer_versions_file_is_refused_and_left_alone(path: Path) -> None:
    with History(path):
        pass
    sql(path, "PRAGMA user_version = 99")
    with pytest.raises(HistoryError, match=r"newer traintop \(format 99, this one knows \d\): update traintop"):
        History(path)
    assert sql(path, "PRAGMA user_version") == 99


def test_another_programs_database_is_refused_and_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql(path, "CREATE TABLE songs (title TEXT)")
    before = path.read_bytes()
    for journal in ("wal", "delete"):
        monkeypatch.setenv("TRAINTOP_JOURNAL", journal)
        for read_only in (False, True):
            with pytest.raises(HistoryError, match="another program's database"):
                History(path, read_only=read_only)
    assert path.read_bytes() == before  # its journal's mode too
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_format_that_grows_keeps_the_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with History(path) as history:
        history.writer.begin_run(RunConfig(seed=3), DEVICE, started_at=1.0)
    grown = (*engine.history.schema.MIGRATIONS, ("ALTER TABLE runs ADD COLUMN colour TEXT",))
    monkeypatch.setattr(engine.history.schema, "MIGRATIONS", grown)
    with History(path) as history:
        assert [record.config.seed for record in history.runs()] == [3]
    assert sql(path, "PRAGMA user_version") == len(grown)
    assert sql(path, "SELECT count(*) FROM pragma_table_info('runs') WHERE name = 'colour'") == 1


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with History(path):
        pass
    known = len(engine.history.schema.MIGRATIONS)
    broken = (*engine.history.schema.MIGRATIONS, ("ALTER TABLE runs ADD COLUMN colour TEXT", "DROP TABLE nowhere"))
    monkeypatch.setattr(engine.history.schema, "MIGRATIONS", broken)
    with pytest.raises(HistoryError, match="nowhere"):
        History(path)
    assert sql(path, "PRAGMA user_version") == known
    assert sql(path, "SELECT count(*) FROM pragma_table_info('runs') WHERE name = 'colour'") == 0


def test_who_reads_changes_nothing_and_waits_for_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.history.schema, "OPEN_WAIT_S", 0.05)
    with History(path) as history:
        run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0)
        sql(path, "UPDATE runs SET process_started = 0")  # its process is gone
        locked = sqlite3.connect(path, isolation_level=None)
        locked.execute("BEGIN IMMEDIATE")
        with History(path, read_only=True) as reader:
            (record,) = reader.runs()
            assert record.outcome is Outcome.INTERRUPTED
            assert reader.run(run_id) == record
            with pytest.raises(HistoryError, match="read only"):
                reader.note(run_id, "x")
        locked.close()
    assert sql(path, "SELECT outcome FROM runs") == "running"


def test_who_reads_makes_a_history_where_there_is_none_and_renews_an_old_one(path: Path) -> None:
    with History(path, read_only=True) as reader:
        assert reader.runs() == []
    sql(path, "DROP TABLE plans")
    sql(path, "DROP TABLE plan_steps")
    sql(path, "PRAGMA user_version = 1")
    with History(path, read_only=True) as reader:
        assert reader.plans.newest() == []


def test_folders_are_made_and_bad_places_explained(tmp_path: Path) -> None:
    with History(tmp_path / "a" / "b" / "history.sqlite3") as history:
        assert history.runs() == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HistoryError, match=r"folder .*/file/x for the history cannot be made .* give --history-dir"):
        History(tmp_path / "file" / "x" / "history.sqlite3")
    with pytest.raises(HistoryError, match="is a folder"):
        History(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "history.sqlite3")
    with pytest.raises(HistoryError, match="cannot be opened: make its folder writable"):
        History(tmp_path / "dangling")


def test_the_default_place_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    with History() as history:
        assert history.path == paths.history_file() == tmp_path / "home" / "history.sqlite3"
        assert os.path.exists(history.path)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("what", ["a named pipe", "a socket", "a device", "a folder"])
def test_what_is_no_file_is_said_to_be_none(
    what: str, read_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.sqlite3"
    if what == "a named pipe":
        os.mkfifo(path)
    elif what == "a socket":
        monkeypatch.chdir(tmp_path)  # a whole path may be too long for a socket's address
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(path.name)
    elif what == "a device":
        path.symlink_to("/dev/null")
    else:
        path.mkdir()
    sentence = f"The history {path} is {what}: move it away, or give --history-dir another folder."
    with pytest.raises(HistoryError, match=re.escape(sentence)):
        History(path, read_only=read_only)


def test_a_folder_that_is_made_for_the_history_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with History(tmp_path / "made" / "history.sqlite3"):
            assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    finally:
        os.umask(before)
