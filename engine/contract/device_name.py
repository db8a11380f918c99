"""What `--device` names: the CPU, a virtual GPU, a CUDA GPU by ordinal, UUID or PCI address, or free ones to choose.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.contract.knob import ConfigError

SPELLINGS = "auto, cpu, cuda, cuda:N, free, GPU-UUID, MIG-UUID, a PCI address or virtual:GPU"

_UUID = re.compile(r"(GPU-[0-9a-f][0-9a-f-]*|MIG-[0-9a-f][0-9a-f-]*|MIG-GPU-[0-9a-f][0-9a-f/-]*)", re.IGNORECASE)
"""`nvidia-smi -L` prints the first two; drivers before 470 name a MIG instance in the third way."""
_PCI = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceName:
    """One `--device`, read. Which of the fields are set depends on the kind."""

    kind: str
    """`auto`, `cpu`, `virtual` or `cuda`."""
    gpu: str = ""
    """Of a virtual one: its name in the catalogue."""
    index: int | None = None
    """Of a CUDA GPU: its ordinal; 0 where nothing else names it."""
    card: str = ""
    """Of a CUDA GPU: a UUID or enough of its beginning, or a PCI address as `pci_address` writes it."""
    free: bool = False
    """Whether a free GPU is to be chosen; else it is named."""
    shared: bool = False
    """Whether a card that another process computes on may be chosen too."""


def read_device(text: str) -> DeviceName:
    """What `text` names. Raises `ConfigError` where it names nothing; whether it is there is not asked."""
    kind, _, rest = text.partition(":")
    if kind == "virtual":
        return DeviceName(kind="virtual", gpu=_in_catalogue(text, rest))
    if text in ("auto", "cpu"):
        return DeviceName(kind=text)
    if kind == "cuda" and (not rest or (rest.isascii() and rest.isdecimal())) and text != "cuda:":
        return DeviceName(kind="cuda", index=int(rest[:9] or 0))
    if kind == "free" and text != "free:":
        if rest == "shared":
            return DeviceName(kind="cuda", free=True, shared=True)
        if rest in ("", "1"):
            return DeviceName(kind="cuda", free=True)
        if rest.isascii() and rest.isdecimal() and int(rest[:4]) > 1:
            raise ConfigError("device", f"--device {text} asks for several GPUs, and a run takes one: use free.")
        raise ConfigError("device", f"--device {text!r} is not known: use free or free:shared.")
    if _UUID.fullmatch(text):
        return DeviceName(kind="cuda", card=text)
    if address := pci_address(text):
        return DeviceName(kind="cuda", card=address)
    raise ConfigError("device", f"--device {text!r} is not known: use {SPELLINGS}.")


def _in_catalogue(text: str, name: str) -> str:
    from engine.gpus.catalogue import UnknownGpuError, find  # few configurations need it

    try:
        find(name)
    except UnknownGpuError as error:
        like = f"--device virtual:{error.nearest or 'ONE-LIKE-IT'} --vram-limit MIB"
        message = f"--device {text!r} is not known: {error} For a card that it lacks: {like}."
        raise ConfigError("device", message) from None
    return name


def pci_address(text: str) -> str | None:
    """A PCI address as NVML writes it, `00000000:3B:00.0`; None where `text` is none. Domain and function may lack."""
    found = _PCI.fullmatch(text)
    if found is None:
        return None
    domain, bus, device, function = found.groups()
    return f"{int(domain or '0', 16):08X}:{bus}:{device}.{function or 0}".upper()


def visible_name(index: int, environment: Mapping[str, str]) -> str:
    """What `CUDA_VISIBLE_DEVICES` is to hold so that another process sees this process's `cuda:index`, and it alone.

    An ordinal counts what the variable leaves, so under `2,3` the second one is 3. It counts in CUDA's order, which
    `CUDA_DEVICE_ORDER` sets for both processes alike.
    """
    entries = [entry.strip() for entry in environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return entries[index] if index < len(entries) and entries[index] else str(index)
