"""The batch system's job that this program runs in. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """A Slurm job; each field None where nobody tells."""

    job_id: str
    """`4242`, or `4242_7` for the 7th task of an array."""
    node: str | None = None
    partition: str | None = None
    ends_at: float | None = None  # Unix time
    """When the job's time limit is over: Slurm ends what still runs then."""
    source: str | None = None
    """Who told of the end: `SLURM_JOB_END_TIME`, `squeue` or `scontrol`."""

    @property
    def words(self) -> str:
        """`Slurm job 4242 on node17 (gpu)`."""
        node = f" on {self.node}" if self.node else ""
        return f"Slurm job {self.job_id}{node}{f' ({self.partition})' if self.partition else ''}"

    def left_s(self, now: float) -> float | None:
        """Seconds until its end, 0 where it is over; None where the end is unknown, or where there is none."""
        return None if self.ends_at is None else max(0.0, self.ends_at - now)


def time_left(seconds: float) -> str:
    """`3 d 2 h`, `2 h 05 min`, `12 min`, `50 s`: how long there is, never rounded up."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60:02} min" if hours else f"{minutes} min"
