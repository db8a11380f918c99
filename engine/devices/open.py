"""From a name to a device."""

from __future__ import annotations

from dataclasses import replace

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import DeviceName, read_device
from engine.devices.base import Device
from engine.telemetry.nvml import Nvml, door

DEFAULT_VIRTUAL_GPU = "tesla-p4"
"""The lecture's card."""


def open_device(config: RunConfig, nvml: Nvml | None = None, *, patient: bool = True) -> Device:
    """The device that `config.device` names; `auto` is the first CUDA GPU, else a virtual one. No context is made.

    For a free one see `cuda_index`. Raises `ConfigError` when it is not there.
    """
    from engine.devices.cpu import CpuDevice
    from engine.devices.cuda import CudaDevice
    from engine.devices.virtual import VirtualDevice

    name = read_device(config.device)
    if name.kind == "cpu":
        return CpuDevice()
    if name.kind == "virtual":
        return VirtualDevice(name.gpu, config)
    nvml = nvml or door()
    index = cuda_index(name, config.device, nvml, patient=patient)
    return VirtualDevice(DEFAULT_VIRTUAL_GPU, config) if index is None else CudaDevice(index, nvml, config.vram_limit)


def why_virtual(config: RunConfig, nvml: Nvml) -> str | None:
    """Why `auto` is a virtual GPU on a machine that has real ones; None where it has none, or where they are used."""
    from engine.devices.unusable import unusable

    return unusable(nvml) if read_device(config.device).kind == "auto" else None


def cuda_index(name: DeviceName, text: str, nvml: Nvml, *, patient: bool = True) -> int | None:
    """The ordinal of the CUDA GPU that `name`, written as `text`, means; None where `auto` is a virtual one.

    A free one is looked for over two seconds; where nothing is to run (not `patient`) one reading must do, and where
    none is free the emptiest is taken. Raises `ConfigError` when it is not there.
    """
    from engine.devices import free, visible

    if not shows_cards(name, text, nvml):
        return None
    if name.free:
        return free.choose(name, nvml) if patient else free.choose(replace(name, shared=True), nvml, n_readings=1)
    if name.card:
        return visible.ordinal_of(name.card, nvml)
    index, count = name.index or 0, visible.count()
    if index >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ConfigError("device", f"--device {text} is not there: use {there}.")
    return index


def shows_cards(name: DeviceName, text: str, nvml: Nvml) -> bool:
    """Whether PyTorch can use CUDA GPUs; False where `auto` is a virtual one.

    Raises `ConfigError` where `name`, written as `text`, asks for one all the same.
    """
    import torch

    from engine.devices import visible
    from engine.devices.unusable import unusable

    if name.card.startswith("MIG-"):
        visible.check_slice(name.card, nvml)  # before CUDA is told to show it
    if visible.is_available(name):
        return True
    if name.kind == "auto":
        return False
    why = unusable(nvml) or (
        "This PyTorch is built without CUDA." if torch.version.cuda is None else "PyTorch finds no CUDA GPU."
    )
    raise ConfigError("device", f"--device {text} cannot be used. {why} --device cpu always works.")
