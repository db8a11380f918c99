"""Slurm's variables, and its commands where they are asked: stand-ins on PATH."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from engine.contract.job import BatchJob, time_left
from engine.process import slurm

JOB = {"SLURM_JOB_ID": "4242", "SLURMD_NODENAME": "node17", "SLURM_JOB_PARTITION": "gpu"}


def test_variables_tell_job_node_partition_and_end() -> None:
    job = slurm.job_here({**JOB, "SLURM_JOB_END_TIME": "1764180000"})
    assert job == BatchJob(
        job_id="4242", node="node17", partition="gpu", ends_at=1764180000.0, source="SLURM_JOB_END_TIME"
    )
    assert job.words == "Slurm job 4242 on node17 (gpu)"
    assert job.left_s(1764170000.0) == 10_000
    assert job.left_s(1764190000.0) == 0


def test_outside_a_job_there_is_none() -> None:
    assert slurm.job_here({"SLURM_JOB_PARTITION": "gpu"}) is None


def test_older_names_and_arrays() -> None:
    old = slurm.job_here({"SLURM_JOBID": "7"})
    assert old is not None
    assert (old.words, old.ends_at, old.left_s(0)) == ("Slurm job 7", None, None)
    task = slurm.job_here({**JOB, "SLURM_ARRAY_JOB_ID": "4200", "SLURM_ARRAY_TASK_ID": "3"})
    assert task is not None
    assert task.job_id == "4200_3"


@pytest.mark.parametrize("end", ["", "soon", "0", "-1", "²", "inf", "99999999999", "9" * 5000])
def test_an_end_that_is_no_time_is_unknown(end: str) -> None:
    job = slurm.job_here({**JOB, "SLURM_JOB_END_TIME": end})
    assert job is not None
    assert (job.ends_at, job.source) == (None, None)


def command(folder: Path, name: str, answer: str, *, fails: bool = False) -> None:
    script = folder / name
    script.write_text(f"#!/bin/sh\necho \"$@\" >> {folder}/asked\nprintf '{answer}'\nexit {int(fails)}\n")
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [("1-02:03:04\\n", 93784), ("02:03:04\\n", 7384), ("3:04\\n", 184), ("0:00\\n", 0)],
)
def test_squeue_tells_what_is_left(answer: str, seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "squeue", answer)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    before = time.time()
    job = slurm.ask_end(BatchJob(job_id="4200_3"), JOB)
    assert job.ends_at is not None
    assert before + seconds <= job.ends_at <= time.time() + seconds
    assert job.source == "squeue"
    assert (tmp_path / "asked").read_text() == "-h -j 4242 -o %L\n"


@pytest.mark.parametrize("left", ["UNLIMITED\\n", "INVALID\\n", "", "1:00\\n2:00\\n"])
def test_scontrol_is_asked_where_squeue_does_not_tell(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, "squeue", left)
    command(
        tmp_path,
        "scontrol",
        "JobId=4242\\n   StartTime=2026-11-26T10:00:00 EndTime=2026-11-26T20:30:00 Deadline=N/A\\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    job = slurm.ask_end(BatchJob(job_id="4242"), JOB)
    assert (job.ends_at, job.source) == (datetime(2026, 11, 26, 20, 30).timestamp(), "scontrol")


def test_where_nobody_tells_the_end_stays_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = BatchJob(job_id="4242")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.ask_end(job, JOB) == job
    command(tmp_path, "squeue", "1:00:00\\n", fails=True)
    command(tmp_path, "scontrol", "EndTime=Unknown\\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert slurm.ask_end(job, JOB) == job


def test_a_command_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("squeue", "scontrol"):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 600\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(slurm, "TIMEOUT_S", 0.05)
    job = BatchJob(job_id="4242")
    assert slurm.ask_end(job, JOB) == job


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7500, "2 h 05 min"), (180_000, "2 d 2 h")],
)
def test_time_left_is_never_rounded_up(seconds: float, text: str) -> None:
    assert time_left(seconds) == text
