"""`traintop watch` and `traintop replay` without a screen, and what they refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.history.history import History
from tests.engine.history.history_process import DEVICE, update
from tests.engine.session.test_playback import record_run
from tests.engine.session.test_watch import Driver
from tui import cli

ROOT = Path(__file__).parents[3]


@pytest.fixture
def history() -> Iterator[History]:
    """The history of this test's own TRAINTOP_HOME."""
    with History() as opened:
        yield opened


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def traintop(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tui.cli", *words]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_an_empty_history_has_nothing_to_play(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "replay")
    assert "is empty" in said
    assert "--demo" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["replay", "9"], ["RUNS 9", "not in the history"]),
        (["replay", "nine"], ["'nine'", "such as"]),
        (["replay", "--speed", "0"], ["--speed '0'", "0.125 to 1000"]),
        (["replay", "--speed", "fast"], ["--speed 'fast'"]),
        (["replay", "--speed", "nan"], ["--speed 'nan'"]),
        (["replay", "1", "--demo"], ["--demo", "leave out"]),
        (["watch", "9"], ["Run 9", "not in the history"]),
        (["watch", "-1"], ["-1"]),
        (["watch", "last"], ["'last'", "number"]),
    ],
)
def test_refusals(words: list[str], says: list[str], history: History, capsys: pytest.CaptureFixture[str]) -> None:
    record_run(history, RunConfig())
    said = refused(capsys, *words)
    assert [part for part in says if part not in said] == []


def test_a_run_without_a_series_and_a_run_under_way_are_not_played(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
    said = refused(capsys, "replay", str(run_id))
    assert f"traintop watch {run_id}" in said
    record_run(history, RunConfig())
    history._store.change([("DELETE FROM batches", ())])
    assert "no series" in refused(capsys, "replay")


def test_replay_as_json_is_everything_at_once(history: History, capfd: pytest.CaptureFixture[str]) -> None:
    for size in (2, 4):
        record_run(history, RunConfig(batch_size=size))
    assert cli.main(["replay", "1-2", "--json"]) == 0
    captured = capfd.readouterr()
    told = events(captured.out)
    names = [event["event"] for event in told]
    assert names[0] == "plan_started"
    assert names[-1] == "plan_finished"
    assert names.count("update_done") == 8
    ends = [event for event in told if event["event"] == "run_finished"]
    assert [event["config"]["batch_size"] for event in ends] == [2, 4]
    assert "recorded on 2023-11-1" in captured.err


def test_replay_plays_the_newest_run_where_none_is_named(history: History, capfd: pytest.CaptureFixture[str]) -> None:
    for size in (2, 4):
        record_run(history, RunConfig(batch_size=size))
    assert cli.main(["replay", "--json"]) == 0
    assert [event["run_id"] for event in events(capfd.readouterr().out) if event["event"] == "run_started"] == [2]


def test_the_demo_as_lines_leaves_the_history_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--demo"]) == 0
    captured = capfd.readouterr()
    assert captured.out.count("Samples/second") >= 8
    assert "recorded on" in captured.err
    assert not (Path(os.environ["TRAINTOP_HOME"]) / "history.sqlite3").exists()


def test_watch_as_json_tells_of_another_process_until_it_is_killed(history: History) -> None:
    """Three processes: one drives and is killed, one watches, and this one tells them what to do."""
    driver = Driver(history.path)
    try:
        run_id = driver.do("begin 8")
        driver.do("updates 3")
        watcher = traintop("watch", str(run_id), "--json")
        assert watcher.stdout is not None
        told = events("".join(watcher.stdout.readline() for _ in range(4)))
        assert [event["event"] for event in told] == ["run_started"] + ["update_done"] * 3
        assert told[0]["config"]["batch_size"] == 8
        driver.do("updates 2")
        told = events("".join(watcher.stdout.readline() for _ in range(2)))
        assert [event["update"] for event in told] == [4, 5]
        driver.process.send_signal(signal.SIGKILL)
        driver.process.wait()
        (ended,) = events(watcher.communicate()[0])
        assert (ended["event"], ended["outcome"], ended["updates"]) == ("run_finished", "interrupted", 5)
        assert watcher.returncode == 130
    finally:
        driver.end()


def test_watch_without_a_run_goes_on_until_it_is_interrupted(history: History) -> None:
    run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
    watcher = traintop("watch", "--json")
    assert watcher.stdout is not None
    assert events(watcher.stdout.readline())[0]["event"] == "run_started"
    history.writer.append(update(run_id, 1))
    history.writer.flush()
    assert events(watcher.stdout.readline())[0]["update"] == 1
    watcher.send_signal(signal.SIGINT)
    assert watcher.communicate()[0] == ""
    assert watcher.returncode == 130


@pytest.mark.slow
def test_a_real_run_is_watched_by_another_process(history: History) -> None:
    words = ["--samples", "8", "--batch-size", "2", "--seq-len", "16", "--device", "cpu", "--json"]
    watcher = traintop("watch", "--json")
    run = traintop("run", *words)
    assert watcher.stdout is not None
    seen = []
    for line in watcher.stdout:
        seen += events(line)
        if seen[-1]["event"] == "run_finished":
            break
    watcher.send_signal(signal.SIGINT)
    watcher.communicate()
    told = events(run.communicate()[0])
    assert run.returncode == 0
    assert seen[-1] == told[-1]
    stored = ("run_started", "training_started", "update_done", "memory_moment")
    assert [event for event in seen if event["event"] in stored] == [
        event for event in told if event["event"] in stored
    ]
