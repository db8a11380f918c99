"""The card of a process that torchrun or srun started: they say which of its machine's it is to take."""

from __future__ import annotations

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import read_device
from engine.devices import visible
from engine.devices.base import Device
from engine.devices.open import DEFAULT_VIRTUAL_GPU
from engine.devices.several import open_rank
from engine.process.launched import Launched
from engine.telemetry.nvml import Nvml


def open_own(config: RunConfig, here: Launched, nvml: Nvml) -> Device:
    """This process's card. Raises `ConfigError` where it is not there."""
    return open_rank(own_card(config, here.local_rank), config, nvml)


def own_card(config: RunConfig, local_rank: int) -> str:
    """`cuda:1`, `virtual:tesla-p4`. Slurm may show a process none but its own. Raises `ConfigError` where it is not
    there.
    """
    name = read_device(config.device)
    if name.kind == "virtual":
        return f"virtual:{name.gpu}"
    if not visible.is_available(name):
        if name.kind == "auto":
            return f"virtual:{DEFAULT_VIRTUAL_GPU}"
        raise ConfigError("device", f"--device {config.device} cannot be used: PyTorch finds no CUDA GPU here.")
    n_shown = visible.count()
    if n_shown == 1:
        return "cuda:0"
    index = name.indices[local_rank] if local_rank < len(name.indices) else local_rank
    if index >= n_shown:
        raise ConfigError(
            "device",
            f"cuda:{index} is for local rank {local_rank}, and CUDA shows {n_shown} GPUs here: start as many processes "
            "on a machine as it has GPUs (torchrun --nproc-per-node gpu, srun --ntasks-per-node).",
        )
    return f"cuda:{index}"
