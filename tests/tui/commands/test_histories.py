"""A history that is damaged, read-only, locked or nowhere, as the commands meet it. Real processes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.history.history import History
from tests.end_to_end.programs import COMMAND, environment, traintop

READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
CPU = DeviceInfo(name="cpu", kind="cpu")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A history with one run."""
    with History(tmp_path / "history.sqlite3") as history:
        run_id = history.writer.begin_run(RunConfig(), CPU, started_at=1.0)
        history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED, updates=7))
    return tmp_path


def read_only(home: Path) -> list[str]:
    """Make a home read-only; what to put before a command. Permissions do not hold root back."""
    if os.geteuid() != 0:
        (home / "history.sqlite3").chmod(0o444)
        home.chmod(0o555)
        return []
    if not shutil.which("unshare"):
        pytest.skip("root cannot be held back here")
    return ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(home)]


def test_a_damaged_history_is_told_and_told_again_while_there_is_nothing_else(home: Path) -> None:
    (home / "history.sqlite3").write_bytes(b"not a database\n" * 500)
    done = traintop("runs", env=environment(home))
    assert (done.returncode, done.stdout) == (0, "")
    (aside,) = home.glob("history.damaged-*.sqlite3")
    told, nothing = done.stderr.splitlines()
    assert "was damaged" in told
    assert f"`sqlite3 {aside} .recover`" in told
    assert nothing.startswith("No runs yet")
    assert "was damaged" in (home / "traintop.log").read_text()
    again = traintop("report", env=environment(home))
    assert again.returncode == 0
    assert str(aside) in again.stderr


def test_a_read_only_history_is_read_and_no_run_begins_there(home: Path) -> None:
    before = read_only(home)
    env = {**os.environ, **environment(home)}
    try:
        for command in (["runs", "--json"], ["report"], ["watch", "1", "--json"]):
            done = subprocess.run([*before, *COMMAND, *command], env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout
        run = subprocess.run([*before, *COMMAND, "run"], env=env, capture_output=True, text=True, check=False)
        assert run.returncode == 5
        assert "writable, or give --history-dir" in run.stderr.splitlines()[-1]
        assert "Traceback" not in run.stderr
    finally:
        home.chmod(0o755)


def test_a_home_of_nobody_is_one_sentence(tmp_path: Path) -> None:
    for command in ("runs", "run", "doctor"):
        done = traintop(command, env={**environment(tmp_path), "TRAINTOP_HOME": "~no-such-user/x"})
        assert done.returncode == 2
        sentence = done.stderr.splitlines()[-1]
        assert "TRAINTOP_HOME is '~no-such-user/x', and there is no home folder for ~no-such-user" in sentence
        assert "Traceback" not in done.stderr


def test_another_programs_database_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    before = path.read_bytes()
    done = traintop("runs", env=environment(tmp_path))
    assert done.returncode == 5
    assert "another program's database" in done.stderr
    assert path.read_bytes() == before
