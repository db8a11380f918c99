"""A quota that is used up before a run begins, and in its middle: no row is lost.

The quota is a library between SQLite and the kernel that answers EDQUOT; the disk that is full is a real one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History
from tests.engine.history.history_process import DEVICE, update
from tests.engine.history.test_full import SCRIPT, SMALL_DISK, can_mount, fill, numbers

SOURCE = Path(__file__).with_name("no_room.c")


@pytest.fixture(scope="module")
def quota(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) to build the used-up quota, or not Linux")
    library = tmp_path_factory.mktemp("quota") / "no_room.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def run(quota: Path, tmp_path: Path, command: str, journal: str) -> list[str]:
    """What a process of `history_process.py` says, with its home under the quota."""
    home = tmp_path / "home"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {
        **os.environ,
        "LD_PRELOAD": str(quota),
        "NO_ROOM_IF": str(tmp_path / "used-up"),
        "NO_ROOM_BELOW": str(home),
        "TMPDIR": str(temporary),
        "TRAINTOP_JOURNAL": journal,
    }
    words = [sys.executable, str(SCRIPT), command, str(home / "history.sqlite3"), str(tmp_path / "used-up")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


QUOTA = r"The disk quota is used up where the history .* is: free some space there, or give --history-dir a folder"


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_quota_that_is_used_up_before_a_run_and_in_one_loses_no_row(
    quota: Path, tmp_path: Path, journal: str
) -> None:
    lines = run(quota, tmp_path, "used_up_for_a_while", journal)
    assert lines[0] == "1 2"  # both have a number, and the second no row
    assert re.match(QUOTA, lines[1])
    assert lines[2:] == ["None", "None"]  # written in full when there was room again, so nothing to tell at the end
    with History(tmp_path / "home" / "history.sqlite3") as history:
        assert [(row.run_id, row.outcome, row.updates) for row in history.runs()] == [
            (1, Outcome.COMPLETED, 300),
            (2, Outcome.COMPLETED, 300),
        ]
        assert numbers(history, 1) == numbers(history, 2) == list(range(1, 301))


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("before", ["old", "none"])
def test_a_quota_that_is_used_up_from_the_start_to_the_end_keeps_the_run_elsewhere(
    quota: Path, tmp_path: Path, journal: str, before: str
) -> None:
    if before == "old":
        with History(tmp_path / "home" / "history.sqlite3") as history:
            run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0)
            history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED))
    first = 2 if before == "old" else 1
    opened, number, end = run(quota, tmp_path, "used_up_throughout", journal)
    assert number == f"{first - 1} {first}"  # what was there is read, and the next number promised
    if opened != "None":  # where not even opening had room
        assert re.match(QUOTA, opened)
        assert opened.endswith("Until then runs are kept in memory.")
    assert end.startswith(f"Not all of run {first} is in the history. The disk quota is used up")
    found = re.search(r"traintop runs --history-dir (\S+)`", end)
    assert found is not None
    with History(Path(found[1]) / "history.sqlite3") as kept:
        assert [(row.run_id, row.outcome, row.updates) for row in kept.runs()] == [(first, Outcome.COMPLETED, 300)]
        assert numbers(kept, first) == list(range(1, 301))


@pytest.mark.skipif(not can_mount(), reason="this user may not mount a file system")
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_full_disk_is_opened_and_a_run_on_it_kept_elsewhere(tmp_path: Path, journal: str) -> None:
    disk, temporary = tmp_path / "disk", tmp_path / "temporary"
    disk.mkdir()
    temporary.mkdir()
    mounted = ["unshare", "-rm", "sh", "-c", SMALL_DISK.format(size=200), "sh", str(disk)]
    command = [*mounted, sys.executable, str(SCRIPT), "full_from_the_start", str(disk / "home" / "history.sqlite3")]
    environment = {**os.environ, "TMPDIR": str(temporary), "TRAINTOP_JOURNAL": journal}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    number, end = done.stdout.splitlines()
    assert number == "1 2"
    assert end.startswith("Not all of run 2 is in the history.")
    (folder,) = temporary.iterdir()
    with History(folder / "history.sqlite3") as kept:
        assert numbers(kept, 2) == list(range(1, 301))


def room_again(history: History) -> None:
    write = history._store.opened.write
    assert write is not None
    write.execute("PRAGMA max_page_count = 1000000")


def test_a_number_that_another_program_took_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    with History(path) as history, History(path) as other:
        run_id = _full(history)
        room_again(history)
        theirs = other.writer.begin_run(RunConfig(batch_size=64), DEVICE, started_at=2000.0)
        assert theirs == run_id  # it was promised, and not taken
        history.writer._retry_at = 0.0  # the failed flush before may have asked for a pause
        told = history.writer.flush()
        assert told == (
            f"Run {run_id} is run {run_id + 1} in the history: another program had taken its number meanwhile."
        )
        history.writer.append(update(run_id, 2))  # goes on under the number that was told
        history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED, updates=2))
        kept, foreign = history.run(run_id + 1), history.run(theirs)
        assert kept is not None
        assert foreign is not None
        assert (kept.outcome, kept.config.batch_size) == (Outcome.COMPLETED, RunConfig().batch_size)
        assert (foreign.outcome, foreign.config.batch_size) == (Outcome.RUNNING, 64)
        assert numbers(history, run_id + 1) == [1, 2]
        assert numbers(history, theirs) == []


def test_a_run_without_a_row_that_turns_out_to_be_none_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    with History(path) as history, History(path) as other:
        run_id = _full(history)
        room_again(history)
        assert other.writer.begin_run(RunConfig(), DEVICE, started_at=2000.0) == run_id
        history.writer.drop_run(run_id)
        assert history.writer.flush() is None
        assert other.run(run_id) is not None


def _full(history: History) -> int:
    """A history without room for one more row, and the number that a run on it was promised."""
    fill(history)
    while True:
        run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
        if history.run(run_id) is None:
            break
        history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED))
    history.writer.append(update(run_id, 1))
    assert history.writer.flush() is not None
    return run_id
