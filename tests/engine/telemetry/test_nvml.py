"""The NVML door against a real shared library: a small C stand-in that pynvml's own loader opens.

Each test talks to a process of its own, because a process can load `libnvidia-ml.so.1` only once.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from engine.contract.records import GpuSample
from engine.gpus.units import MIB
from engine.telemetry.nvml import Nvml
from tests.engine.telemetry.nvml_machine import LIBRARY, build, why_no_library

_ROOT = Path(__file__).parents[3]

_CHILD = """
import ctypes, dataclasses, json, sys, threading
from engine.telemetry.nvml import Nvml
from tests.engine.telemetry.nvml_machine import LIBRARY, build, why_no_library

now = 0.0
nvml = Nvml(retry_s=30, clock=lambda: now)
for line in sys.stdin:
    kind, *arguments = json.loads(line)
    answer = None
    if kind == "advance":
        now += arguments[0]
    elif kind == "loaded":
        answer = arguments[0] in sys.modules
    elif kind == "together":
        answer = []
        threads = [threading.Thread(target=lambda: answer.append(nvml.sample(0))) for _ in range(8)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
    elif kind == "stub":
        name, *arguments = (a.encode() if isinstance(a, str) else a for a in arguments)
        answer = getattr(ctypes.CDLL("libnvidia-ml.so.1"), name.decode())(*arguments)
    else:
        answer = getattr(nvml, kind)
        answer = answer(*arguments) if callable(answer) else answer
    print(json.dumps(answer, default=dataclasses.asdict), flush=True)
"""


class Child:
    """A process with an `Nvml` on a clock that only `advance` moves."""

    def __init__(self, folder: Path, python_path: str = "") -> None:
        self.folder = folder
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(folder),
            "PYTHONPATH": os.pathsep.join(filter(None, [python_path, str(_ROOT)])),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *step: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(step) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def sample(self, key: int | str = 0) -> GpuSample | None:
        answer = self.ask("sample", key)
        return None if answer is None else GpuSample(**answer)

    def fault(self, function: str, code: int, from_call: int = 1) -> None:
        self.ask("stub", "stub_fault", function, code, from_call)

    def calls(self, function: str) -> int:
        return int(self.ask("stub", "stub_calls", function))

    def close(self) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait(timeout=60)


Start = Callable[..., Child]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with the stand-in built as a current and as an old driver."""
    if why := why_no_library():
        pytest.skip(why)
    flags = {"current": [], "old": ["-DOLD_DRIVER"]}
    return {name: build(tmp_path_factory.mktemp(name), *more) for name, more in flags.items()}


@pytest.fixture
def start(libraries: dict[str, Path]) -> Iterator[Start]:
    children: list[Child] = []

    def start_child(folder: Path | None = None, **more: str) -> Child:
        children.append(Child(folder or libraries["current"], **more))
        return children[-1]

    yield start_child
    assert [child.close() for child in children] == [0] * len(children)


_P4 = GpuSample(
    name="Tesla P4",
    utilization=97.0,
    memory_utilization=61.0,
    memory_used=7069 * MIB,
    memory_total=7611 * MIB,
    power=72.5,
    power_limit=75.0,
    temperature=61,
    sm_clock=1113,
    memory_clock=3003,
)
_H200 = "GPU-22222222-aaaa-bbbb-cccc-000000000000"
_MIG = "MIG-33333333-aaaa-bbbb-cccc-000000000000"
_NOTHING = GpuSample(lost=True)


def _without(*names: str) -> GpuSample:
    return GpuSample(**{name: None if name in names else value for name, value in asdict(_P4).items()})


def test_reads_every_field_with_the_memory_figure_of_the_lecture(start: Start) -> None:
    child = start()
    assert child.sample(0) == _P4
    assert child.ask("memory_used", 0) == _P4.memory_used
    assert child.calls("nvmlDeviceGetMemoryInfo_v2") == 0
    assert child.ask("status") is None


def test_idle_readings_are_zero_and_not_unknown(start: Start) -> None:
    sample = start().sample(1)
    assert sample is not None
    assert (sample.utilization, sample.memory_utilization) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (1, "NVIDIA H200"),
        (_H200, "NVIDIA H200"),
        (_H200.removeprefix("GPU-"), "NVIDIA H200"),
        ("00000000:5E:00.0", "NVIDIA H200"),
        (_MIG, "NVIDIA H200 MIG 1g.18gb"),
        (_MIG.removeprefix("MIG-"), "NVIDIA H200 MIG 1g.18gb"),
    ],
)
def test_finds_a_gpu_by_index_uuid_and_pci_bus_id(start: Start, key: int | str, name: str) -> None:
    sample = start().sample(key)
    assert sample is not None
    assert sample.name == name


@pytest.mark.parametrize("key", [2, -1, "GPU-unknown", "unknown", "0000:00:00.0", ""])
def test_a_gpu_that_is_not_there_is_none(start: Start, key: int | str) -> None:
    child = start()
    assert child.sample(key) is None
    assert child.sample(0) == _P4


def test_describes_machine_and_gpus(start: Start) -> None:
    child = start()
    assert child.ask("driver_version") == "535.129.03"
    assert child.ask("cuda_version") == "12.2"
    assert child.ask("device_count") == 2
    assert child.ask("gpus") == [
        {
            "index": 0,
            "name": "Tesla P4",
            "uuid": "GPU-11111111-aaaa-bbbb-cccc-000000000000",
            "pci_bus_id": "00000000:3B:00.0",
            "memory_total": 7611 * MIB,
        },
        {
            "index": 1,
            "name": "NVIDIA H200",
            "uuid": _H200,
            "pci_bus_id": "00000000:5E:00.0",
            "memory_total": 143771 * MIB,
        },
    ]


def test_a_mig_instance_has_memory_and_nothing_else(start: Start) -> None:
    child = start()
    mig = GpuSample(name="NVIDIA H200 MIG 1g.18gb", memory_used=15 * MIB, memory_total=16384 * MIB)
    assert child.sample(_MIG) == mig
    assert child.ask("processes", _MIG) == []
    child.fault("nvmlDeviceGetMemoryInfo", 4)
    assert child.sample(_MIG) == GpuSample(name=mig.name)


_FIELDS = {
    "nvmlDeviceGetName": ("name",),
    "nvmlDeviceGetUtilizationRates": ("utilization", "memory_utilization"),
    "nvmlDeviceGetMemoryInfo": ("memory_used", "memory_total"),
    "nvmlDeviceGetPowerUsage": ("power",),
    "nvmlDeviceGetClockInfo": ("sm_clock", "memory_clock"),
}


@pytest.mark.parametrize("code", [3, 13, 25, 26])
def test_what_is_not_supported_is_none_and_not_asked_again(start: Start, code: int) -> None:
    for function, names in _FIELDS.items():
        child = start()
        assert child.ask("status") is None
        child.fault(function, code)
        assert [child.sample() for _ in range(3)] == [_without(*names)] * 3
        assert child.calls(function) == (2 if function == "nvmlDeviceGetClockInfo" else 1)  # SM and memory clock


@pytest.mark.parametrize("code", [4, 10, 999, 888])
def test_other_errors_cost_one_field_for_one_reading(start: Start, code: int) -> None:
    child = start()
    for function, names in _FIELDS.items():  # the name first: it is kept once it is known
        child.fault(function, code)
        assert child.sample() == _without(*names)
        child.fault(function, 0)
        assert child.sample() == _P4
    assert child.calls("nvmlInitWithFlags") == 1


def test_a_name_that_is_not_text_is_unknown(start: Start) -> None:
    child = start()
    child.ask("stub", "stub_garble")
    assert child.sample() == _without("name")


def test_older_calls_stand_in_for_newer_ones(start: Start) -> None:
    child = start()
    child.ask("status")
    child.fault("nvmlDeviceGetEnforcedPowerLimit", 3)
    child.fault("nvmlDeviceGetTemperatureV", 3)
    sample = child.sample()
    assert sample is not None
    assert (sample.power_limit, sample.temperature) == (74.0, 61)
    child.fault("nvmlDeviceGetPowerManagementLimit", 3)
    child.fault("nvmlDeviceGetTemperature", 3)
    assert child.sample() == _without("power_limit", "temperature")


def test_an_old_driver_without_the_newer_functions_is_read_in_full(start: Start, libraries: dict[str, Path]) -> None:
    child = start(libraries["old"])
    assert child.sample() == _P4
    assert child.ask("processes", 0) == [[4242, 6900 * MIB], [4243, None]]


def test_lists_who_else_computes_there(start: Start) -> None:
    child = start()
    assert child.ask("processes", 0) == [[4242, 6900 * MIB], [4243, None]]
    child.ask("stub", "stub_process", child._process.pid)
    assert child.ask("processes", 0) == [[4242, 6900 * MIB], [4243, None]]
    assert child.ask("processes", 1) == []
    child.fault("nvmlDeviceGetComputeRunningProcesses_v3", 4)
    child.fault("nvmlDeviceGetComputeRunningProcesses_v2", 4)
    assert child.ask("processes", 0) is None


@pytest.mark.parametrize("code", [1, 9, 15, 16, 28])
@pytest.mark.parametrize("from_call", [1, 4])
def test_a_gpu_lost_in_the_middle_comes_back(start: Start, code: int, from_call: int) -> None:
    child = start()
    assert child.sample() == _P4
    child.fault("device", code, from_call)
    assert child.sample() == _NOTHING
    assert child.sample() == _NOTHING  # NVML was started anew at once, in vain
    asked = child.calls("device")
    assert child.sample() == _NOTHING
    assert child.calls("device") == asked  # and is left alone for a while
    child.fault("device", 0)
    child.ask("advance", 29)
    assert child.sample() == _NOTHING
    child.ask("advance", 1)
    assert child.sample() == _P4
    assert child.sample() == _P4
    assert child.calls("nvmlInitWithFlags") == 3
    assert child.calls("nvmlShutdown") == 2


@pytest.mark.parametrize("code", [2, 10, 999])
def test_a_gpu_of_which_nothing_can_be_read_counts_as_lost(start: Start, code: int) -> None:
    child = start()
    assert child.sample() == _P4
    child.fault("device", code)
    assert child.sample() == _NOTHING
    child.fault("device", 0)
    assert child.sample() == _P4
    assert child.calls("nvmlInitWithFlags") == 2


@pytest.mark.parametrize("code", [15, 999])
def test_a_lost_gpu_that_cannot_even_be_found_is_waited_for(start: Start, code: int) -> None:
    child = start()
    child.sample()
    child.fault("device", 15)
    assert child.sample() == _NOTHING
    child.fault("device", 0)
    child.fault("nvmlDeviceGetHandleByIndex_v2", code)
    assert child.sample() == _NOTHING
    child.fault("nvmlDeviceGetHandleByIndex_v2", 2)  # the driver has dropped it from its list
    child.ask("advance", 30)
    assert child.sample() == _NOTHING
    starts = child.calls("nvmlInitWithFlags")
    assert child.sample() == _NOTHING
    assert child.calls("nvmlInitWithFlags") == starts
    child.fault("nvmlDeviceGetHandleByIndex_v2", 0)
    child.ask("advance", 30)
    assert child.sample() == _P4


def test_one_lost_gpu_leaves_the_others_readable(start: Start) -> None:
    child = start()
    h200 = child.sample(1)
    child.sample(0)
    child.fault("nvmlDeviceGetUtilizationRates", 15)
    assert child.sample(0) == _NOTHING
    assert child.sample(0) == _NOTHING
    child.fault("nvmlDeviceGetUtilizationRates", 0)
    assert child.sample(1) == h200
    assert child.ask("gpus")[1]["name"] == "NVIDIA H200"


@pytest.mark.parametrize("steps", [["nvmlShutdown"], ["nvmlShutdown", "nvmlInit_v2"]])
def test_recovers_when_another_library_of_the_process_stops_nvml(start: Start, steps: list[str]) -> None:
    child = start()
    child.sample()
    for step in steps:
        assert child.ask("stub", step) == 0
    assert child.sample() == _NOTHING
    assert child.sample() == _P4


def test_a_driver_that_appears_later_is_found(start: Start, libraries: dict[str, Path], tmp_path: Path) -> None:
    # a file that is no library, so that a driver of this machine is not found in its stead
    (tmp_path / LIBRARY).write_text("not a library")
    child = start(tmp_path)
    assert child.sample() is None
    assert child.ask("status") == (
        "No NVIDIA driver: libnvidia-ml.so.1 was not found. Install the driver; "
        "a container needs to be started with its GPUs (docker run --gpus all)."
    )
    assert child.ask("driver_version") is None
    assert child.ask("device_count") == 0
    assert child.ask("gpus") == []
    assert child.ask("processes", 0) is None
    (tmp_path / LIBRARY).unlink()
    shutil.copy(libraries["current"] / LIBRARY, tmp_path)
    child.ask("advance", 29)
    assert child.sample() is None
    child.ask("advance", 1)
    assert child.sample() == _P4
    assert child.ask("status") is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (4, "No permission"),
        (9, "not loaded"),
        (15, "fallen off the bus"),
        (18, "reboot"),
        (888, "(Stub – error): run nvidia-smi"),
        (999, "(Unknown Error): run nvidia-smi"),
    ],
)
def test_a_start_that_fails_says_why_and_is_remembered(start: Start, code: int, words: str) -> None:
    child = start()
    child.fault("nvmlInitWithFlags", code)
    assert [child.sample() for _ in range(3)] == [None] * 3
    assert words in child.ask("status")
    assert child.calls("nvmlInitWithFlags") == 1
    child.ask("advance", 30)
    assert child.sample() is None
    assert child.calls("nvmlInitWithFlags") == 2
    child.fault("nvmlInitWithFlags", 0)
    child.ask("advance", 30)
    assert child.sample() == _P4


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def nvmlInit(): pass", "pip uninstall pynvml nvidia-ml-py3"),
        ("raise RuntimeError('print statement')", "RuntimeError): run pip install nvidia-ml-py"),
    ],
)
def test_a_foreign_module_named_pynvml_is_refused(start: Start, tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "pynvml.py").write_text(source)
    child = start(python_path=str(tmp_path))
    assert child.sample() is None
    assert words in child.ask("status")


def test_starts_with_the_first_question_once_and_after_shutdown_again(start: Start) -> None:
    child = start()
    assert child.ask("loaded", "pynvml") is False
    child.ask("shutdown")  # nothing to let go of yet
    assert child.ask("together") == [asdict(_P4)] * 8  # eight threads ask at the same time
    assert child.calls("nvmlInitWithFlags") == 1
    child.ask("shutdown")
    child.ask("shutdown")
    assert child.calls("nvmlShutdown") == 1
    assert child.sample() == _P4
    assert child.calls("nvmlInitWithFlags") == 2


def test_only_one_module_imports_pynvml() -> None:
    importers = set()
    for path in [*(_ROOT / "engine").rglob("*.py"), *(_ROOT / "tui").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if "pynvml" in names:
                importers.add(path.relative_to(_ROOT).as_posix())
    assert importers == {"engine/telemetry/nvml.py"}


@pytest.mark.gpu
def test_agrees_with_nvidia_smi() -> None:
    nvml = Nvml()
    if nvml.status is not None or shutil.which("nvidia-smi") is None:
        pytest.skip(nvml.status or "nvidia-smi is not installed")
    query = ["nvidia-smi", "--query-gpu=name,uuid,memory.total", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()
    gpus = [(gpu.name, gpu.uuid, str((gpu.memory_total or 0) // MIB)) for gpu in nvml.gpus()]
    assert gpus == [tuple(line.split(", ")) for line in lines]
    sample = nvml.sample(str(gpus[0][1]).removeprefix("GPU-"))
    assert sample is not None
    assert sample.memory_used is not None
    nvml.shutdown()
