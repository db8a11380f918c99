"""Two processes on one real card: what `top`, the choice of a card, a run's row and an out-of-memory say of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.programs import environment, traintop

pytestmark = pytest.mark.gpu

MIB = 2**20
SMALL = ("--device", "cuda:0", "--model", "bert-tiny", "--batch-size", "8", "--seq-len", "128", "--dropout", "off")

NEIGHBOUR = """
import sys, torch
taken = torch.empty(int(sys.argv[1]) << 20, dtype=torch.uint8, device="cuda:0")
factors = torch.ones(2048, 2048, device="cuda:0")
(factors @ factors).sum().item()
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def neighbour() -> Iterator[Callable[[int], int]]:
    """Starts a process that holds so many MiB on the first card; returns its number."""
    started: list[subprocess.Popen[str]] = []

    def start(mib: int) -> int:
        command = [sys.executable, "-c", NEIGHBOUR, str(mib)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        return process.pid

    yield start
    for process in started:
        process.communicate()


def asked(fields: str, of: str = "gpu") -> list[list[str]]:
    """What nvidia-smi says, a list of fields for each line."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        pytest.skip("no nvidia-smi here to compare with")
    command = [smi, f"--query-{of}={fields}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [[field.strip() for field in line.split(",")] for line in lines]


def cards(home: Path) -> list[dict[str, Any]]:
    told = traintop("top", "--once", "--json", env=environment(home))
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


def last(home: Path, *words: str) -> dict[str, Any]:
    done = traintop("run", "--json", *words, env=environment(home))
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_top_agrees_with_nvidia_smi(neighbour: Callable[[int], int], tmp_path: Path) -> None:
    neighbour(2000)
    listed = cards(tmp_path)
    there = asked("index,name,uuid,memory.total,memory.used,power.limit")
    assert [(str(c["gpu"]), c["name"], c["uuid"]) for c in listed] == [tuple(row[:3]) for row in there]
    for card, row in zip(listed, there, strict=True):
        assert abs(card["memory_total_mib"] - float(row[3])) <= 1
        assert abs(card["memory_used_mib"] - float(row[4])) <= 32
    on_it = {(int(pid), uuid): float(used) for pid, uuid, used in asked("pid,gpu_uuid,used_memory", "compute-apps")}
    ours = {(p["pid"], c["uuid"]): p["memory_used_mib"] for c in listed for p in c["processes"]}
    assert ours.keys() == on_it.keys()
    for key, used in on_it.items():
        assert abs(ours[key] - used) <= 1


def test_a_run_beside_a_process_is_contended_and_one_alone_is_not(
    neighbour: Callable[[int], int], tmp_path: Path
) -> None:
    alone = last(tmp_path, *SMALL, "--samples", "256")
    assert (alone["outcome"], alone["contended"]) == ("completed", [])
    assert alone["energy_wh"] > 0
    pid = neighbour(3000)
    shared = last(tmp_path, *SMALL, "--samples", "256")
    assert (shared["outcome"], [other["pid"] for other in shared["contended"]]) == ("completed", [pid])
    assert shared["peak_used_mib"] - alone["peak_used_mib"] >= 3000  # the whole card, as NVML says
    assert shared["peak_reserved_mib"] == alone["peak_reserved_mib"]
    table = traintop("runs", env=environment(tmp_path)).stdout
    assert "contended" in table


def test_out_of_memory_names_who_has_the_card(neighbour: Callable[[int], int], tmp_path: Path) -> None:
    free = int(asked("memory.free")[0][0])
    neighbour(free - 2500)
    died = last(
        tmp_path, "--device", "cuda:0", "--model", "bert-base-uncased", "--batch-size", "64", "--samples", "128"
    )
    assert died["outcome"] == "out_of_memory"
    assert "another" in died["message"] or "process" in died["message"], died["message"]


def test_a_free_card_is_none_that_somebody_computes_on(neighbour: Callable[[int], int], tmp_path: Path) -> None:
    assert last(tmp_path, *SMALL[2:], "--device", "free", "--samples", "32")["outcome"] == "completed"
    neighbour(1000)
    refused = traintop("run", *SMALL[2:], "--device", "free", "--samples", "32", env=environment(tmp_path))
    assert refused.returncode != 0
    assert "free" in refused.stderr
