"""Which device a script is given, and thought to use, without CUDA and without torch in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import cast

import psutil
import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import GpuSample
from engine.scripts.device import ScriptDevice, card_of, choose, cpu
from engine.scripts.messages import Allocator, Card
from engine.telemetry.nvml import GpuInfo, Nvml

_GPUS = [
    GpuInfo(index=n, name=name, uuid=f"GPU-{n}{n}aa-bb", pci_bus_id=f"00000000:0{n}:00.0", memory_total=8 << 30)
    for n, name in enumerate(("Tesla P4", "Tesla T4", "Tesla V100"))
]


def _nvml(gpus: list[GpuInfo] = _GPUS) -> Nvml:
    sample = GpuSample(memory_total=7 << 30)
    return cast(
        Nvml,
        SimpleNamespace(
            gpus=lambda: gpus,
            device_count=lambda: len(gpus),
            driver_version=lambda: "570.1",
            sample=lambda key: sample,
            memory_used=lambda key: 3 << 30 if key == "GPU-00aa-bb" else None,
            status=None if gpus else "The NVIDIA driver is not loaded: run nvidia-smi.",
        ),
    )


def _config(device: str) -> RunConfig:
    return RunConfig(job="script", command="python train.py", device=device)


@pytest.mark.parametrize(
    ("device", "visible", "name", "sets"),
    [
        ("auto", None, "Tesla P4", {}),
        ("auto", "2,0", "Tesla V100", {}),
        ("auto", "", "cpu", {}),
        ("auto", "GPU-11", "Tesla T4", {}),
        ("cpu", None, "cpu", {"CUDA_VISIBLE_DEVICES": ""}),
        ("cuda", None, "Tesla P4", {"CUDA_VISIBLE_DEVICES": "0"}),
        ("cuda:1", None, "Tesla T4", {"CUDA_VISIBLE_DEVICES": "1"}),
        ("cuda:1", "2,0", "Tesla P4", {"CUDA_VISIBLE_DEVICES": "0"}),
        ("GPU-22aa", None, "Tesla V100", {"CUDA_VISIBLE_DEVICES": "GPU-22aa-bb"}),
        ("00000000:01:00.0", None, "Tesla T4", {"CUDA_VISIBLE_DEVICES": "GPU-11aa-bb"}),
    ],
)
def test_what_is_chosen_is_all_that_the_script_sees(
    device: str, visible: str | None, name: str, sets: dict[str, str]
) -> None:
    info, changes = choose(_config(device), _nvml(), {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert (info.name if info.kind == "cuda" else info.kind) == name
    assert changes == sets


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda:3", "--device cuda:3 is not there: use cuda:0 (Tesla P4), cuda:1 (Tesla T4), cuda:2 (Tesla V100)."),
        ("GPU-99", "--device GPU-99 is not there: use cuda:0"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(device: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        choose(_config(device), _nvml(), {})
    assert refused.value.message.startswith(words)
    assert refused.value.knob == "device"


def test_without_a_driver_a_card_is_refused_and_auto_is_the_processor() -> None:
    assert choose(_config("auto"), _nvml([]), {})[0].kind == "cpu"
    with pytest.raises(ConfigError, match="driver is not loaded") as refused:
        choose(_config("cuda"), _nvml([]), {})
    assert not refused.value.message.endswith("..")


def test_a_card_is_known_by_what_the_script_tells_of_it() -> None:
    card = card_of(Card(name="Tesla T4", total=5, uuid="GPU-11aa-bb"), "2.9.0", None, _nvml())
    assert (card.name, card.kind, card.index, card.gpu_index, card.uuid) == ("Tesla T4", "cuda", 1, 1, "GPU-11aa-bb")
    assert (card.memory_total, card.software) == (7 << 30, "driver 570.1, PyTorch 2.9.0")


def test_memory_on_a_card_is_the_allocators_and_nvmls() -> None:
    card = card_of(Card(name="Tesla P4", total=5, uuid="GPU-00aa-bb"), None, 0, _nvml())
    device = ScriptDevice(card, _nvml())
    assert device.memory_if_known().used == 3 << 30
    told = Allocator(allocated=1000, reserved=2000, peak_allocated=1500, peak_reserved=2000, alloc_retries=1)
    memory = device.take(7, card, told, {"weights": 100, "frozen": 50, "gradients": 100, "optimizer": 200})
    assert (memory.used, memory.allocated, memory.peak_allocated, memory.alloc_retries) == (3 << 30, 1000, 1500, 1)
    assert memory.by_category == {"weights": 150, "gradients": 100, "optimizer": 200, "activations": 550}
    assert device.memory_if_known() == memory
    assert device.pids == (7,)
    device.gone(7)
    assert device.pids == ()


def test_memory_on_the_processor_is_that_of_the_process_which_trains() -> None:
    device = ScriptDevice(cpu(), _nvml([]))
    assert device.memory_if_known().used is None
    device.began(os.getpid())
    reading = device.memory_if_known()
    assert reading.used is not None
    assert reading.used == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert reading.peak_used is None or reading.peak_used >= reading.used * 0.9
    assert reading.total == cpu().memory_total
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it is there until it is waited for
        device.began(ended.pid)
        assert (device.memory_if_known().used, device.memory_if_known().peak_used) == (None, None)
    device.ended()
    assert (device.pids, device.memory_if_known().used) == ((), None)
