"""What `--device` names: the CPU, a virtual GPU, a CUDA GPU by ordinal, UUID or PCI address, or free ones to choose.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.contract.knob import ConfigError

SPELLINGS = "auto, cpu, cuda, cuda:N or cuda:N,M, free, GPU-UUID, MIG-UUID, a PCI address, virtual:GPU or virtual:GPU×N"

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
    indices: tuple[int, ...] = ()
    """Of several CUDA GPUs: their ordinals, in the order of the ranks."""
    count: int | None = None
    """How many GPUs it names; None where that is left open: `auto`, `cuda`, `free` and `virtual:GPU` take as many as
    are asked for."""

    @property
    def gpus(self) -> int:
        """The GPUs that a run takes on it, where nothing else was said."""
        return self.count or 1


def read_device(text: str) -> DeviceName:
    """What `text` names. Raises `ConfigError` where it names nothing; whether it is there is not asked."""
    kind, _, rest = text.partition(":")
    if kind == "virtual":
        gpu, times = _times(rest)
        if times is not None and times < 1:
            raise ConfigError(
                "device", f"--device {text!r} names no GPU: use virtual:{gpu}×2, or virtual:{gpu} for one."
            )
        return DeviceName(kind="virtual", gpu=_in_catalogue(text, gpu), count=times)
    if text in ("auto", "cpu"):
        return DeviceName(kind=text, count=1 if text == "cpu" else None)
    if kind == "cuda" and text != "cuda:":
        if not rest:
            return DeviceName(kind="cuda", index=0)
        ordinals = rest.split(",")
        if all(each.isascii() and each.isdecimal() for each in ordinals):
            return _ordinals(text, tuple(int(each[:9]) for each in ordinals))
    if kind == "free" and text != "free:":
        if rest == "shared":
            return DeviceName(kind="cuda", free=True, shared=True)
        if not rest:
            return DeviceName(kind="cuda", free=True)
        if rest.isascii() and rest.isdecimal() and int(rest[:4]) > 0:
            return DeviceName(kind="cuda", free=True, count=int(rest[:4]))
        raise ConfigError("device", f"--device {text!r} is not known: use free, free:N or free:shared.")
    if _UUID.fullmatch(text):
        return DeviceName(kind="cuda", card=text, count=1)
    if address := pci_address(text):
        return DeviceName(kind="cuda", card=address, count=1)
    raise ConfigError("device", f"--device {text!r} is not known: use {SPELLINGS}.")


def gpus_of_device(values: Mapping[str, object]) -> dict[str, int]:
    """`gpus`, where these knobs name a device and do not say how many of it: as many as it names, if it says that.

    Whoever names three cards wants three. A name that cannot be read is left to whoever refuses it.
    """
    if "gpus" in values or not isinstance(device := values.get("device"), str):
        return {}
    try:
        count = read_device(device).count
    except ConfigError:
        return {}
    return {} if count is None else {"gpus": count}


def device_list(text: str) -> list[str]:
    """Devices in a list with commas, where `cuda:0,2,3` is one of them."""
    devices: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if part.isdecimal() and devices and devices[-1].startswith("cuda:"):
            devices[-1] += f",{part}"
        elif part:
            devices.append(part)
    return devices


def _ordinals(text: str, ordinals: tuple[int, ...]) -> DeviceName:
    """CUDA GPUs by their numbers; one of them is named as it always was."""
    if len(ordinals) == 1:
        return DeviceName(kind="cuda", index=ordinals[0], count=1)
    if len(set(ordinals)) < len(ordinals):
        raise ConfigError("device", f"--device {text} names a GPU twice, and a rank needs one of its own.")
    return DeviceName(kind="cuda", index=ordinals[0], indices=ordinals, count=len(ordinals))


_TIMES = re.compile(r"(.+?)[x×](\d{1,4})", re.IGNORECASE)


def _times(name: str) -> tuple[str, int | None]:
    """A card and how many of it, `tesla-p4×2` or `tesla-p4x2`; None where that is not said, as in `rtx4090`."""
    found = _TIMES.fullmatch(name)
    return (name, None) if found is None or found[1].lower().endswith("rt") else (found[1], int(found[2]))


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
