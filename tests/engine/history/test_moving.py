"""The history's file lost while it is in use: deleted, moved away, replaced, spoiled. Real files and processes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import UpdateDone
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History
from tests.engine.history.history_process import DEVICE, update

SCRIPT = Path(__file__).with_name("history_process.py")


@pytest.fixture(params=["wal", "delete"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINTOP_JOURNAL", request.param)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "home" / "history.sqlite3"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    """One finished run with a note, the baseline; run 2 under way."""
    with History(path) as opened:
        for number in range(1, 6):
            run(opened, 1, number)
        opened.writer.finish_run(done(1))
        opened.note(1, "kept")
        opened.set_baseline(1)
        for number in range(1, 71):  # beyond the first merge of small batches
            run(opened, 2, number)
        yield opened


def run(history: History, run_id: int, number: int) -> None:
    """An update of a run, flushed; the run begins with its first."""
    if number == 1:
        assert history.writer.begin_run(RunConfig(seed=run_id), DEVICE, started_at=1000.0) == run_id
    history.writer.append(update(run_id, number))
    assert history.writer.flush() is None


def done(run_id: int) -> RunRecord:
    return RunRecord(run_id=run_id, config=RunConfig(seed=run_id), outcome=Outcome.COMPLETED, updates=5)


def go_on(history: History) -> str:
    """The next update, and what is said when it is written."""
    history.writer.append(update(2, 71))
    return history.writer.flush() or ""


def numbers(history: History, run_id: int) -> list[int]:
    return [event.update for _, event in history.series(run_id) if isinstance(event, UpdateDone)]


def remove_file(path: Path) -> None:
    path.unlink()


def remove_home(path: Path) -> None:
    shutil.rmtree(path.parent)


def move_file(path: Path) -> None:
    path.rename(path.with_name("moved.sqlite3"))


@pytest.mark.parametrize("lose", [remove_file, remove_home, move_file])
def test_a_file_that_is_gone_is_made_again_with_all_it_held(
    history: History, path: Path, lose: Callable[[Path], None]
) -> None:
    lose(path)
    said = go_on(history)
    assert f"The history {path} was deleted or moved away" in said
    assert "2 runs" in said
    assert go_on(history) == ""
    history.writer.finish_run(done(2))
    assert history.path == path
    assert history.close() is None
    with History(path) as again:
        assert [record.outcome for record in again.runs()] == [Outcome.COMPLETED, Outcome.COMPLETED]
        assert numbers(again, 1) == list(range(1, 6))
        assert numbers(again, 2) == [*range(1, 72), 71]
        assert (again.notes(), again.baseline()) == ({1: "kept"}, 1)
        assert again.writer.begin_run(RunConfig(), DEVICE, started_at=1.0) == 3
    assert not list(path.parent.glob("*.new"))


@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_a_home_that_is_made_again_is_open_to_those_that_it_was_open_to(mode: int, path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)
    before = os.umask(0o027)
    try:
        with History(path) as history:
            run(history, 1, 1)
            shutil.rmtree(path.parent)
            assert "was written there again (1 run)" in go_on(history)
        assert stat.S_IMODE(path.parent.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_file_that_was_moved_away_is_whole(history: History, path: Path) -> None:
    move_file(path)
    go_on(history)
    with History(path.with_name("moved.sqlite3")) as moved:
        assert numbers(moved, 2) == list(range(1, 71))
        assert [record.run_id for record in moved.runs()] == [1, 2]


def test_without_a_flush_the_next_run_or_note_finds_the_place_empty_too(history: History, path: Path) -> None:
    history.writer.finish_run(done(2))
    path.unlink()
    assert history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0) == 3
    path.unlink()
    history.note(2, "after all")
    with History(path) as again:
        assert [record.run_id for record in again.runs()] == [1, 2, 3]
        assert again.notes() == {1: "kept", 2: "after all"}


@pytest.mark.parametrize("other", ["text", "songs", "history"])
def test_another_file_in_its_place_is_left_alone(history: History, path: Path, tmp_path: Path, other: str) -> None:
    stranger = tmp_path / "stranger"
    if other == "text":
        stranger.write_text("my diary\n" * 1000)
    elif other == "songs":
        with_sql(stranger, "CREATE TABLE songs (title TEXT)")
    else:
        with History(stranger) as theirs:
            theirs.writer.begin_run(RunConfig(seed=9), DEVICE, started_at=1.0)
    before = stranger.read_bytes()
    os.replace(stranger, path)
    said = go_on(history)
    assert f"The history {path} was replaced by another file" in said
    folder = history.path.parent
    assert folder.parent == path.parent
    assert f"traintop runs --history-dir {folder}`" in said
    assert history.moved_to == folder
    history.writer.finish_run(done(2))
    told = history.close()
    assert told is not None
    assert str(folder) in told
    assert path.read_bytes() == before
    with History(folder / path.name) as again:
        assert [record.run_id for record in again.runs()] == [1, 2]
        assert numbers(again, 2) == list(range(1, 72))


def test_a_backup_put_back_is_filled_up(history: History, path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    source, target = sqlite3.connect(path), sqlite3.connect(backup)
    source.backup(target)
    target.execute("DELETE FROM batches WHERE run_id = 2")
    target.execute("DELETE FROM runs WHERE run_id = 2")
    target.commit()
    source.close()
    target.close()
    os.replace(backup, path)
    assert "a copy of it, and goes on there" in go_on(history)
    with History(path) as again:
        assert [record.run_id for record in again.runs()] == [1, 2]
        assert numbers(again, 1) == list(range(1, 6))
        assert numbers(again, 2) == list(range(1, 72))


def test_a_home_that_cannot_be_made_again(history: History, path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    said = go_on(history)
    folder = history.path.parent
    assert folder.parent == Path(tempfile.gettempdir())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert str(folder) in said
    with History(history.path) as again:
        assert numbers(again, 2) == list(range(1, 72))


def test_nowhere_to_write_keeps_it_in_memory(history: History, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    monkeypatch.setattr(tempfile, "tempdir", str(path.parent))
    assert "nothing can be written" in go_on(history)
    assert history.writer.failure is not None
    path.parent.unlink()
    history.writer._retry_at = 0.0
    assert "was written there again" in (history.writer.flush() or "")
    assert history.writer.failure is None
    with History(path) as again:
        assert numbers(again, 2) == list(range(1, 72))


@pytest.mark.parametrize("how", ["emptied", "overwritten"])
def test_a_file_spoiled_in_place_is_begun_again_from_memory(history: History, path: Path, how: str) -> None:
    if how == "emptied":
        os.truncate(path, 0)
    else:
        path.write_bytes(b"\xaa" * max(path.stat().st_size, 200_000))
        for part in path.parent.glob("history.sqlite3-wal"):
            os.truncate(part, 0)
        for name in ("read", "write"):  # what a connection has cached is not lost yet
            getattr(history._store.opened, name).close()
            spoiled = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            object.__setattr__(history._store.opened, name, spoiled)
    said = go_on(history)
    (aside,) = path.parent.glob("history.damaged-*.sqlite3")
    assert str(aside) in said
    history.writer.finish_run(done(2))
    assert history.close() is None
    with History(path) as again:
        assert numbers(again, 2) == list(range(1, 72))


def with_sql(path: Path, statement: str) -> Any:
    connection = sqlite3.connect(path)
    with connection:
        rows = connection.execute(statement).fetchall()
    connection.close()
    return rows


def test_two_processes_meet_in_the_file_that_one_of_them_made_again(history: History, path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "on_command", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "3\n"
        path.unlink()
        said = go_on(history)
        assert "3 runs" in said
        other.stdin.write("go on\n")
        assert "a copy of it, and goes on there" in other.stdout.readline()
        assert go_on(history) == ""
        other.stdin.write("finish\n")
        assert other.stdout.readline() == "None\n"
    history.writer.finish_run(done(2))
    with History(path) as again:
        assert [record.outcome for record in again.runs()] == [Outcome.COMPLETED] * 3
        assert numbers(again, 3) == [1, 2]
        assert numbers(again, 2) == [*range(1, 72), 71]


def test_who_watches_follows_to_the_new_file(history: History, path: Path) -> None:
    with History(path, read_only=True) as watcher:
        assert numbers(watcher, 2) == list(range(1, 71))
        path.unlink()
        go_on(history)
        assert numbers(watcher, 2) == list(range(1, 72))
