"""The history with real processes: killed in the middle, two at once, a full disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import UpdateDone
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.history.history import History

SCRIPT = Path(__file__).with_name("history_process.py")
DEVICE = DeviceInfo(name="cpu", kind="cpu")


@pytest.fixture(params=["wal", "delete"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINTOP_JOURNAL", request.param)
    return tmp_path / "folder" / "history.sqlite3"


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(processes: list[subprocess.Popen[str]], *arguments: object) -> Any:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    processes.append(process)
    return process


def found(history: History, run_id: int) -> RunRecord:
    record = history.run(run_id)
    assert record is not None
    return record


def update_numbers(history: History, run_id: int) -> list[int]:
    return [event.update for _, event in history.series(run_id) if isinstance(event, UpdateDone)]


def test_kill_9_loses_nothing_that_was_flushed(path: Path, processes: list[subprocess.Popen[str]]) -> None:
    child = start(processes, "until_killed", path)
    run_id = int(child.stdout.readline())
    acknowledged = [0]
    while acknowledged[-1] < 300:  # beyond the first merge of small batches
        acknowledged.append(int(child.stdout.readline()))
    with History(path) as watcher:
        assert watcher.mark_interrupted() == []  # alive
        assert found(watcher, run_id).outcome is Outcome.RUNNING
    child.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout]
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, though its parent has not asked yet: a zombie

    with History(path) as history:
        (record,) = history.mark_interrupted()
        assert record == history.run(run_id)
        assert (record.run_id, record.outcome) == (run_id, Outcome.INTERRUPTED)
        assert str(child.pid) in (record.message or "")
        assert update_numbers(history, run_id) == list(range(1, record.updates + 1))
        assert record.updates >= acknowledged[-1]
        assert record.last_loss == 1 / record.updates
        assert record.train_runtime_s == record.updates * 0.25
        assert record.peak_used == record.updates * 2**20
        assert record.planned_updates == 10_000_000
        assert history.mark_interrupted() == []


def test_two_writers_at_once_lose_nothing(path: Path, processes: list[subprocess.Popen[str]]) -> None:
    writers = [start(processes, "runs", path, 3, 120) for _ in range(2)]
    for writer in writers:  # both open the file, which is not there yet, at the same moment
        writer.stdin.write("go\n")
        writer.stdin.flush()
    with History(path) as history:
        own = history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0)
        while any(writer.poll() is None for writer in writers):
            assert history.mark_interrupted() == []
            assert history.writer.flush() is None
        run_ids = [int(line) for writer in writers for line in writer.stdout]
        assert [writer.wait() for writer in writers] == [0, 0]
        assert sorted([own, *run_ids]) == [record.run_id for record in history.runs()]
        for run_id in run_ids:
            assert update_numbers(history, run_id) == list(range(1, 121))
            assert found(history, run_id).outcome is Outcome.COMPLETED


def test_a_full_disk_is_told_once_and_loses_nothing(path: Path, processes: list[subprocess.Popen[str]]) -> None:
    child = start(processes, "full", path)
    number, *sentences = child.stdout.read().splitlines()
    assert child.wait() == 0
    assert len(sentences) == 1
    assert str(path) in sentences[0]
    with History(path) as history:
        assert update_numbers(history, 1) == list(range(1, int(number) + 1))


def test_the_number_of_a_dead_process_may_belong_to_another(path: Path) -> None:
    with History(path) as history, History(path) as other:
        run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0)
        assert other.mark_interrupted() == []
        with_sql(path, "UPDATE runs SET process_started = process_started - 3600")
        assert [record.run_id for record in other.mark_interrupted()] == [run_id]


def test_a_process_of_another_machine_is_dead_when_its_row_is_not_touched(path: Path) -> None:
    with History(path) as history, History(path) as other:
        run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1.0)
        with_sql(path, "UPDATE runs SET machine = 'elsewhere', pid = 1")
        assert other.mark_interrupted() == []
        with_sql(path, "UPDATE runs SET heartbeat = heartbeat - 61")
        (record,) = other.mark_interrupted()
        assert record.outcome is Outcome.INTERRUPTED

        history.writer.flush()  # it was only suspended
        assert (found(other, run_id).outcome, found(other, run_id).message) == (Outcome.RUNNING, None)


def with_sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def test_importing_the_history_is_light() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'numpy', 'pandas', 'textual', 'rich', 'psutil'}"
    code = f"import sys, engine.history.history; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPT.parents[3], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
