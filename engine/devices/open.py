"""From a name to a device."""

from __future__ import annotations

from engine.contract.config import ConfigError, RunConfig
from engine.devices.base import Device

DEFAULT_VIRTUAL_GPU = "tesla-p4"
"""The lecture's card."""


def open_device(config: RunConfig) -> Device:
    """The device that `config.device` names; `auto` is the first CUDA GPU, else a virtual one.

    Raises `ConfigError` when it is not there.
    """
    import torch

    from engine.devices.cpu import CpuDevice
    from engine.devices.cuda import CudaDevice
    from engine.devices.virtual import VirtualDevice

    kind, _, ordinal = config.device.partition(":")
    available = torch.cuda.is_available()
    if kind == "cpu":
        return CpuDevice()
    if kind == "virtual" or (kind == "auto" and not available):
        return VirtualDevice(ordinal or DEFAULT_VIRTUAL_GPU, config)
    if not available:
        reason = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no CUDA GPU"
        raise ConfigError("device", f"--device {config.device} cannot be used: {reason}; use --device cpu.")
    index, count = int(ordinal or 0), torch.cuda.device_count()
    if index >= count:
        raise ConfigError("device", f"--device {config.device} is not there: use cuda:0 to cuda:{count - 1}.")
    return CudaDevice(index, config.vram_limit)
