"""Who else was started with this process: torchrun and Slurm's srun tell each one its number, and where they meet.

torchrun: https://docs.pytorch.org/docs/stable/elastic/run.html, "environment variables". srun:
https://slurm.schedmd.com/srun.html, "output environment variables"; those that a batch script has too (SLURM_NTASKS is
one) do not tell that srun started this very process. Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import read_device

_FIRST_PORT, _PORTS = 12_000, 20_000
"""Below those that systems give to whoever asks for any (32768 and more on Linux)."""
_TASKS = re.compile(r"(\d{1,6})(\(x(\d{1,6})\))?", re.ASCII)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_FIRST_HOST = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")  # a comma inside brackets parts numbers, not hosts
_BRACKETS = re.compile(r"\[(\w*)[^\]]*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """One of several processes that train one model together, each with a GPU of its own."""

    rank: int
    world_size: int
    """More than one."""
    local_rank: int
    """Among those of its machine."""
    local_size: int | None = None
    """How many those are; None where that is not told."""
    local_cores: int | None = None
    """What they have together, likewise; srun as a rule gives each its part, and torchrun does not."""
    address: str
    port: int
    """Where they meet."""
    by: str
    """`torchrun`, which stands for all that sets its variables, or `srun`."""
    has_store: bool = False
    """Whether the launcher keeps the place where they meet; else rank 0 does."""
    attempt: str = ""
    """Tells a start from one before it that met at the same place."""

    @property
    def is_silent(self) -> bool:
        """Whether it is for another one to print, and to keep the run."""
        return self.rank > 0

    @property
    def meeting_place(self) -> str:
        """As people write it."""
        return f"{self.address}:{self.port}"

    def threads(self, cores: int) -> int:
        """Of the `cores` that this process may use, its part, where those beside it may use the same ones."""
        return max(1, min(cores, (self.local_cores or cores) // (self.local_size or 1)))

    def placed(self, config: RunConfig, *, gpus_given: bool) -> RunConfig:
        """`config` on as many GPUs as there are processes. Raises `ConfigError` where it says otherwise."""
        here = f"{self.by} started {self.world_size} processes, a GPU each"
        if config.gpus not in (None, self.world_size) and (gpus_given or config.gpus != 1):
            raise ConfigError("gpus", f"{here}, so --gpus {config.gpus} cannot be: leave it out.")
        name = read_device(config.device)
        if name.free:
            raise ConfigError(
                "device", f"{here}, which --device {config.device} would choose one by one: use --device cuda."
            )
        if name.kind == "cpu":
            raise ConfigError(
                "device", f"{here}, and --device cpu has none: use cuda, or virtual:tesla-p4 to do without."
            )
        return config.with_values(gpus=self.world_size)


def launched(environ: Mapping[str, str] = os.environ) -> Launched | None:
    """What the variables tell; None where this process is alone, as it is also for torchrun with one.

    Raises `ConfigError` where they tell of others, but not all that is needed to find them.
    """
    size = _number(environ, "WORLD_SIZE")
    if size is not None and "RANK" in environ:  # each alone means nothing
        return _by_torchrun(environ, size) if size > 1 else None
    size = _number(environ, "SLURM_STEP_NUM_TASKS")
    return _by_srun(environ, size) if size is not None and size > 1 else None


def ranks_here(gpus: int, environ: Mapping[str, str] = os.environ) -> int:
    """How many of the ranks of a run on so many GPUs are on this machine, as far as is told; else this one alone."""
    here = launched(environ)
    return gpus if here is None else here.local_size or 1


def _by_torchrun(environ: Mapping[str, str], size: int) -> Launched:
    rank = _needed(environ, "RANK", size)
    address = environ.get("MASTER_ADDR", "").strip()
    if not address:
        raise ConfigError("", "RANK and WORLD_SIZE are set, but MASTER_ADDR is not: start with torchrun, or set it.")
    return Launched(
        rank=rank,
        world_size=size,
        local_rank=_needed(environ, "LOCAL_RANK", size),
        local_size=_number(environ, "LOCAL_WORLD_SIZE"),
        address=address,
        port=_needed(environ, "MASTER_PORT", 65_536),
        by="torchrun",
        has_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True),
        attempt=f"{environ.get('TORCHELASTIC_RUN_ID', '')}/{environ.get('TORCHELASTIC_RESTART_COUNT', '')}",
    )


def _by_srun(environ: Mapping[str, str], size: int) -> Launched:
    job, step = _number(environ, "SLURM_JOB_ID") or 0, _number(environ, "SLURM_STEP_ID") or 0
    hosts = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or ""
    address = environ.get("MASTER_ADDR", "").strip() or first_host(hosts)
    if not address:
        raise ConfigError("", "Slurm does not say on which node the first task is: set MASTER_ADDR to its name.")
    port = _number(environ, "MASTER_PORT")
    return Launched(
        rank=_needed(environ, "SLURM_PROCID", size),
        world_size=size,
        local_rank=_needed(environ, "SLURM_LOCALID", size),
        local_size=_tasks_here(environ),
        local_cores=_number(environ, "SLURM_CPUS_ON_NODE"),
        address=address,
        port=_FIRST_PORT + (job * 7 + step) % _PORTS if port is None else port,
        by="srun",
        attempt=f"{job}.{step}/{environ.get('SLURM_RESTART_COUNT', '')}",
    )


def first_host(hosts: str) -> str:
    """The first name in Slurm's shorthand: `gpu01` of `gpu[01-03,07],login`; empty where there is none."""
    found = _FIRST_HOST.match(hosts.strip())
    return _BRACKETS.sub(r"\1", found[0]).strip() if found else ""


def _tasks_here(environ: Mapping[str, str]) -> int | None:
    """Of this step on this node, from `2(x3),1`: two tasks on each of the first three nodes, one on the fourth."""
    node, groups = _number(environ, "SLURM_NODEID"), environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    counts: list[int] = []
    for tasks, _, times in _TASKS.findall(groups):
        counts += [int(tasks)] * min(int(times or 1), 100_000)
    return counts[node] if node is not None and node < len(counts) else None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").strip()
    return int(text) if _NUMBER.fullmatch(text) else None


def _needed(environ: Mapping[str, str], name: str, below: int) -> int:
    number = _number(environ, name)
    if number is None or number >= below:
        was = f"is {environ[name]!r}" if name in environ else "is missing"
        raise ConfigError(
            "", f"{name} {was}, and a number from 0 to {below - 1} is needed to find the other processes: set it."
        )
    return number
