"""The Slurm job that this process runs in, from its variables and, for the time limit, from Slurm's commands.

Variables: https://slurm.schedmd.com/sbatch.html, "output environment variables". SLURM_JOB_END_TIME is there since
Slurm 22.05; before, squeue or scontrol is asked once.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from engine.contract.job import BatchJob

TIMEOUT_S = 10.0
"""A controller that is busy or away answers late or never."""

_FARTHEST_S = 10 * 365.25 * 86400
"""No job ends later than in ten years: a number beyond is no time, as infinity is none."""

_LIMIT = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")  # days-hours:minutes:seconds, as squeue prints %L
_END = re.compile(r"\bEndTime=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")


def job_here(environ: Mapping[str, str] = os.environ) -> BatchJob | None:
    """The job as the variables tell it; None outside one."""
    number = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")
    if not number:
        return None
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    end = environ.get("SLURM_JOB_END_TIME", "")
    known = end.isascii() and end.isdecimal() and 0 < int(end[:20]) <= time.time() + _FARTHEST_S
    return BatchJob(
        job_id=f"{array}_{task}" if array and task else number,
        node=environ.get("SLURMD_NODENAME") or None,
        partition=environ.get("SLURM_JOB_PARTITION") or None,
        ends_at=float(end) if known else None,
        source="SLURM_JOB_END_TIME" if known else None,
    )


def ask_end(job: BatchJob, environ: Mapping[str, str] = os.environ) -> BatchJob:
    """The job with its end, as squeue or scontrol tells it; unchanged where neither does, or where it has no limit.

    Takes up to `TIMEOUT_S` for each; never raises.
    """
    number = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID") or job.job_id
    left = _limit_s(_answer("squeue", "-h", "-j", number, "-o", "%L"))
    if left is not None:
        return replace(job, ends_at=time.time() + left, source="squeue")
    end = _END.search(_answer("scontrol", "show", "job", number) or "")
    if end is None:
        return job
    return replace(job, ends_at=datetime.fromisoformat(end[1]).timestamp(), source="scontrol")


def _answer(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout


def _limit_s(text: str | None) -> float | None:
    """`1-02:03:04`, `02:03:04` or `03:04`; None for UNLIMITED, NOT_SET, INVALID and for several lines."""
    found = _LIMIT.fullmatch((text or "").strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
