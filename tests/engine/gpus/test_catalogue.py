"""The catalogue of GPUs: plausible rows, and names that people and NVML use."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from engine.gpus.catalogue import GPUS, Gpu, UnknownGpuError, by_nvml_name, find
from engine.gpus.rows import ROWS
from engine.gpus.units import MIB

MARKETED_GB = {
    "tesla-k80": 12,
    "tesla-p4": 8,
    "tesla-p40": 24,
    "gtx-1050-ti": 4,
    "gtx-1080": 8,
    "gtx-1080-ti": 11,
    "titan-xp": 12,
    "titan-v": 12,
    "gtx-1650": 4,
    "rtx-2060": 6,
    "rtx-2080": 8,
    "quadro-rtx-8000": 48,
    "rtx-3070": 8,
    "rtx-pro-6000": 96,
    "a10g": 24,
    "h100-nvl": 94,
    "gh200": 96,
    "gb200": 192,
    "gb10": 128,
    "tesla-t4": 16,
    "rtx-2080-ti": 11,
    "titan-rtx": 24,
    "rtx-3090": 24,
    "rtx-4070": 12,
    "rtx-4080": 16,
    "rtx-4090": 24,
    "rtx-5080": 16,
    "rtx-5090": 32,
    "rtx-a4000": 16,
    "rtx-a5000": 24,
    "rtx-a6000": 48,
    "rtx-4000-ada": 20,
    "rtx-6000-ada": 48,
    "a10": 24,
    "a30": 24,
    "a40": 48,
    "l4": 24,
    "l40s": 48,
    "h200": 141,
    "b200": 192,
}


def test_the_lecture_s_card() -> None:
    card = find("tesla-p4")
    assert (card.memory_total, card.driver_bytes, card.context_bytes) == (7611 * MIB, 0, 415 * MIB)
    assert (card.fp32, card.memory_bandwidth, card.tdp_watts) == (5.5e12, 192e9, 75)
    assert card.compute_capability == (6, 1)


def test_keys_are_unique_and_readable() -> None:
    assert len(GPUS) == len(ROWS) >= 25
    assert all(re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", key) for key in GPUS)
    for key in ("tesla-p4", "tesla-v100-16gb", "tesla-t4", "a100-40gb", "rtx-3060-12gb", "h100-80gb"):
        assert key in GPUS


CARDS = [gpu for gpu in ROWS if not gpu.slice_of]
SLICES = [gpu for gpu in ROWS if gpu.slice_of]


@pytest.mark.parametrize("gpu", SLICES, ids=lambda gpu: gpu.key)
def test_slices_are_parts_of_their_card(gpu: Gpu) -> None:
    card = GPUS[gpu.slice_of]
    share = gpu.multiprocessors / card.multiprocessors
    size = re.search(r"(\d)g\.(\d+)gb$", gpu.key)
    assert size
    assert share == pytest.approx(int(size[1]) / 7, rel=0.16)
    assert 0.93 <= gpu.memory_total / (int(size[2]) * 1024 * MIB) <= 1.0
    assert gpu.fp16
    assert card.fp16
    assert gpu.fp16 / card.fp16 == pytest.approx(share)
    assert gpu.memory_bandwidth * {"1": 8, "2": 4}.get(size[1], 2) == card.memory_bandwidth
    assert gpu.compute_capability == card.compute_capability


@pytest.mark.parametrize("gpu", CARDS, ids=lambda gpu: gpu.key)
def test_every_row_is_plausible(gpu: Gpu) -> None:
    assert gpu.name
    assert gpu.source
    assert gpu.memory_source
    size = re.search(r"-(\d+)gb$", gpu.key)
    marketed = int(size[1]) if size else MARKETED_GB[gpu.key]
    assert 0.88 <= gpu.memory_total / (marketed * 1024 * MIB) <= 1.0
    assert 0 <= gpu.driver_bytes <= 0.05 * gpu.memory_total
    assert 2e12 <= gpu.fp32 <= 130e12
    assert 110e9 <= gpu.memory_bandwidth <= 8e12
    assert 70 <= gpu.tdp_watts <= 1200
    assert 6 <= gpu.multiprocessors <= 200
    assert (3, 7) <= gpu.compute_capability <= (12, 1)
    ampere = gpu.compute_capability >= (8, 0)
    assert (gpu.tf32 is not None) == (gpu.bf16 is not None) == ampere
    assert (gpu.fp16 is not None) == (gpu.compute_capability >= (7, 0) and gpu.key != "gtx-1650")
    if gpu.fp16:
        assert 1.9 <= gpu.fp16 / gpu.fp32 <= 32
    if gpu.tf32 and gpu.fp16:
        assert gpu.fp16 / gpu.tf32 == pytest.approx(2, rel=0.02)
        assert gpu.bf16 == gpu.fp16


def test_geforce_rates_are_those_that_accumulate_in_fp32() -> None:
    for gpu in ROWS:
        if "GeForce RTX" in gpu.name and gpu.fp16 and gpu.compute_capability >= (8, 0):
            assert gpu.fp16 / gpu.fp32 == pytest.approx(2, rel=0.02)
            assert "half rate" in gpu.note


def test_precisions() -> None:
    p4, t4, a100 = find("p4"), find("t4"), find("a100-40gb")
    assert [p4.supports(precision) for precision in ("fp32", "tf32", "fp16", "bf16")] == [True, False, True, False]
    assert p4.peak("fp16") == p4.fp32  # without tensor cores fp16 brings no speed
    assert "1/64" in p4.note
    assert (p4.peak("bf16"), t4.peak("tf32")) == (None, None)
    assert (t4.peak("fp16"), a100.peak("bf16"), a100.peak("tf32")) == (65e12, 312e12, 156e12)
    with pytest.raises(ValueError, match="fp8"):
        a100.supports("fp8")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("tesla-p4", "tesla-p4"),
        ("  Tesla P4 ", "tesla-p4"),
        ("P40", "tesla-p40"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("GeForce RTX 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("rtx 3060", "rtx-3060-12gb"),
        ("A40", "a40"),
        ("l4", "l4"),
        ("H100", "h100-80gb"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("1080ti", "gtx-1080-ti"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a100-40gb-1g.5gb"),
        ("A100-SXM4-80GB", "a100-80gb"),
        ("GeForce GTX 1060 6GB", "gtx-1060-6gb"),
        ("rtx 8000", "quadro-rtx-8000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
    ],
)
def test_find_forgives(name: str, key: str) -> None:
    assert find(name).key == key


@pytest.mark.parametrize("gpu", ROWS, ids=lambda gpu: gpu.key)
def test_every_name_finds_its_row(gpu: Gpu) -> None:
    for name in (gpu.key, gpu.name, *gpu.also):
        assert find(name) is gpu
    assert by_nvml_name(gpu.name, gpu.memory_total) is gpu
    assert by_nvml_name(gpu.name, gpu.memory_total - gpu.driver_bytes) is gpu


def test_an_unknown_name_gets_suggestions() -> None:
    with pytest.raises(UnknownGpuError, match=r"'tesla-p5' is not in the catalogue: did you mean .*tesla-p4"):
        find("tesla-p5")
    with pytest.raises(UnknownGpuError, match=r"more than one card .*: use tesla-v100-16gb, tesla-v100-32gb, "):
        find("v100")
    with pytest.raises(UnknownGpuError, match=r"'######' is not in the catalogue: it has tesla-k80, .* or gb10\.$"):
        find("######")
    with pytest.raises(UnknownGpuError) as caught:
        find("\x1b[31m" + "x" * 500)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 900


def test_by_nvml_name_needs_the_memory_to_match() -> None:
    assert by_nvml_name("GeForce RTX 3090", 24268 * MIB) is find("rtx-3090")  # an older driver's name and total
    assert by_nvml_name("Tesla P4", 7680 * MIB) is find("tesla-p4")
    assert by_nvml_name("NVIDIA GeForce RTX 3080", 12288 * MIB) is None  # the card with 12 GB
    assert by_nvml_name("NVIDIA GeForce RTX 4060 Ti", 8188 * MIB) is None
    assert by_nvml_name("NVIDIA GeForce GTX 970", 4096 * MIB) is None


def test_importing_it_is_light() -> None:
    code = "import sys, engine.gpus.catalogue as c; print(sorted({'torch', 'numpy', 'pynvml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
