"""GPUs that the driver shows and PyTorch cannot use: why, and what would help."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch

from engine.contract.text import counted
from engine.telemetry.nvml import GpuInfo, Nvml

_VARIABLE = "CUDA_VISIBLE_DEVICES"
_NOTHING = ("", "-1", "NoDevFiles")
_INDEX = "https://download.pytorch.org/whl"
_BUILDS = ((13, "torch", "cu130"), (12, "torch", "cu126"), (11, "'torch<2.8'", "cu118"))
"""By the driver's CUDA: what to install from which index. A driver runs every minor version of its major one ("CUDA
minor version compatibility"); PyTorch 2.7 was the last with builds for CUDA 11."""


def unusable(nvml: Nvml) -> str | None:
    """A sentence on the GPUs that NVML shows and PyTorch cannot use; None where there are none. CUDA was asked."""
    if torch.cuda.is_available() or torch.version.hip is not None:
        return None
    gpus = nvml.gpus()
    if not gpus:
        return None
    visible = os.environ.get(_VARIABLE)
    if torch.version.cuda is not None and visible is not None and _names_none(visible, gpus):
        none, one = ("not the GPU", "it") if len(gpus) == 1 else (f"none of the {len(gpus)} GPUs", "one of them")
        return f"{_VARIABLE}={visible!r} names {none} that the driver shows: unset it or name {one}."
    why = reason(nvml.cuda_version(), torch.version.cuda, os.environ, many=len(gpus) > 1)
    return f"The driver shows {_named(gpus)}, but {why}"


def reason(driver_cuda: str | None, built_for: str | None, environment: Mapping[str, str], *, many: bool) -> str:
    """Why PyTorch uses no GPU, and the fix. `driver_cuda` is the newest CUDA that the driver runs."""
    them = "them" if many else "it"
    visible = environment.get(_VARIABLE)
    if visible is not None and _first(visible) in _NOTHING:
        return f"{_VARIABLE}={visible!r} hides {them} from this process."
    fix = _build_for(driver_cuda)
    if built_for is None:
        return f"this PyTorch is built without CUDA: {fix}."
    if driver_cuda is not None and _major(driver_cuda) < _major(built_for):
        return (
            f"PyTorch is built for CUDA {built_for}, and the driver runs CUDA up to {driver_cuda}: "
            f"update the driver, or {fix}."
        )
    return f"PyTorch (built for CUDA {built_for}) cannot use {them}: traintop doctor tells what was tried."


def _first(visible: str) -> str:
    """The first card that the variable names: CUDA shows those before the first that is not there."""
    return visible.split(",")[0].strip()


def _names_none(visible: str, gpus: Sequence[GpuInfo]) -> bool:
    """Whether the variable, which names something, names none of `gpus`. Of a slice, and of a UUID where NVML does not
    tell them all, that is not known."""
    first = _first(visible)
    if first in _NOTHING or first.startswith("MIG-"):
        return False
    if first.isdecimal():
        return int(first[:9]) >= len(gpus)
    return all(gpu.uuid is not None and not gpu.uuid.lower().startswith(first.lower()) for gpu in gpus)


def _build_for(driver_cuda: str | None) -> str:
    for major, package, build in _BUILDS:
        if driver_cuda is not None and _major(driver_cuda) >= major:
            command = f"pip install --force-reinstall {package} --index-url {_INDEX}/{build}"
            return f"for this driver (CUDA {driver_cuda}) run {command}"
    return "install a build for your driver's CUDA (https://pytorch.org/get-started/locally/)"


def _major(version: str) -> int:
    text = version.partition(".")[0]
    return int(text) if text.isdecimal() else 0


def _named(gpus: Sequence[GpuInfo]) -> str:
    text = counted(gpu.name or "GPU" for gpu in gpus)
    return f"{'a GPU' if len(gpus) == 1 else f'{len(gpus)} GPUs'} ({text})"
