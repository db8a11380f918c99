"""Run as a script by the history's tests: a process of its own that writes a history until it is done or killed."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import engine.history.store
import engine.history.writer
from engine.contract.config import RunConfig
from engine.contract.events import UpdateDone
from engine.contract.records import DeviceInfo, Memory, Outcome, RunRecord, Shares
from engine.history.history import History, HistoryError

DEVICE = DeviceInfo(name="Tesla P4", kind="cuda", index=0, memory_total=7611 * 2**20)


def update(run_id: int, number: int) -> UpdateDone:
    """The `number`-th update of a run, every figure derived from its number."""
    return UpdateDone(
        run_id=run_id,
        update=number,
        epoch=number / 100,
        loss=1 / number,
        learning_rate=5e-5 / number,
        grad_norm=number / 3,
        loss_scale=None,
        skipped=False,
        n_samples=8,
        n_tokens=4096,
        update_s=0.25,
        warmup=number <= 3,
        t=number * 0.25,
        shares=Shares(data=0.01, forward=0.08, backward=0.15, optimizer=0.01),
        memory=Memory(used=number * 2**20, reserved=2**20, allocated=2**19, peak_used=number * 2**20, total=2**33),
    )


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # one write: whole lines, even when killed


def until_killed(path: Path) -> None:
    """Say the run's number, then that of each update that a flush has acknowledged."""
    history = History(path)
    run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0, planned_updates=10_000_000)
    say(run_id)
    for number in range(1, 10_000_000):
        history.writer.append(update(run_id, number))
        if number % 3 == 0:
            history.writer.flush()
            if history.writer.failure is None and not history.writer._pending:
                say(number)


def runs(path: Path, n_runs: int, n_updates: int) -> None:
    """Write whole runs, as fast as it goes, once a line comes in; say their numbers."""
    for module in (engine.history.store, engine.history.writer):
        module.OPEN_WAIT_S = 300.0  # type: ignore[attr-defined]  # on a busy machine the other writers come first for long
    sys.stdin.readline()
    with History(path) as history:
        for _ in range(n_runs):
            run_id = history.writer.begin_run(RunConfig(seed=os.getpid() % 1000), DEVICE, started_at=1000.0)
            for number in range(1, n_updates + 1):
                history.writer.append(update(run_id, number))
                if number % 5 == 0:
                    history.writer.flush()
            history.writer.finish_run(
                RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED, updates=n_updates)
            )
            say(run_id)


def full(path: Path) -> None:
    """Meet a limit on the file's size in the middle of a run, say what the history says, and go on without it."""
    history = History(path)
    run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    told = []
    number = 0
    while history.writer.failure is None:
        number += 1
        history.writer.append(update(run_id, number))
        told.append(history.writer.flush())
    for _ in range(20):
        number += 1
        history.writer.append(update(run_id, number))
        told.append(history.writer.flush())
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    while history.writer.failure is not None:
        told.append(history.writer.flush())
    say(number)
    for sentence in filter(None, told):
        say(sentence)
    history.close()


def full_to_the_end(path: Path) -> None:
    """Write a run of random losses on a disk that gets full and stays so; say what the end of the history says."""
    rng, told = random.Random(0), []
    with History(path) as history:
        run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
        for number in range(1, 2001):
            history.writer.append(replace(update(run_id, number), loss=rng.random(), grad_norm=rng.random()))
            if number % 10 == 0:
                told.append(history.writer.flush())
        try:
            history.writer.finish_run(
                RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED, updates=2000)
            )
        except HistoryError as error:
            told.append(str(error))
        say(*dict.fromkeys(filter(None, told)))
        say(history.close())


def _whole_run(history: History, run_id: int, until: int, since: int = 1) -> None:
    for number in range(since, until + 1):
        history.writer.append(update(run_id, number))
        if number % 50 == 0:
            history.writer.flush()


def _finish(history: History, run_id: int) -> None:
    record = RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED, updates=300)
    with contextlib.suppress(HistoryError):
        history.writer.finish_run(record)


def used_up_for_a_while(path: Path, flag: Path) -> None:
    """Two runs: in the first, and before the second, the quota is used up; in the second there is room again."""
    history = History(path)
    first = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
    _whole_run(history, first, 100)
    flag.touch()
    _whole_run(history, first, 300, since=101)
    _finish(history, first)
    second = history.writer.begin_run(RunConfig(), DEVICE, started_at=2000.0)
    _whole_run(history, second, 100)
    say(first, second)
    say(history.writer.failure)
    flag.unlink()
    history.writer._retry_at = 0.0
    _whole_run(history, second, 300, since=101)
    _finish(history, second)
    say(history.writer.failure)
    say(history.close())


def used_up_throughout(path: Path, flag: Path) -> None:
    """A run on a history that cannot be written from its opening to its end."""
    flag.touch()
    history = History(path)
    say(history.notice)
    _unwritten(history)


def full_from_the_start(path: Path) -> None:
    """A run on a history whose disk got full before it was opened."""
    with History(path) as history:
        _finish(history, history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0))
    filler = os.open(path.parents[1] / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(filler, bytes(1024))
    _unwritten(History(path))


def _unwritten(history: History) -> None:
    run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
    say(history.n_runs(), run_id)
    _whole_run(history, run_id, 300)
    _finish(history, run_id)
    say(history.close())


def on_command(path: Path) -> None:
    """Begin a run with one update; a line lets it go on by one more, and another finish it. Say what a flush says."""
    with History(path) as history:
        run_id = history.writer.begin_run(RunConfig(), DEVICE, started_at=1000.0)
        history.writer.append(update(run_id, 1))
        history.writer.flush()
        say(run_id)
        sys.stdin.readline()
        history.writer.append(update(run_id, 2))
        say(history.writer.flush())
        sys.stdin.readline()
        history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED))
        say(history.close())


if __name__ == "__main__":
    command, file = sys.argv[1], Path(sys.argv[2])
    if command == "runs":
        runs(file, n_runs=int(sys.argv[3]), n_updates=int(sys.argv[4]))
    elif command == "full":
        full(file)
    elif command == "full_to_the_end":
        full_to_the_end(file)
    elif command == "used_up_for_a_while":
        used_up_for_a_while(file, Path(sys.argv[3]))
    elif command == "used_up_throughout":
        used_up_throughout(file, Path(sys.argv[3]))
    elif command == "full_from_the_start":
        full_from_the_start(file)
    elif command == "on_command":
        on_command(file)
    else:
        until_killed(file)
