"""Processes that torchrun, srun or a script started together: one of them speaks, and all end alike."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.programs import COMMAND, environment, traintop

SMALL = ("--device", "virtual:tesla-p4", "--model", "bert-tiny", "--batch-size", "2", "--seq-len", "16")
SHORT = (*SMALL, "--samples", "12")
LONG = (*SMALL, "--samples", "100000")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path / "home", OMP_NUM_THREADS="1")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def by_hand(rank: int, port: int) -> dict[str, str]:
    numbers = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    return {**numbers, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def by_srun(rank: int, port: int) -> dict[str, str]:
    numbers = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": str(port)}
    return {**numbers, "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_ID": "0"}


class Both:
    """Two processes of `traintop run --json`, the first of which is listened to."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self.processes = processes
        self.events: list[dict[str, Any]] = []

    def until(self, name: str) -> dict[str, Any]:
        """The next event of that name."""
        out = self.processes[0].stdout
        assert out is not None
        for line in out:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name:
                return self.events[-1]
        raise AssertionError(f"no {name}: {self.processes[0].communicate()[1]}")

    def end(self) -> list[int]:
        """Their exit codes, once both have ended; the second one printed nothing."""
        out, _ = self.processes[0].communicate(timeout=120)
        self.events += map(json.loads, out.splitlines())
        assert self.processes[1].communicate(timeout=120) == ("", "")
        return [process.returncode for process in self.processes]

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


@contextmanager
def both(env: dict[str, str], *words: str, start: Any = by_hand) -> Iterator[Both]:
    port = free_port()
    processes = [
        subprocess.Popen(
            [*COMMAND, "run", "--json", *words],
            env={**os.environ, **env, **start(rank, port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        yield Both(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def rows(env: dict[str, str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in traintop("runs", "--json", env=env).stdout.splitlines()]


def test_one_of_them_speaks_and_keeps_the_run(env: dict[str, str]) -> None:
    with both(env, *SHORT) as run:
        assert run.end() == [0, 0]
    updates = [event for event in run.events if event["event"] == "update_done"]
    assert [update["update"] for update in updates] == [1, 2, 3], "12 samples, 2 at a time on 2 GPUs"
    assert [update["n_samples"] for update in updates] == [4, 4, 4]
    assert [event["event"] for event in run.events].count("run_finished") == 1
    (ranks,) = (event["ranks"] for event in run.events if event["event"] == "ranks_started")
    assert [(each["rank"], each["pid"]) for each in ranks] == [(i, p.pid) for i, p in enumerate(run.processes)]
    (row,) = rows(env)
    assert row == run.last
    assert (row["outcome"], row["gpus"], len(row["peak_used_mib_by_gpu"])) == ("completed", 2, 2)


def test_what_cannot_be_is_said_once(env: dict[str, str]) -> None:
    said = [traintop("run", *SHORT, "--gpus", "3", env={**env, **by_hand(rank, 1)}, timeout_s=60) for rank in range(2)]
    assert [each.returncode for each in said] == [2, 2]
    assert said[0].stderr == (
        "traintop run: torchrun started 2 processes, a GPU each, so --gpus 3 cannot be: leave it out.\n"
    )
    assert said[1].stderr == ""


@pytest.mark.parametrize("words", [(), ("sweep", "--batch-size", "1,2")], ids=["app", "sweep"])
def test_what_is_for_one_process_is_refused(env: dict[str, str], words: tuple[str, ...]) -> None:
    said = traintop(*words, env={**env, **by_hand(0, 1)}, timeout_s=60)
    assert said.returncode == 2
    assert "torchrun started 2: use traintop run, and traintop watch to look at it." in said.stderr


@pytest.mark.slow
def test_a_stray_number_means_nothing(env: dict[str, str]) -> None:
    done = traintop("run", "--json", *SHORT, env={**env, "RANK": "1"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["updates"] == 6


@pytest.mark.slow
def test_tasks_of_srun_find_each_other(env: dict[str, str]) -> None:
    with both(env, *SHORT, start=by_srun) as run:
        assert run.end() == [0, 0]
    assert (run.last["outcome"], run.last["gpus"]) == ("completed", 2)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_both_after_the_same_update(env: dict[str, str], rank: int) -> None:
    with both(env, *LONG) as run:
        run.until("update_done")
        run.processes[rank].send_signal(signal.SIGTERM)
        assert run.end() == [130, 130]
    assert (run.last["outcome"], run.last["message"]) == ("stopped", "Stopped by SIGTERM.")


@pytest.mark.slow
def test_the_others_stay_until_rank_0_has_written_the_run_that_slurm_warned(env: dict[str, str]) -> None:
    """Slurm warns all at once; and the first that ends otherwise than well makes a launcher end all others."""
    with both(env, *LONG) as run:
        run.until("update_done")
        for process in reversed(run.processes):
            process.send_signal(signal.SIGUSR1)
        assert run.processes[1].wait(timeout=60) == 130
        run.processes[0].kill()
    (row,) = rows(env)
    assert (row["outcome"], row["message"]) == (
        "stopped",
        "Stopped by SIGUSR1, which Slurm sends before the time limit.",
    )


@pytest.mark.slow
def test_out_of_memory_ends_both_and_names_the_rank(env: dict[str, str]) -> None:
    with both(env, *LONG, "--vram-limit", "1024", "--batch-size", "512", "--seq-len", "512") as run:
        assert run.end() == [3, 3]
    assert run.last["outcome"] == "out_of_memory"
    assert run.last["message"].startswith("Rank ")
    assert "Tesla P4): Out of memory in" in run.last["message"]


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_other(env: dict[str, str]) -> None:
    with both(env, *LONG) as run:
        run.until("update_done")
        run.processes[1].kill()
        code = run.end()[0]
    assert (code, run.last["outcome"], run.last["failed_rank"]) == (4, "failed", 1)
    assert "Tesla P4): it answers no more: killed" in run.last["message"]
    (row,) = rows(env)
    assert row["outcome"] == "failed"


@pytest.mark.slow
def test_rank_0_that_is_killed_ends_the_other_and_leaves_a_row(env: dict[str, str]) -> None:
    with both(env, *LONG) as run:
        run.until("update_done")
        run.processes[0].kill()
        assert run.processes[1].wait(timeout=60) == 4
    (row,) = rows(env)
    assert row["outcome"] == "interrupted"


@pytest.mark.slow
def test_together_they_go_on_with_what_they_had_done(env: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "model"
    with both(env, *SHORT, "--parallel", "fsdp", "--save-steps", "2", "--output-dir", str(out)) as run:
        assert run.end() == [0, 0]
    model = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").unlink()
    with both(env, "--resume", str(out)) as again:
        assert again.end() == [0, 0]
    assert again.last["resumed_at"] == 2
    assert (out / "model.safetensors").read_bytes() == model


@pytest.mark.slow
def test_what_only_rank_0_can_refuse_ends_both(env: dict[str, str]) -> None:
    with both(env, "--resume", "7") as run:
        assert run.end() == [2, 2]


@pytest.mark.slow
def test_a_file_that_one_node_lacks_is_told_by_the_first(env: dict[str, str], tmp_path: Path) -> None:
    """Each process sees its own folder, as on nodes that share no disk."""
    port = free_port()
    words = (*SMALL, "--workload", "reviews", "--data", "reviews.csv")
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
    text = "text,label\n" + "good,1\nbad,0\n" * 20
    (tmp_path / "0" / "reviews.csv").write_text(text, encoding="utf-8")
    processes = [
        subprocess.Popen(
            [*COMMAND, "run", *words],
            env={**os.environ, **env, **by_hand(rank, port)},
            cwd=tmp_path / str(rank),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert "Rank 1 (" in said[0][1]
    assert "reviews.csv" in said[0][1]
    assert said[1] == ("", "")


def agent(env: dict[str, str], port: int, *words: str) -> subprocess.Popen[str]:
    """A torchrun of its own, as each node has one."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test"]
    return subprocess.Popen(
        [*launch, *meet, *COMMAND[1:], "run", "--json", *words],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_nodes_of_torchrun(env: dict[str, str], tmp_path: Path, parallel: str) -> None:
    port, out = free_port(), tmp_path / "model"
    words = (*SHORT, "--parallel", parallel, "--save-steps", "2", "--output-dir", str(out))
    nodes = [agent(env, port, *words) for _ in range(2)]
    said = [node.communicate(timeout=180)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0]
    assert sorted(map(bool, said)) == [False, True], "one speaks"
    (row,) = rows(env)
    assert (row["outcome"], row["gpus"], row["parallel"]) == ("completed", 2, parallel)
    assert {"model.safetensors", "checkpoint-2"} <= {each.name for each in out.iterdir()}


@pytest.mark.slow
def test_a_worker_of_torchrun_that_is_killed_hangs_nobody(env: dict[str, str]) -> None:
    port = free_port()
    nodes = [agent(env, port, *LONG) for _ in range(2)]
    try:
        pids = pids_of_ranks(nodes)
        os.kill(pids[1], signal.SIGKILL)
        assert [node.wait(timeout=120) for node in nodes] == [1, 1], "torchrun's own"
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
            node.communicate()
    (row,) = rows(env)
    assert (row["outcome"], row["failed_rank"]) == ("failed", 1)


def pids_of_ranks(nodes: Sequence[subprocess.Popen[str]]) -> list[int]:
    """Once they train: whichever node has rank 0 tells."""
    import selectors

    with selectors.DefaultSelector() as ready:
        for node in nodes:
            assert node.stdout is not None
            ready.register(node.stdout, selectors.EVENT_READ)
        first = ready.select(120)[0][0].fileobj
    pids: list[int] = []
    for line in first:  # type: ignore[union-attr]
        event = json.loads(line)
        if event["event"] == "ranks_started":
            pids = [each["pid"] for each in event["ranks"]]
        if event["event"] == "update_done":
            return pids
    raise AssertionError("nobody trained")
