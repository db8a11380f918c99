"""What other programs take of the cores that we may use, from files that the kernel might have written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.process.machine import Machine
from engine.process.others import Cores, Others
from tests.engine.process.kernel_files import process, stat, status, write


def others(root: Path, launcher: int | None = None) -> Others:
    """Asked once, when nothing had happened yet."""
    stat(root, *[(0, 0, 0)] * 4)
    process(root, "self", 0)
    told = Others(proc=root / "proc", cgroup=root / "cgroup", launcher=launcher)
    assert told.read() is None
    return told


def test_our_own_time_is_nobody_elses(tmp_path: Path) -> None:
    status(tmp_path, "0-3")
    told = others(tmp_path)
    stat(tmp_path, (10, 0, 0), (10, 0, 0), (0, 10, 0), (0, 10, 0))
    process(tmp_path, "self", 20)
    assert told.read() == Cores(4, 4)
    stat(tmp_path, (20, 0, 0), (20, 0, 0), (5, 15, 0), (0, 20, 0))
    process(tmp_path, "self", 30)  # one core of ours in the second ten seconds, one and a half of others
    assert told.read() == Cores(4, 2.5)


def test_children_and_those_of_theirs_are_ours_also_when_they_end(tmp_path: Path) -> None:
    status(tmp_path, "0-3")
    told = others(tmp_path)
    process(tmp_path, "self", 1, children="21 \n")
    process(tmp_path, "21", 2, children="22 23 \n")
    process(tmp_path, "22", 3)
    process(tmp_path, "23", 4)
    stat(tmp_path, (10, 0, 0), *[(0, 10, 0)] * 3)
    assert told.read() == Cores(4, 4)
    process(tmp_path, "21", 2, ended=17, children="22 \n")  # 23 took 10 more and is gone
    process(tmp_path, "22", 3)
    stat(tmp_path, (20, 0, 0), *[(0, 20, 0)] * 3)
    assert told.read() == Cores(4, 4)


def test_who_trains_with_us_is_no_other_but_those_bound_to_other_processors_take_none_of_ours(tmp_path: Path) -> None:
    status(tmp_path, "0-3")
    process(tmp_path, "11", 0, children=f"{os.getpid()} 21 22 \n")
    for name, cpus in ((str(os.getpid()), "0-3"), ("21", "0-3"), ("22", "4-7")):
        status(tmp_path, cpus, name)
        process(tmp_path, name, 0)
    told = others(tmp_path, launcher=11)
    process(tmp_path, "self", 10)
    process(tmp_path, str(os.getpid()), 10)
    process(tmp_path, "21", 7, children="31 \n")
    process(tmp_path, "31", 3)
    process(tmp_path, "22", 10)
    stat(tmp_path, (10, 0, 0), (10, 0, 0), (10, 0, 0), (0, 10, 0))
    assert told.read() == Cores(4, 3), "one core of an other, beside one of ours and one of who trains with us"


def test_a_launcher_that_cannot_be_seen_changes_nothing(tmp_path: Path) -> None:
    status(tmp_path, "0-3")
    told = others(tmp_path, launcher=11)
    process(tmp_path, "self", 10)
    stat(tmp_path, (10, 0, 0), *[(0, 10, 0)] * 3)
    assert told.read() == Cores(4, 4)


def test_the_hypervisor_counts_as_another(tmp_path: Path) -> None:
    status(tmp_path, "0-3")
    told = others(tmp_path)
    stat(tmp_path, (0, 5, 5), *[(0, 10, 0)] * 3)
    assert told.read() == Cores(4, 3.5)


def test_processors_that_we_may_not_use_do_not_matter(tmp_path: Path) -> None:
    status(tmp_path, "2-3")
    told = others(tmp_path)
    stat(tmp_path, (10, 0, 0), (10, 0, 0), (0, 10, 0), (5, 5, 0))
    assert told.read() == Cores(2, 1.5)


def test_a_quota_counts_what_its_group_took(tmp_path: Path) -> None:
    status(tmp_path, "0-3")
    group = tmp_path / "cgroup" / "a"
    write(tmp_path / "proc" / "self", cgroup="0::/a\n")
    write(group, cpu__max="200000 100000\n", cpu__stat="usage_usec 0\n")
    told = others(tmp_path)
    # on the host two processors are free; but a neighbour in the group has used up half of its two
    stat(tmp_path, (10, 0, 0), (10, 0, 0), (0, 10, 0), (0, 10, 0))
    write(group, cpu__stat="usage_usec 15000000\nuser_usec 1\n")
    process(tmp_path, "self", 5)
    assert told.read() == Cores(2, 1)


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    status(tmp_path, "0-3")
    root = tmp_path / "cgroup"
    write(tmp_path / "proc" / "self", cgroup="2:cpu,cpuacct:/a\n")
    write(root / "cpu,cpuacct" / "a", cpu__cfs_quota_us="200000\n", cpu__cfs_period_us="100000\n", cpuacct__usage="0\n")
    told = others(tmp_path)
    stat(tmp_path, (10, 0, 0), *[(0, 10, 0)] * 3)
    write(root / "cpu,cpuacct" / "a", cpuacct__usage=f"{10 * 10**9}\n")
    assert told.read() == Cores(2, 1)


def test_what_hardly_ever_changes_is_read_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is moved under a cpuset or a quota is followed within some readings; most ask for neither."""
    status(tmp_path, "0-3")
    told = others(tmp_path)
    asked = []
    own = Machine.quota
    monkeypatch.setattr(Machine, "quota", lambda machine: asked.append(machine) or own(machine))
    status(tmp_path, "2-3")
    cores = []
    for second in range(1, 22):
        stat(tmp_path, *[(0, 10 * second, 0)] * 4)
        cores.append(told.read())
    assert cores[0] == Cores(4, 4)
    assert cores[-1] == Cores(2, 2)
    assert len(asked) == 2


@pytest.mark.parametrize("missing", ["stat", "self/stat"])
def test_where_the_kernel_does_not_tell_nothing_is_known(tmp_path: Path, missing: str) -> None:
    told = others(tmp_path)
    (tmp_path / "proc" / missing).unlink()
    assert told.read() is None


def test_nothing_is_told_of_no_time(tmp_path: Path) -> None:
    assert others(tmp_path).read() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_busy_child_is_found_among_our_processes() -> None:
    """It takes half a second of processor time, which is then not held against anybody else."""
    told = Others()
    before = told._own()
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    with subprocess.Popen([sys.executable, "-c", f"{burn}\nprint(flush=True)\ninput()"], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = told._own()
        child.communicate(b"\n")
    after = told._own()
    assert before is not None
    assert during is not None
    assert after is not None
    assert before + 0.4 <= during <= after + 0.05
    assert time.process_time() < during
