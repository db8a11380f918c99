"""torch.compile: the model's operators fused into fewer kernels, made at the first batch of each kind of shape."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.batching import is_padded
from engine.contract.config import ConfigError, RunConfig

if TYPE_CHECKING:
    import torch

    from engine.devices.base import Device

TRITON_CAPABILITY = (7, 0)
"""The oldest GPUs that Triton makes kernels for (torch/_inductor: `GPUTooOldForTriton`)."""


def apply(model: torch.nn.Module, config: RunConfig, n_samples: int) -> None:
    """Have the model's forward and backward compiled at its first call, on the device that it is on then.

    Where batches differ in shape, or the last of the `n_samples` make a smaller one, sizes are left open at once:
    PyTorch's own way, to compile for the first size and again at the second, would stop the run in its midst.
    """
    if config.torch_compile:
        lengths_vary = is_padded(config) and config.padding != "max_length"
        model.compile(dynamic=True if lengths_vary or n_samples % config.batch_size else None)


@contextmanager
def forgotten_after(config: RunConfig) -> Iterator[None]:
    """Around a run: what it compiled holds its tensors and would be found by the next one, so it is dropped."""
    try:
        yield
    finally:
        if config.torch_compile:
            import torch
            from torch._inductor.async_compile import shutdown_compile_workers

            torch.compiler.reset()
            shutdown_compile_workers()  # else these processes stay, with the run's output open


def refuse(config: RunConfig, device: Device) -> None:
    """Raise `ConfigError` where nothing can be compiled."""
    if not config.torch_compile:
        return
    if config.optimizer_in_backward:
        raise ConfigError(
            "optimizer_in_backward",
            "--optimizer-in-backward frees each gradient at once, but a compiled backward makes them all before the "
            "first can be used: use --torch-compile off or --optimizer-in-backward off.",
        )
    obstacle = _obstacle(device)
    if obstacle:
        raise ConfigError("torch_compile", f"--torch-compile {obstacle} or use --torch-compile off.")


def _obstacle(device: Device) -> str | None:
    """Why nothing can be compiled, and the way out but for switching it off."""
    kind, capability = device.info.kind, device.capability
    if kind == "virtual":
        return "hides the operators that a virtual GPU accounts for one by one: use --device cpu or cuda,"
    if kind == "cuda":
        if capability is not None and capability < TRITON_CAPABILITY:
            has = f"{device.info.name} has {capability[0]}.{capability[1]}"
            return f"needs a GPU of compute capability 7.0 or newer; {has}: use another GPU,"
        if find_spec("triton") is None:
            return "needs Triton, which is not installed: pip install triton,"
        return None if _found(os.environ.get("CC"), "gcc", "clang", "cc") else "needs a C compiler: install gcc,"
    if not _found(os.environ.get("CXX"), {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")):
        return "needs a C++ compiler: install g++ (clang++ on macOS) or set CXX to one,"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "needs Python's header files: install python3-dev,"
    return None


def _found(*commands: str | None) -> bool:
    """Whether the first command that is named, or one of those after it, exists."""
    return any(shutil.which(command) for command in commands if command)
