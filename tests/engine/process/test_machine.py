"""The cores and the RAM that may be used: affinity, cpusets, quotas and limits of both versions, nested."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from engine.devices.cpu import CpuDevice
from engine.gpus.units import MIB
from engine.process.machine import Machine
from engine.telemetry.host import HostSampler
from tests.engine.process.kernel_files import status, write


def machine(root: Path) -> Machine:
    return Machine(proc=root / "proc", cgroup=root / "cgroup")


def groups(root: Path, lines: str) -> Path:
    """`/proc/self/cgroup`; the folder where the groups are."""
    write(root / "proc" / "self", cgroup=lines)
    return root / "cgroup"


def test_this_machine_without_limits_is_the_platforms_own() -> None:
    real = Machine()
    assert real.cpus() == (frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None)
    assert 0 < real.cores() <= (os.cpu_count() or 1)
    total = real.memory().total
    assert total is not None
    assert total <= psutil.virtual_memory().total


@pytest.mark.parametrize(("listed", "cpus"), [("0-1", {0, 1}), ("0-2,8,10-11", {0, 1, 2, 8, 10, 11}), ("7", {7})])
def test_affinity(tmp_path: Path, listed: str, cpus: set[int]) -> None:
    status(tmp_path, listed)
    assert machine(tmp_path).cpus() == cpus
    assert machine(tmp_path).cores() == len(cpus)


@pytest.mark.parametrize(
    ("lines", "folder", "file"),
    [
        ("0::/a/b\n", "a/b", "cpuset__cpus__effective"),
        ("3:cpuset:/a/b\n2:cpu:/\n", "cpuset/a/b", "cpuset__effective_cpus"),
        ("3:cpuset:/a/b\n", "cpuset/a/b", "cpuset__cpus"),
        ("3:cpuset,pids:/b\n", "cpuset,pids/b", "cpuset__cpus"),  # mounted together
        ("0::/not/there\n", "", "cpuset__cpus__effective"),  # a container sees its own group as the root
    ],
)
def test_a_cpuset_withholds_what_affinity_shows(tmp_path: Path, lines: str, folder: str, file: str) -> None:
    status(tmp_path, "0-7")
    write(groups(tmp_path, lines) / folder, **{file: "4-6\n"})
    assert machine(tmp_path).cpus() == {4, 5, 6}
    assert machine(tmp_path).threads() == 3


def test_an_ancestors_quota_binds_too(tmp_path: Path) -> None:
    status(tmp_path, "0-7")
    root = groups(tmp_path, "0::/a/b/c\n")
    write(root / "a" / "b" / "c", cpu__max="600000 100000\n")
    write(root / "a" / "b", cpu__max="250000 100000\n")
    write(root / "a", cpu__max="max 100000\n")
    assert (machine(tmp_path).cores(), machine(tmp_path).threads()) == (2.5, 2)


def test_quotas_of_version_1(tmp_path: Path) -> None:
    status(tmp_path, "0-7")
    root = groups(tmp_path, "5:cpu,cpuacct:/docker/x\n4:memory:/\n")
    write(root / "cpu,cpuacct" / "docker" / "x", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert machine(tmp_path).cores() == 8
    write(root / "cpu,cpuacct" / "docker" / "x", cpu__cfs_quota_us="50000\n")
    assert (machine(tmp_path).cores(), machine(tmp_path).threads()) == (0.5, 1)


def test_a_quota_of_more_than_the_machine_has_withholds_nothing(tmp_path: Path) -> None:
    status(tmp_path, "0-1")
    write(groups(tmp_path, "0::/\n"), cpu__max="1600000 100000\n")
    assert machine(tmp_path).cores() == 2


def test_damaged_files_withhold_nothing(tmp_path: Path) -> None:
    status(tmp_path, "?")
    root = groups(tmp_path, "0::/\nnonsense\n")
    write(root, cpu__max="a b", cpuset__cpus__effective="-", memory__max="lots", memory__high="\n")
    real = Machine(proc=tmp_path / "nowhere", cgroup=tmp_path / "nowhere")
    assert machine(tmp_path).cores() == real.cores() == float(len(real.cpus() or ()) or os.cpu_count() or 1)
    assert machine(tmp_path).memory().total == psutil.virtual_memory().total


def test_what_is_available_is_the_least_that_any_group_has_left(tmp_path: Path) -> None:
    root = groups(tmp_path, "0::/a/b\n")
    write(root / "a" / "b", memory__max=f"{100 * MIB}\n", memory__current=f"{30 * MIB}\n")
    write(root / "a", memory__max="max", memory__high=f"{200 * MIB}\n", memory__current=f"{180 * MIB}\n")
    ram = machine(tmp_path).memory()
    assert (ram.total, ram.used, ram.available) == (100 * MIB, 30 * MIB, 20 * MIB)


def test_over_high_nobody_can_work(tmp_path: Path) -> None:
    write(groups(tmp_path, "0::/\n"), memory__max=f"{100 * MIB}", memory__high=f"{64 * MIB}", memory__current="5\n")
    assert machine(tmp_path).memory().total == 64 * MIB


def test_all_that_tell_the_ram_tell_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(groups(tmp_path, "0::/\n"), memory__max=f"{100 * MIB}", memory__current="5\n")
    monkeypatch.setattr("engine.devices.cpu.Machine", lambda: machine(tmp_path))
    sampled = HostSampler(proc=tmp_path / "proc", cgroup=tmp_path / "cgroup").sample()
    assert CpuDevice().info.memory_total == sampled.memory_total == 100 * MIB
