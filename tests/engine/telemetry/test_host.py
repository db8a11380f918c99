"""Host readings: real ones of this process, and the limits of containers from control-group files on disk."""

from __future__ import annotations

import os
import threading
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from engine.gpus.units import MIB
from engine.telemetry.host import HostSampler


def _burn(process: psutil.Process, seconds: float = 0.15) -> None:
    """Use this much CPU time, so that the kernel's ticks of 10 ms have something to count."""
    start = sum(process.cpu_times()[:2])
    while sum(process.cpu_times()[:2]) - start < seconds:
        sum(range(20_000))


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def _sampler(tmp_path: Path, lines: str) -> HostSampler:
    _write(tmp_path / "proc" / "self", cgroup=lines)
    return HostSampler(proc=tmp_path / "proc", cgroup=tmp_path / "cgroup")


def test_the_first_cpu_share_is_unknown_and_the_next_one_real() -> None:
    clock = _Clock()
    sampler = HostSampler(clock=clock)
    first = sampler.sample()
    assert (first.cpu, first.process_cpu) == (None, None)
    _burn(psutil.Process())
    clock.now += 0.5
    second = sampler.sample()
    assert second.cpu is not None
    assert 0 < second.cpu <= 100
    assert second.process_cpu is not None
    assert second.process_cpu > 0


def test_the_cpu_share_counts_neither_idling_nor_waiting_nor_guests_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", ("user", "nice", "system", "idle", "iowait", "guest", "guest_nice"))
    clock = _Clock()
    sampler = HostSampler(clock=clock)
    shares = []
    for values in ((100, 0, 50, 800, 50, 40, 0), (125, 5, 60, 850, 60, 60, 5), (125, 5, 60, 850, 60, 60, 5)):
        monkeypatch.setattr(psutil, "cpu_times", lambda values=values: times(*values))
        shares.append(sampler.sample().cpu)
        clock.now += 1
    assert shares == [None, 40.0, None]


def test_a_reading_right_after_another_repeats_its_cpu_share() -> None:
    clock = _Clock()
    sampler = HostSampler(clock=clock)
    sampler.sample()
    _burn(psutil.Process())
    clock.now += 0.5
    second = sampler.sample()
    clock.now += 0.05
    third = sampler.sample()
    assert (third.cpu, third.process_cpu) == (second.cpu, second.process_cpu)


def test_cpu_shares_do_not_depend_on_the_thread_that_reads() -> None:
    clock = _Clock()
    sampler = HostSampler(clock=clock)
    sampler.sample()
    _burn(psutil.Process())
    clock.now += 0.5
    shares: list[float | None] = []
    thread = threading.Thread(target=lambda: shares.append(sampler.sample().cpu))
    thread.start()
    thread.join()
    assert shares[0] is not None
    assert shares[0] > 0


def test_memory_without_a_container(tmp_path: Path) -> None:
    sample = HostSampler(proc=tmp_path, cgroup=tmp_path).sample()
    assert sample.memory_total == psutil.virtual_memory().total
    assert sample.memory_used is not None
    assert 0 < sample.memory_used < psutil.virtual_memory().total
    assert sample.process_memory is not None
    assert sample.process_memory > 5 * MIB


def test_the_process_memory_follows_what_the_process_holds() -> None:
    sampler = HostSampler()
    before = sampler.sample().process_memory
    held = bytearray(os.urandom(1)) * (64 * MIB)
    after = sampler.sample().process_memory
    assert before is not None
    assert after is not None
    assert after - before > 48 * MIB
    del held


@pytest.mark.parametrize("path", ["/", "/host/path/of/the/container"])
def test_version_2_limit_of_a_container(tmp_path: Path, path: str) -> None:
    _write(
        tmp_path / "cgroup",
        memory__max=f"{512 * MIB}\n",
        memory__current=f"{300 * MIB}\n",
        memory__stat=f"anon 5\ninactive_file {100 * MIB}\n",
    )
    sample = _sampler(tmp_path, f"0::{path}\n").sample()
    assert (sample.memory_used, sample.memory_total) == (200 * MIB, 512 * MIB)


def test_version_2_limits_of_all_ancestors_bind(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    _write(root / "user.slice", memory__max=f"{256 * MIB}\n", memory__current=f"{90 * MIB}\n")
    _write(root / "user.slice" / "session.scope", memory__max="max\n", memory__current=f"{10 * MIB}\n")
    sample = _sampler(tmp_path, "0::/user.slice/session.scope\n").sample()
    assert (sample.memory_used, sample.memory_total) == (90 * MIB, 256 * MIB)


def test_version_1_limit_beside_an_empty_version_2_tree(tmp_path: Path) -> None:
    _write(
        tmp_path / "cgroup" / "memory" / "docker" / "abc",
        memory__limit_in_bytes=f"{128 * MIB}\n",
        memory__usage_in_bytes=f"{80 * MIB}\n",
        memory__stat=f"inactive_file 7\ntotal_inactive_file {30 * MIB}\n",
    )
    _write(tmp_path / "cgroup" / "memory", memory__limit_in_bytes="9223372036854771712\n")
    sample = _sampler(tmp_path, "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n").sample()
    assert (sample.memory_used, sample.memory_total) == (50 * MIB, 128 * MIB)


@pytest.mark.parametrize("limit", ["max\n", "9223372036854771712\n", "", "garbage\n", "-1\n", "²\n"])
def test_no_limit_leaves_the_hosts_memory(tmp_path: Path, limit: str) -> None:
    _write(tmp_path / "cgroup", memory__max=limit, memory__current="5\n")
    _write(tmp_path / "cgroup" / "memory", memory__limit_in_bytes=limit)
    for lines in ("0::/\n", "4:memory:/\n", "broken line\n\n:\n"):
        assert _sampler(tmp_path, lines).sample().memory_total == psutil.virtual_memory().total


def test_a_limit_without_a_readable_usage_leaves_used_unknown(tmp_path: Path) -> None:
    _write(tmp_path / "cgroup", memory__max=f"{64 * MIB}\n")
    sample = _sampler(tmp_path, "0::/\n").sample()
    assert (sample.memory_used, sample.memory_total) == (None, 64 * MIB)


def test_cache_larger_than_the_usage_is_not_negative(tmp_path: Path) -> None:
    _write(
        tmp_path / "cgroup",
        memory__max=f"{64 * MIB}\n",
        memory__current=f"{MIB}\n",
        memory__stat=f"inactive_file {2 * MIB}\n",
    )
    assert _sampler(tmp_path, "0::/\n").sample().memory_used == 0


def test_what_the_platform_hides_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def denied(*_: object) -> None:
        raise psutil.AccessDenied

    def unreadable() -> None:
        raise OSError

    monkeypatch.setattr(psutil, "cpu_times", unreadable)
    monkeypatch.setattr(psutil, "virtual_memory", unreadable)
    monkeypatch.setattr(psutil.Process, "memory_info", denied)
    monkeypatch.setattr(psutil.Process, "cpu_percent", denied)
    clock = _Clock()
    sampler = HostSampler(proc=tmp_path, cgroup=tmp_path, clock=clock)
    sampler.sample()
    clock.now += 1
    sample = sampler.sample()
    assert (sample.cpu, sample.process_cpu, sample.process_memory) == (None, None, None)
    assert (sample.memory_used, sample.memory_total) == (None, None)
