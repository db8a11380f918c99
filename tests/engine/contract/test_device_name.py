"""What `--device` may name, and what names a card to another process."""

from __future__ import annotations

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import (
    DeviceName,
    device_list,
    gpus_of_device,
    pci_address,
    read_device,
    visible_name,
)

MIG = "MIG-41b0e7c5-4b4c-5b3d-9d1f-7c3c4b8fd1a2"
UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("auto", DeviceName(kind="auto")),
        ("cpu", DeviceName(kind="cpu", count=1)),
        ("virtual:tesla-p4", DeviceName(kind="virtual", gpu="tesla-p4")),
        ("virtual:tesla-p4×2", DeviceName(kind="virtual", gpu="tesla-p4", count=2)),
        ("virtual:tesla-p4x2", DeviceName(kind="virtual", gpu="tesla-p4", count=2)),
        ("cuda:0,2,3", DeviceName(kind="cuda", index=0, indices=(0, 2, 3), count=3)),
        ("free:2", DeviceName(kind="cuda", free=True, count=2)),
        ("cuda", DeviceName(kind="cuda", index=0)),
        ("cuda:12", DeviceName(kind="cuda", index=12, count=1)),
        ("free", DeviceName(kind="cuda", free=True)),
        ("free:1", DeviceName(kind="cuda", free=True, count=1)),
        ("free:shared", DeviceName(kind="cuda", free=True, shared=True)),
        (UUID, DeviceName(kind="cuda", card=UUID, count=1)),
        ("GPU-8932f937", DeviceName(kind="cuda", card="GPU-8932f937", count=1)),
        (MIG, DeviceName(kind="cuda", card=MIG, count=1)),
        (f"MIG-{UUID}/1/0", DeviceName(kind="cuda", card=f"MIG-{UUID}/1/0", count=1)),
        ("0000:3b:00.0", DeviceName(kind="cuda", card="00000000:3B:00.0", count=1)),
        ("3B:00", DeviceName(kind="cuda", card="00000000:3B:00.0", count=1)),
    ],
)  # fmt: skip
def test_a_name_is_read(text: str, name: DeviceName) -> None:
    assert read_device(text) == name
    assert RunConfig(device=text).device == text


@pytest.mark.parametrize(
    "text",
    ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:１", "free:", "free:0", "free:x", "GPU-", "GPU-xyz",
     "MIG-", "3", "3b", "3b:zz.0", "cpu:0", "auto:1", "virtual:no-such", "cuda:1\n", "0000:3b:00.8",
     "cuda:1,1", "cuda:1,", "virtual:tesla-p4×0"],
)  # fmt: skip
def test_what_names_nothing_is_refused_with_what_does(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RunConfig(device=text)
    assert refused.value.knob == "device"
    if text:
        assert "--device" in refused.value.message


def test_a_free_one_is_named_with_how_many() -> None:
    with pytest.raises(ConfigError) as refused:
        RunConfig(device="free:x")
    assert refused.value.message == "--device 'free:x' is not known: use free, free:N or free:shared."


def test_a_pci_address_compares_however_it_is_written() -> None:
    assert pci_address("3b:00.0") == pci_address("0000:3B:00.0") == pci_address("00000000:3b:00.0")
    assert pci_address("cuda:1") is None


def test_another_process_is_shown_the_card_that_this_one_means() -> None:
    """Under CUDA_VISIBLE_DEVICES=2,3 `cuda:1` is the card that CUDA_VISIBLE_DEVICES=3 shows."""
    assert visible_name(1, {"CUDA_VISIBLE_DEVICES": "2,3"}) == "3"
    assert visible_name(0, {"CUDA_VISIBLE_DEVICES": f" {UUID} , 3"}) == UUID
    assert visible_name(1, {}) == "1"
    assert visible_name(4, {"CUDA_VISIBLE_DEVICES": "2,3"}) == "4"


@pytest.mark.parametrize(
    ("values", "gpus"),
    [
        ({"device": "cuda:0,2,3"}, {"gpus": 3}),
        ({"device": "virtual:tesla-p4×2"}, {"gpus": 2}),
        ({"device": "free:4"}, {"gpus": 4}),
        ({"device": "cuda:1"}, {"gpus": 1}),
        ({"device": "cpu"}, {"gpus": 1}),
        ({"device": "cuda"}, {}),
        ({"device": "virtual:tesla-p4"}, {}),
        ({"device": "cuda:0,1", "gpus": "1"}, {}),
        ({"device": "cuda:0,0"}, {}),
        ({"device": 7}, {}),
        ({}, {}),
    ],
)
def test_whoever_names_gpus_takes_them_all_unless_they_say_how_many(
    values: dict[str, object], gpus: dict[str, int]
) -> None:
    assert gpus_of_device(values) == gpus


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("cuda:0,2,3", ["cuda:0,2,3"]),
        ("cuda:0, 2,cuda:1,3", ["cuda:0,2", "cuda:1,3"]),
        ("cpu,virtual:tesla-p4x2", ["cpu", "virtual:tesla-p4x2"]),
        ("cuda:0,cpu,1", ["cuda:0", "cpu", "1"]),
        (",", []),
    ],
)
def test_a_list_of_devices_keeps_the_gpus_of_one_together(text: str, devices: list[str]) -> None:
    assert device_list(text) == devices
