"""All cards and who is on them, through pynvml's own ctypes path and the stand-in for the driver's library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.cards import Card, CardProcess
from engine.gpus.units import MIB
from engine.telemetry import processes
from tests.end_to_end.programs import ROOT
from tests.engine.telemetry.nvml_machine import LIBRARY, Machine, machine

_READER = """
import dataclasses, json, sys
from engine.telemetry.cards import CardReader
from engine.telemetry.nvml import Nvml
from engine.telemetry.processes import Processes

now = 0.0
at_home = Processes()
at_home.namespaced = False  # where the tests run in a container, the processes that they start are seen all the same
reader = CardReader(Nvml(retry_s=30, clock=lambda: now), at_home, clock=lambda: now)
for line in sys.stdin:
    now += json.loads(line)
    print(json.dumps(dataclasses.asdict(reader.read())), flush=True)
"""
_SLEEPER = "import sys; sys.stdin.read()"


class Reader:
    """A process that reads the cards when it is told to, on a clock that only the test moves."""

    def __init__(self, seen: Machine) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _READER],
            env={**os.environ, **seen.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self, after_s: float = 0.0) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{after_s}\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def cards(self, after_s: float = 0.0) -> list[dict[str, Any]]:
        cards: list[dict[str, Any]] = self.read(after_s)["cards"]
        return cards


@pytest.fixture
def seen(tmp_path: Path) -> Machine:
    return machine(tmp_path, 2)


@pytest.fixture
def reader(seen: Machine) -> Iterator[Reader]:
    made = Reader(seen)
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    assert made.process.wait(60) == 0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user's, with a Slurm job in its environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SLEEPER, "train.py"],
        stdin=subprocess.PIPE,
        env={**os.environ, "SLURM_JOB_ID": "4711", "SECRET": "x"},
    )
    yield process
    process.kill()
    process.wait(60)


def test_reads_every_figure_of_every_card(seen: Machine, reader: Reader) -> None:
    seen.card(0, used=7069, gpu=97, memory=61, power=72_500, celsius=61, throttle=4, ecc=2, mode=3, energy=3_600_500)
    seen.write()
    first, second = reader.cards()
    assert first == {
        "index": 0,
        "name": "Tesla P4",
        "uuid": "GPU-00000000-aaaa-bbbb-cccc-000000000000",
        "pci_bus_id": "00000000:1B:00.0",
        "lost": False,
        "memory_used": 7066 * MIB,  # what the driver keeps is apart, as in nvidia-smi
        "memory_reserved": 3 * MIB,
        "memory_total": 7611 * MIB,
        "utilization": 97.0,
        "memory_utilization": 61.0,
        "power": 72.5,
        "power_limit": 75.0,
        "temperature": 61,
        "fan": 30.0,
        "sm_clock": 345,
        "memory_clock": 3003,
        "throttle": ["power cap"],
        "ecc_uncorrected": 2,
        "compute_mode": "exclusive",
        "mig": None,
        "slices": [],
        "energy": 3600.5,
        "processes": [],
    }
    assert (second["name"], second["utilization"], second["throttle"]) == ("NVIDIA H200", 0.0, [])


@pytest.mark.parametrize("n_cards", [1, 4, 8])
def test_every_card_is_there(seen: Machine, reader: Reader, n_cards: int) -> None:
    seen.cards.clear()
    for index in range(n_cards):
        seen.card(index)
    seen.write()
    assert [card["index"] for card in reader.cards()] == list(range(n_cards))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x1, []),
        (0x2, []),
        (0x4, ["power cap"]),
        (0x48, ["too hot"]),
        (0x28, ["hardware slowdown", "hot"]),
        (0x80, ["power brake"]),
    ],
)
def test_says_why_a_card_slows_itself_down(seen: Machine, reader: Reader, mask: int, words: list[str]) -> None:
    seen.card(0, throttle=mask)
    seen.write()
    assert reader.cards()[0]["throttle"] == words


_ONE_FIGURE = {
    "nvmlDeviceGetMemoryInfo": ("memory_used", "memory_total", "memory_reserved"),
    "nvmlDeviceGetUtilizationRates": ("utilization", "memory_utilization"),
    "nvmlDeviceGetPowerUsage": ("power",),
    "nvmlDeviceGetTotalEnergyConsumption": ("energy",),
    "nvmlDeviceGetFanSpeed": ("fan",),
    "nvmlDeviceGetTotalEccErrors": ("ecc_uncorrected",),
    "nvmlDeviceGetComputeMode": ("compute_mode",),
    "nvmlDeviceGetPciInfo_v3": ("pci_bus_id",),
    "nvmlDeviceGetName": ("name",),
}


@pytest.mark.parametrize("code", [3, 4])  # not supported, no permission
@pytest.mark.parametrize("function", _ONE_FIGURE)
def test_what_a_card_does_not_tell_costs_that_figure_alone(seen: Machine, function: str, code: int) -> None:
    whole, lacking = Reader(seen), None
    try:
        before = whole.cards()[0]
        seen.faults[0, function] = code
        seen.write()
        lacking = Reader(seen)
        missing = dict.fromkeys(_ONE_FIGURE[function])
        assert lacking.cards()[0] == {**before, **missing}
    finally:
        for each in (whole, lacking):
            if each is not None:
                each.process.communicate(timeout=60)


def test_a_card_that_tells_no_processes_says_so_and_not_that_it_is_free(seen: Machine, reader: Reader) -> None:
    for kind in ("Compute", "Graphics", "MPSCompute"):
        for version in ("_v3", "_v2"):
            seen.faults[0, f"nvmlDeviceGet{kind}RunningProcesses{version}"] = 4
    seen.write()
    assert [card["processes"] for card in reader.cards()] == [None, []]


def test_tells_who_is_on_a_card(seen: Machine, reader: Reader, sleeper: subprocess.Popen[bytes]) -> None:
    seen.process(0, sleeper.pid, used=6900, sm=87)
    seen.process(0, sleeper.pid, kind="graphics")
    seen.process(0, 4_000_000, kind="mps", used=5)  # above the largest number that the kernel gives
    seen.write()
    mine, unseen = sorted(reader.cards()[0]["processes"], key=lambda process: process["pid"])
    assert mine["kind"] == "compute+graphics"
    assert (mine["memory_used"], mine["sm"]) == (6900 * MIB, 87.0)
    assert mine["command"] == f"{sys.executable} -c {_SLEEPER} train.py"
    assert (mine["mine"], mine["own"], mine["visible"]) == (True, False, True)
    assert mine["started_at"] == pytest.approx(time.time(), abs=120)
    assert processes.environment_of(sleeper.pid, mine["started_at"])["SLURM_JOB_ID"] == "4711"
    assert "SECRET" not in processes.environment_of(sleeper.pid, mine["started_at"])
    assert (unseen["kind"], unseen["memory_used"], unseen["sm"]) == ("mps", 5 * MIB, None)
    assert (unseen["visible"], unseen["user"], unseen["command"], unseen["mine"]) == (False, None, None, False)


def test_processes_come_and_go_while_it_reads(seen: Machine, reader: Reader) -> None:
    assert reader.cards()[1]["processes"] == []
    seen.process(1, 4_000_001, used=7)
    seen.write()
    assert [process["pid"] for process in reader.cards()[1]["processes"]] == [4_000_001]
    seen.processes.clear()
    seen.write()
    assert reader.cards()[1]["processes"] == []


def test_in_slices_every_process_is_on_its_own(seen: Machine, reader: Reader) -> None:
    seen.card(0, mig=1, used=500)
    seen.slice(0, name="A100 MIG 1g.5gb", uuid="MIG-1", gi=7, ci=0, total=4864, used=15)
    seen.slice(0, name="A100 MIG 3g.20gb", uuid="MIG-2", gi=2, ci=0, total=20096, used=480)
    seen.process(0, 4_000_002, gi=2, used=470)
    seen.faults[0, "nvmlDeviceGetComputeRunningProcesses_v3"] = 0
    seen.write()
    card = reader.cards()[0]
    assert (card["mig"], card["utilization"]) == (True, None)
    assert [(part["slice_id"], part["uuid"], part["memory_used"] // MIB) for part in card["slices"]] == [
        (7, "MIG-1", 15),
        (2, "MIG-2", 480),
    ]
    assert [(process["slice_id"], process["memory_used"]) for process in card["processes"]] == [(2, 470 * MIB)]


def test_a_lost_card_is_marked_at_once_the_others_go_on_and_it_comes_back(seen: Machine, reader: Reader) -> None:
    before = reader.cards()
    seen.lost.add(0)
    seen.card(1, gpu=55)
    seen.write()
    lost, other = reader.cards()
    assert (lost["lost"], lost["memory_used"], lost["processes"]) == (True, None, None)
    assert (lost["name"], lost["uuid"]) == ("Tesla P4", before[0]["uuid"])
    assert (other["lost"], other["utilization"]) == (False, 55.0)
    seen.lost.clear()
    seen.write()
    back = reader.cards(31.0)
    assert [card["lost"] for card in back] == [False, False]
    assert back[0]["memory_used"] == before[0]["memory_used"]


def test_a_card_that_the_driver_has_dropped_is_still_told_of(seen: Machine, reader: Reader) -> None:
    first, second = reader.cards()
    seen.gone.add(0)
    seen.write()
    reader.cards()
    cards = reader.cards(31.0)
    assert {card["uuid"]: card["lost"] for card in cards} == {first["uuid"]: True, second["uuid"]: False}


def test_a_card_keeps_its_number_when_another_leaves_the_drivers_list(seen: Machine, reader: Reader) -> None:
    before = {card["uuid"]: card["index"] for card in reader.cards()}
    assert list(before.values()) == [0, 1]
    seen.gone.add(0)
    seen.write()
    reader.cards()
    assert {card["uuid"]: card["index"] for card in reader.cards(31.0)} == before


def test_without_a_driver_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / LIBRARY).write_text("not a library")
    reader = Reader(Machine(tmp_path, tmp_path / "cards.txt"))
    answer = reader.read()
    reader.process.communicate(timeout=60)
    assert answer["cards"] == []
    assert "No NVIDIA driver" in answer["problem"]


def test_in_a_container_only_who_has_the_driver_open_is_believed(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    proc = tmp_path / "proc"
    for pid in (sleeper.pid, os.getpid()):
        (proc / str(pid) / "fd").mkdir(parents=True)
    (proc / "self" / "ns").mkdir(parents=True)
    (proc / "self" / "ns" / "pid").symlink_to("pid:[4026532999]")
    (proc / str(sleeper.pid) / "fd" / "7").symlink_to("/dev/nvidiactl")
    (proc / str(sleeper.pid) / "cgroup").write_text(f"0::/docker/{'0123456789ab' * 5}cdef/job_88/step_0\n")
    table = processes.Processes(proc)
    assert table.namespaced
    described = table.describe(sleeper.pid)
    assert described is not None
    assert (described.mine, described.job, described.container) == (True, "88", "0123456789ab")
    assert table.describe(os.getpid()) is None  # a number of the host's that this one has here by chance


def test_only_a_process_of_ones_own_is_ended_and_only_if_it_is_still_the_same(sleeper: subprocess.Popen[bytes]) -> None:
    table = processes.Processes()
    table.namespaced = False
    described = table.describe(sleeper.pid)
    assert described is not None
    assert described.started_at is not None
    assert processes.end(sleeper.pid, described.started_at - 60) is None  # that one has ended; this is another
    assert sleeper.poll() is None
    assert "itself" in (processes.end(os.getpid(), None) or "")
    assert "first" in (processes.end(1, None) or "")
    assert processes.is_there(sleeper.pid, described.started_at)
    assert processes.end(sleeper.pid, described.started_at) is None
    assert sleeper.wait(60) == -15
    assert not processes.is_there(sleeper.pid, described.started_at)


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid() != 0, reason="needs root and setpriv")
def test_a_process_of_another_user_is_left_alone() -> None:
    process = subprocess.Popen(["setpriv", "--reuid", "65534", "sleep", "600"])
    try:
        deadline = time.monotonic() + 30
        while not (problem := processes.Processes().describe(process.pid)) or problem.user == "root":
            assert time.monotonic() < deadline
        assert "only your own" in (processes.end(process.pid, None) or "")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(60)


def test_a_card_says_who_else_computes_there() -> None:
    own = CardProcess(pid=1, kind="compute", own=True)
    other, drawing = CardProcess(pid=2, kind="mps"), CardProcess(pid=3, kind="graphics")
    assert Card(index=0, processes=(own, other, drawing)).foreign == (other,)
    assert Card(index=0).foreign == ()
