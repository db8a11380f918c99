"""How attention is computed: what transformers is asked for, and flash, PyTorch's own with its flash kernel alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.contract.batching import is_padded, keeps_apart
from engine.contract.config import ConfigError, RunConfig
from engine.process import gate

if TYPE_CHECKING:
    import torch

    from engine.devices.base import Device

FLASH_CAPABILITY = (8, 0)
"""The oldest GPUs that PyTorch's flash kernel runs on (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)."""


@contextmanager
def kernel(config: RunConfig, device: Device) -> Iterator[None]:
    """Around a run: with `flash`, a process-wide switch, so that it also holds where backward computes again.

    A virtual GPU accounts for flash's memory while the CPU computes as it can.
    """
    if config.attention != "flash" or device.info.kind == "virtual":
        yield
        return
    with gate.attention_kernels("FLASH_ATTENTION"):
        yield


def implementation(config: RunConfig) -> str | None:
    """What transformers calls the configured attention; None: sdpa where the model has it, else eager."""
    return {"auto": None, "flash": "sdpa"}.get(config.attention, config.attention)


def note(model: torch.nn.Module, config: RunConfig) -> str | None:
    """One sentence on what `auto` took; None where the user chose."""
    if config.attention != "auto":
        return None
    settings: Any = model.config
    taken = settings.get_text_config()._attn_implementation
    why = "" if taken == "sdpa" else f", as {settings.model_type} has no sdpa in transformers"
    return f"Attention: {taken}{why} (--attention auto)."


def refuse(config: RunConfig, device: Device) -> None:
    """Raise `ConfigError` where the flash kernel does not exist."""
    if device.info.kind in ("cuda", "virtual"):
        refuse_on(config, device.info.name, device.capability)


def refuse_on(config: RunConfig, gpu: str, capability: tuple[int, int] | None) -> None:
    """The same of a GPU by its name, whether it is there or not; its capability may be unknown."""
    if config.attention != "flash":
        return
    problem = None
    if capability is not None and capability < FLASH_CAPABILITY:
        has = f"{capability[0]}.{capability[1]}"
        problem = f"needs a GPU of compute capability 8.0 or newer; {gpu} has {has}: use"
    elif config.computed_in in ("fp32", "tf32"):
        problem = f"computes in 16 bits and this run in {config.computed_in}: use --precision bf16, or"
    elif is_padded(config) or keeps_apart(config):
        problem = "knows no masks on a GPU, and padded or packed texts need them: use"
    elif config.answers and config.kv_cache == "static":
        problem = (
            "knows no masks on a GPU, and they hide what a static cache has not filled yet: use --kv-cache dynamic, or"
        )
    if problem:
        raise ConfigError("attention", f"--attention flash {problem} --attention sdpa.")


def check(model: torch.nn.Module, batch: dict[str, torch.Tensor], config: RunConfig, device: Device) -> None:
    """Raise `ConfigError` when the flash kernel cannot compute this model's attention, found out by trying.

    Dropout (on a CPU), a trained bias (T5) and large heads are beyond it. `batch` is on the host; one sample is
    enough. Call it inside `kernel`; the random generators are left as they were.
    """
    if config.attention != "flash" or device.info.kind == "virtual":
        return
    import torch

    from engine.devices.precision import Precision

    gpu = device.torch_device.type == "cuda"
    with (
        proven(config, device),
        torch.random.fork_rng([device.torch_device] if gpu else []),
        Precision(config.precision, device.torch_device.type).autocast(),
    ):
        model.train()(**device.place(batch))
    device.clean_up()  # what it left in the allocator's cache would be in the run's way


@contextmanager
def proven(config: RunConfig, device: Device) -> Iterator[None]:
    """Around the first forward: raises `ConfigError` where the flash kernel cannot compute this model's attention."""
    if config.attention != "flash" or device.info.kind == "virtual":
        yield
        return
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in ("No available kernel", "No viable backend")):
            raise
        drops = config.dropout and not config.answers and device.torch_device.type != "cuda"
        problem = (
            f"has no dropout on a CPU, and {config.model} may drop out in its attention: use --dropout off, or"
            if drops
            else f"has no kernel on this device for the attention of {config.model}: use"
        )
        raise ConfigError("attention", f"--attention flash {problem} --attention sdpa.") from None
