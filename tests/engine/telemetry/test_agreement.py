"""What `traintop top` shows against what nvitop and gpustat show of the same cards, through the same library.

They are no dependency of the project: TRAINTOP_MONITORS names a Python of another environment that has them
(`pip install nvitop gpustat`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.programs import environment, traintop
from tests.engine.telemetry.nvml_machine import Machine, machine

MONITORS = os.environ.get("TRAINTOP_MONITORS", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MONITORS, reason="TRAINTOP_MONITORS names no Python with nvitop and gpustat"),
]

_NVITOP = """
import json
from nvitop import Device, NA
plain = lambda value: None if value is NA or value == NA else value
print(json.dumps([{
    "gpu": d.index, "name": plain(d.name()), "uuid": plain(d.uuid()), "used": plain(d.memory_used()),
    "total": plain(d.memory_total()), "utilization": plain(d.gpu_utilization()),
    "memory_utilization": plain(d.memory_utilization()), "temperature": plain(d.temperature()),
    "fan": plain(d.fan_speed()), "power": plain(d.power_usage()), "limit": plain(d.power_limit()),
    "ecc": plain(d.total_volatile_uncorrected_ecc_errors()), "mode": plain(d.compute_mode()),
    "sm_clock": plain(d.sm_clock()), "mig": plain(d.mig_mode()), "pci": plain(d.bus_id()),
    "processes": {str(pid): [plain(p.gpu_memory()), p.type, plain(p.gpu_sm_utilization()), plain(p.username())]
                  for pid, p in d.processes().items()},
} for d in Device.all()]))
"""


@pytest.fixture
def seen(tmp_path: Path) -> Machine:
    made = machine(tmp_path, 4)
    made.card(0, used=7069, reserved=78, gpu=97, memory=61, power=72_500, celsius=61, throttle=4)
    made.card(1, used=143_000, reserved=600, gpu=100, memory=80, power=160_000, ecc=3, mode=3)
    made.card(2, used=500, mig=1)
    made.slice(2, name="NVIDIA A100 MIG 3g.20gb", uuid="MIG-2", gi=2, ci=0, total=20096, used=480)
    return made.write()


@pytest.fixture
def busy(seen: Machine) -> Iterator[int]:
    """The number of a process on card 0, and one on card 1."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    seen.process(0, process.pid, used=6900, sm=87)
    seen.process(1, process.pid, used=100, sm=5)
    seen.process(1, process.pid, kind="graphics")
    seen.write()
    yield process.pid
    process.kill()
    process.wait(60)


def _ours(seen: Machine, home: Path) -> list[dict[str, Any]]:
    done = traintop("top", "--once", "--json", env={**environment(home), **seen.environment})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _theirs(seen: Machine, *words: str) -> Any:
    env = {**os.environ, **seen.environment, "PYTHONPATH": ""}
    done = subprocess.run([MONITORS, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nvitop_shows_the_same(seen: Machine, busy: int, tmp_path: Path) -> None:
    ours, theirs = _ours(seen, tmp_path), _theirs(seen, "-c", _NVITOP)
    assert len(ours) == len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine["gpu"], mine["name"], mine["uuid"]) == (other["gpu"], other["name"], other["uuid"])
        assert mine["pci_bus_id"] == other["pci"]
        # nvitop, as nvidia-smi, leaves out what the driver keeps for itself; in the app's figures it counts
        assert mine["memory_used_mib"] == other["used"] / 2**20
        assert mine["memory_total_mib"] == other["total"] / 2**20
        assert mine["utilization"] == other["utilization"]
        assert mine["memory_utilization"] == other["memory_utilization"]
        assert (mine["temperature"], mine["fan"]) == (other["temperature"], other["fan"])
        assert mine["power"] == other["power"] / 1000
        assert mine["power_limit"] == other["limit"] / 1000 + 1  # nvitop's is the one set, here 1 W below the enforced
        assert mine["ecc_uncorrected"] == other["ecc"]
        assert mine["sm_clock"] == other["sm_clock"]
        assert (mine["compute_mode"] == "default") == (other["mode"] == "Default")
        assert {None: None, True: "Enabled", False: "Disabled"}[mine["mig"]] == other["mig"]
        processes = {str(each["pid"]): each for each in mine["processes"]}
        assert set(processes) == set(other["processes"])
        for pid, (used, kind, sm, _) in other["processes"].items():
            if used is not None:  # of what computes and draws, nvitop keeps the figure that is not known
                assert processes[pid]["memory_used_mib"] == used / 2**20
            assert processes[pid]["kind"] == {"C": "compute", "G": "graphics", "C+G": "compute+graphics"}[kind]
            assert processes[pid]["sm"] == sm


def test_gpustat_shows_the_same(seen: Machine, busy: int, tmp_path: Path) -> None:
    ours, theirs = _ours(seen, tmp_path), _theirs(seen, "-m", "gpustat", "--json")["gpus"]
    assert len(ours) == len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine["gpu"], mine["name"], mine["uuid"]) == (other["index"], other["name"], other["uuid"])
        assert mine["memory_total_mib"] == other["memory.total"]
        assert mine["memory_used_mib"] == other["memory.used"]
        assert mine["utilization"] == other["utilization.gpu"]
        assert (mine["temperature"], mine["fan"]) == (other["temperature.gpu"], other["fan.speed"])
        assert round(mine["power"]) in (other["power.draw"], other["power.draw"] + 1)
        assert mine["power_limit"] == other["enforced.power.limit"]
        used = {each["pid"]: each["gpu_memory_usage"] for each in other["processes"]}
        assert {each["pid"]: each["memory_used_mib"] for each in mine["processes"]} == used
