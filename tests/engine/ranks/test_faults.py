"""Two real ranks, and all that can befall one of them: the run ends as an outcome, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

from engine.contract.config import ConfigError
from engine.contract.events import RankBeat, RunProgress, TrainingStarted, UpdateDone
from engine.contract.records import Outcome, Phase
from engine.ranks.group import Patience
from engine.ranks.watch import Watch
from tests.engine.ranks import faulty
from tests.engine.ranks.driver import SMALL, Driven, drive

LONG = SMALL.with_values(samples=100_000)


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    """Of no test: neither ranks nor their data loaders' processes."""
    yield
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if server is not None and psutil.pid_exists(server):
        children = psutil.Process(server).children(recursive=True)
        _, alive = psutil.wait_procs(children, 30)
        assert not alive


def kill_last(number: int) -> object:
    return lambda driven: os.kill(driven.pids[-1], number)


def test_a_run_is_told_once_by_the_first_rank() -> None:
    driven = drive(SMALL.with_values(gradient_accumulation_steps=2))
    record = driven.record
    assert record is not None
    assert (record.outcome, record.message, record.failed_rank) == (Outcome.COMPLETED, None, None)
    updates = driven.of(UpdateDone)
    assert [update.update for update in updates] == list(range(1, 4))
    assert len(driven.of(TrainingStarted)) == 1
    assert [[share.rank for share in update.ranks] for update in updates] == [[0, 1]] * 3
    assert {beat.rank for beat in driven.of(RankBeat)} == {0, 1}
    assert record.updates == 3
    assert len(record.peak_used_by_rank) == 2
    assert record.peak_used == max(filter(None, record.peak_used_by_rank))
    assert not any(map(psutil.pid_exists, driven.pids))


def test_a_killed_rank_ends_all_and_the_next_run_works() -> None:
    record = drive(LONG, kill_last(signal.SIGKILL)).record
    assert record is not None
    assert (record.outcome, record.failed_rank) == (Outcome.FAILED, 1)
    assert record.updates > 0
    assert record.message is not None
    assert record.message.startswith("Rank 1 (Tesla P4) was killed by SIGKILL, perhaps for want of host memory in upd")
    again = drive(SMALL).record
    assert again is not None
    assert again.outcome is Outcome.COMPLETED


def test_a_rank_that_raises_is_named_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ranks.processes.main", faulty.raises)
    driven = drive(LONG)
    record = driven.record
    assert record is not None
    assert (record.outcome, record.failed_rank, record.failed_phase) == (Outcome.FAILED, 1, Phase.FORWARD)
    assert record.message == (
        "Rank 1 (Tesla P4): Failed in forward of micro-step 3 (update 3): ValueError: a defect in one rank. Details "
        "are in the log file."
    )
    assert record.updates == 2


def test_out_of_memory_on_one_card_names_it() -> None:
    limits = {1: 600}  # MiB: the context and the libraries take more than 500
    record = drive(SMALL, limits=limits).record
    assert record is not None
    assert (record.outcome, record.failed_rank) == (Outcome.OUT_OF_MEMORY, 1)
    assert record.message is not None
    assert record.message.startswith("Rank 1 (Tesla P4): Out of memory in ")
    assert "600.00 MiB" in record.message


def test_a_rank_that_stands_still_is_blamed_and_not_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ranks.processes.main", faulty.hangs)
    record = drive(LONG, watch=Watch(standing_s=1.0)).record
    assert record is not None
    assert (record.outcome, record.failed_rank, record.failed_phase) == (Outcome.FAILED, 1, Phase.FORWARD)
    assert record.message is not None
    assert record.message.startswith("Rank 1 (Tesla P4) stood in forward of update 3 for ")
    assert "rank 0 waited for it" in record.message


def test_a_rank_that_a_signal_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    record = drive(LONG, kill_last(signal.SIGSTOP), watch=Watch(stopped_s=0.5)).record
    assert record is not None
    assert (record.outcome, record.failed_rank) == (Outcome.FAILED, 1)
    assert record.message is not None
    assert record.message.startswith("Rank 1 (Tesla P4) was stopped by a signal (SIGSTOP) ")


def test_a_stop_ends_all_ranks_at_the_same_update() -> None:
    driven = drive(LONG, lambda driven: driven.stop.set(), after=3, why_stopped=lambda: " by SIGTERM")
    record = driven.record
    assert record is not None
    assert (record.outcome, record.message) == (Outcome.STOPPED, "Stopped by SIGTERM.")
    assert record.updates == len(driven.of(UpdateDone)) >= 3


def test_a_stop_that_no_update_follows_cuts_it_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ranks.processes.main", faulty.hangs)
    driven = drive(LONG, lambda driven: driven.stop.set(), after=2, patience=Patience(stopping_s=0.5))
    record = driven.record
    assert record is not None
    assert record.outcome is Outcome.STOPPED
    assert record.message == "Stopped by the user; update 3 was cut short, as it had not ended in 0.5 s."


def test_a_stop_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ranks.processes.main", faulty.hangs_in_loading)
    record = drive(LONG, lambda driven: driven.stop.set(), after=0).record
    assert record is not None
    assert (record.outcome, record.message) == (Outcome.STOPPED, "Stopped while loading by the user.")


def test_signals_of_a_terminal_or_slurm_leave_the_decision_to_the_parent() -> None:
    def send_all(driven: Driven) -> None:
        for pid in driven.pids:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                os.kill(pid, number)

    record = drive(SMALL, send_all).record
    assert record is not None
    assert record.outcome is Outcome.COMPLETED


def test_a_killed_fork_server_costs_nothing() -> None:
    def kill_server(driven: Driven) -> None:
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]

    for act in (kill_server, None):
        record = drive(SMALL, act).record
        assert record is not None
        assert record.outcome is Outcome.COMPLETED


def test_what_cannot_be_done_is_refused_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing-there"):
        drive(SMALL.with_values(model=str(tmp_path / "nothing-there")))


def test_a_rank_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ranks.processes.main", faulty.CannotBeRead())
    record = drive(SMALL).record
    assert record is not None
    assert (record.outcome, record.updates) == (Outcome.FAILED, 0)
    assert record.message is not None
    assert "ended by itself with exit code 1 while it loaded" in record.message


def test_data_loaders_of_ranks_end_with_them() -> None:
    driven = drive(SMALL.with_values(dataloader_num_workers=1))
    assert driven.record is not None
    assert driven.record.outcome is Outcome.COMPLETED
    assert driven.of(RunProgress)
    killed = drive(LONG.with_values(dataloader_num_workers=1), kill_last(signal.SIGKILL))
    assert killed.record is not None
    assert killed.record.failed_rank == 1
    again = drive(SMALL).record  # the folder of the fork server's socket is still there
    assert again is not None
    assert again.outcome is Outcome.COMPLETED


@pytest.mark.slow
def test_a_killed_parent_leaves_nobody() -> None:
    parent = subprocess.Popen([sys.executable, "-m", "tests.engine.ranks.parent", "1"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) >= 6  # fork server, resource tracker, two ranks, a data loader's process of each
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, 30)
    assert not alive
