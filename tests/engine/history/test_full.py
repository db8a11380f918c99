"""A disk that is full to the end: nothing is lost silently. A real file system that is full, where one can be had."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import UpdateDone
from engine.contract.records import Outcome, RunRecord
from engine.history import errors
from engine.history.history import History, HistoryError
from tests.engine.history.history_process import DEVICE, update

SCRIPT = Path(__file__).with_name("history_process.py")
SMALL_DISK = 'mount -t tmpfs -o size={size}k none "$1" && shift && exec "$@"'


def can_mount() -> bool:
    """Whether this user may have a file system of its own."""
    unshare = shutil.which("unshare")
    command = [unshare or "", "-rm", "true"]
    return bool(unshare) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def numbers(history: History, run_id: int) -> list[int]:
    return [event.update for _, event in history.series(run_id) if isinstance(event, UpdateDone)]


def fill(history: History) -> None:
    """From here on SQLite says that the disk is full."""
    write = history._store.opened.write
    assert write is not None
    pages = write.execute("PRAGMA page_count").fetchone()[0]
    write.execute(f"PRAGMA max_page_count = {pages}")


def long_run(history: History) -> tuple[int, RunRecord]:
    """A run whose end does not fit any more, and its record."""
    run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
    history.writer.append(update(run_id, 1))
    assert history.writer.flush() is None
    fill(history)
    for number in range(2, 2001):
        history.writer.append(update(run_id, number))
    record = RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED, updates=2000)
    with pytest.raises(HistoryError, match="is full: free some space"):
        history.writer.finish_run(record)
    assert history.writer.failure is not None
    return run_id, record


def test_what_does_not_fit_at_the_end_is_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "home" / "history.sqlite3"
    history = History(path)
    run_id, record = long_run(history)
    told = history.close()
    assert told is not None
    assert told.startswith(f"Not all of run {run_id} is in the history. The disk of the history {path} is full")
    found = re.search(r"traintop runs --history-dir (\S+)`", told)
    assert found is not None
    with History(Path(found[1]) / "history.sqlite3") as kept:
        assert numbers(kept, run_id) == list(range(1, 2001))
        assert kept.run(run_id) is not None
        assert [run.outcome for run in kept.runs()] == [Outcome.COMPLETED]
    with History(path) as again:
        again.mark_interrupted()
        row = again.run(run_id)
        assert row is not None
        assert (row.outcome, row.updates) == (record.outcome, record.updates)  # not: killed
        assert "series is not complete" in (row.message or "")
        assert numbers(again, run_id) == [1]
    assert history.close() is None


def test_what_fits_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere))
    monkeypatch.setattr(os, "link", _refuse)  # beside it there is no room either
    monkeypatch.setattr(Path, "rename", _refuse)
    history = History(tmp_path / "home" / "history.sqlite3")
    run_id, _ = long_run(history)
    told = history.close()
    assert told is not None
    assert f"Not all of run {run_id} is in the history, and the rest is lost" in told
    assert [file.name for file in (tmp_path / "home").iterdir()] == ["history.sqlite3"]


def _refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system")
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_file_system_that_is_full_to_the_end(tmp_path: Path, journal: str) -> None:
    disk, temporary = tmp_path / "disk", tmp_path / "temporary"
    disk.mkdir()
    temporary.mkdir()
    mounted = ["unshare", "-rm", "sh", "-c", SMALL_DISK.format(size=120), "sh", str(disk)]
    command = [*mounted, sys.executable, str(SCRIPT), "full_to_the_end", str(disk / "home" / "history.sqlite3")]
    environment = {**os.environ, "TMPDIR": str(temporary), "TRAINTOP_JOURNAL": journal}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    during, end = done.stdout.splitlines()
    assert "is full: free some space" in during
    assert end.startswith("Not all of run 1 is in the history.")
    (folder,) = temporary.iterdir()
    assert f"traintop runs --history-dir {folder}`" in end
    with History(folder / "history.sqlite3") as kept:
        assert numbers(kept, 1) == list(range(1, 2001))
        assert [run.outcome for run in kept.runs()] == [Outcome.COMPLETED]


def test_a_used_up_quota_is_told_from_a_broken_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import sqlite3

    broken = sqlite3.OperationalError("disk I/O error")  # what SQLite says of both
    assert "(disk I/O error): check the disk" in str(errors.explain(tmp_path / "history", broken))

    def used_up(_: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", used_up)
    assert str(errors.explain(tmp_path / "history", broken)).startswith("The disk quota is used up where the history")
